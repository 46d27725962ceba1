from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.api import Benchmark, Problem, SamplingSettings
from eval.context import capped, may_exceed
from eval.errors import DataError, ModelError

SETTINGS = SamplingSettings(num_samples=2, temperature=1.0, max_new_tokens=100, template="ict")


class Words:
    """A tokenizer of words, which are longer than the bytes they are counted by."""

    def encode(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        return self.encode_text(" ".join(one["content"] for one in messages))

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(range(len(text.split())))


def benchmark(*questions: str) -> Benchmark:
    problems = [Problem(id=text, question=text, answer="1", kind="integer") for text in questions]
    return Benchmark(name="few", problems=tuple(problems), digest="d")


@given(words=st.lists(st.integers(1, 60), min_size=1, max_size=5), context=st.integers(20, 300))
def test_prompt_and_response_fit_the_context_and_nothing_else_changes(words: list[int], context: int) -> None:
    questions = benchmark(*("w " * count for count in words))
    longest = max(words) + 12  # ICT's instruction
    if longest >= context:
        with pytest.raises(ModelError, match="longest prompt of few"):
            capped(questions, SETTINGS, context=context, encoder=Words())
        return
    found, line = capped(questions, SETTINGS, context=context, encoder=Words())
    assert found == replace(SETTINGS, max_new_tokens=min(100, context - longest))
    assert bool(line) == (found != SETTINGS)
    if line:
        assert may_exceed(questions, SETTINGS, context=context), "or nobody would have asked"


def test_a_long_context_needs_no_tokenizer() -> None:
    assert not may_exceed(benchmark("short"), SETTINGS, context=4096)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_p", 0.0),
        ("top_p", -1.0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("max_new_tokens", 0),
    ],
)
def test_settings_that_no_engine_can_draw_are_refused(name: str, value: float) -> None:
    with pytest.raises(DataError, match=name):
        replace(SETTINGS, **{name: value})
