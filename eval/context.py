"""How many new tokens a model's context leaves to the longest prompt of a benchmark.

All questions of a benchmark get the same limit, and the whole benchmark decides it, so that the first questions of it
(`--limit`) are drawn as they are among all.
"""

from __future__ import annotations

from dataclasses import replace

from eval.api import Benchmark, SamplingSettings
from eval.errors import ModelError
from eval.templates import PromptEncoder, question_text, render, template

_MARKUP_BYTES = 512
"""More than any template of ours and any chat template put around a question."""


def may_exceed(benchmark: Benchmark, settings: SamplingSettings, *, context: int) -> bool:
    """Whether a prompt with its response might not fit, by bytes: no token is shorter than one."""
    chosen = template(settings.template)
    markup = len((chosen.system or "").encode()) + len(chosen.user.encode()) + _MARKUP_BYTES
    longest = max(len(question_text(problem).encode()) for problem in benchmark.problems)
    return longest + markup + settings.max_new_tokens > context


def capped(
    benchmark: Benchmark, settings: SamplingSettings, *, context: int, encoder: PromptEncoder
) -> tuple[SamplingSettings, str]:
    """Return the settings with no more new tokens than the context leaves, and a line that says so, or none.

    Args:
        benchmark: the whole of it.
        settings: with the length that the benchmark asks for.
        context: most tokens of a prompt with its response.
        encoder: the model's own.

    Raises:
        ModelError: the longest prompt fills the context.
    """
    longest = max(len(render(settings.template, problem, encoder)) for problem in benchmark.problems)
    left = context - longest
    if left >= settings.max_new_tokens:
        return settings, ""
    if left < 1:
        raise ModelError(
            f"the longest prompt of {benchmark.name} has {longest} tokens, and the model's context {context}",
            where=f"--bench {benchmark.name}",
            fix="evaluate a model with a longer context, or another benchmark",
        )
    line = (
        f"{benchmark.name}: at most {left:,} new tokens, not {settings.max_new_tokens:,}: the model's context of "
        f"{context:,} less the longest prompt's {longest:,}"
    )
    return replace(settings, max_new_tokens=left), line
