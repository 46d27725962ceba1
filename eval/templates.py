"""Prompt templates: how a question becomes the tokens a model is given. Source: docs/papers.md#prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from eval.api import Problem
from eval.errors import DataError, did_you_mean

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."


class PromptEncoder(Protocol):
    """What rendering needs of a `Sampler`."""

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Prompt tokens of a chat, with the generation prompt appended."""

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Prompt tokens of a raw text prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A chat (system and user turn) or, with `is_raw`, a text without any chat markup."""

    name: str
    user: str
    """User turn, or the whole text; `{question}` stands for the question."""
    system: str | None = None
    is_raw: bool = False
    summary: str


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template(name="chat", user="{question}", summary="the bare question as a user turn"),
        Template(name="plain", user="{question}\n", is_raw=True, summary="the bare question, no chat markup"),
        Template(
            name="qwen-math",
            system=INSTRUCTION,
            user="{question}",
            summary="Qwen2.5-Math and GMTS: the instruction as system turn",
        ),
        Template(name="ict", user="{question} " + INSTRUCTION, summary="ICT: the instruction in the user turn"),
        Template(
            name="80/20",
            user="User:\n{question}\n" + INSTRUCTION + "\n\nAssistant:\n",
            is_raw=True,
            summary="ETS (80/20 paper): raw text with User and Assistant lines",
        ),
    )
}
_ALIASES = {"eighty-twenty": "80/20"}


def template(name: str) -> Template:
    """Return a template by its name or alias.

    Raises:
        DataError: no such template.
    """
    found = TEMPLATES.get(_ALIASES.get(name, name))
    if found is None:
        known = [*TEMPLATES, *_ALIASES]
        fix = f"{did_you_mean(name, known)}known: {', '.join(known)}"
        raise DataError(f"unknown prompt template {name!r}", fix=fix)
    return found


def messages(name: str, question: str) -> list[dict[str, str]]:
    """Return the chat turns of a question; a raw template gives one user turn with its whole text."""
    chosen = template(name)
    system = [{"role": "system", "content": chosen.system}] if chosen.system else []
    return [*system, {"role": "user", "content": _fill(chosen, question)}]


def question_text(problem: Problem) -> str:
    """Return what the model reads: the question, and for multiple choice the lettered options."""
    if not problem.choices:
        return problem.question
    options = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCDEFGHIJ", problem.choices, strict=False))
    return f"{problem.question}\n{options}\nAnswer with the letter of the correct option."


def render(name: str, problem: Problem, encoder: PromptEncoder) -> tuple[int, ...]:
    """Return the prompt tokens of a problem under a template.

    Raises:
        DataError: no such template.
        ModelError: a chat template is asked for and the tokenizer has none (raised by the encoder).
    """
    chosen, question = template(name), question_text(problem)
    if chosen.is_raw:
        return tuple(encoder.encode_text(_fill(chosen, question)))
    return tuple(encoder.encode(messages(name, question)))


def _fill(chosen: Template, question: str) -> str:
    # Not str.format: questions are full of braces.
    return chosen.user.replace("{question}", question)
