from __future__ import annotations

from collections.abc import Sequence

import pytest

from eval.api import Problem
from eval.errors import DataError
from trainers.prompts import PromptOrder


class Letters:
    """One token a character."""

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return self.encode_text(messages[-1]["content"])

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


def problems(*questions: str) -> list[Problem]:
    return [
        Problem(id=f"p{row}", question=question, answer="1", kind="integer") for row, question in enumerate(questions)
    ]


def order(count: int = 10, *, seed: int = 0, max_tokens: int = 9) -> PromptOrder:
    rows = problems(*(str(row) for row in range(count)))
    return PromptOrder(rows, template="chat", encoder=Letters(), max_tokens=max_tokens, seed=seed)


def ids(prompts: PromptOrder, position: int, count: int) -> list[str]:
    return [prompt.problem.id for prompt in prompts.take(position, count)[0]]


def test_every_epoch_shows_each_prompt_once_in_an_order_of_its_own() -> None:
    epochs = [ids(order(), 10 * epoch, 10) for epoch in range(3)]
    assert all(sorted(epoch) == [f"p{row}" for row in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert ids(order(seed=1), 0, 10) != epochs[0]


def test_a_position_alone_resumes_the_order() -> None:
    whole, end = order().take(0, 25)
    assert end == 25
    assert [prompt.position for prompt in whole] == list(range(25))
    for position in (3, 9, 10, 17):
        assert order().take(position, 5)[0] == whole[position : position + 5]


def test_prompts_that_are_too_long_are_passed_over_and_keep_their_place() -> None:
    rows = problems("1", "22", "333", "4444", "5")
    short = PromptOrder(rows, template="chat", encoder=Letters(), max_tokens=2, seed=3)
    taken, end = short.take(0, 6)
    assert {prompt.problem.question for prompt in taken} == {"1", "22", "5"}
    assert 8 <= end <= 10
    again, _ = short.take(taken[3].position, 3)
    assert again == taken[3:]


def test_a_set_without_a_short_enough_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 3 training prompts fits into 1 tokens"):
        PromptOrder(problems("11", "22", "33"), template="chat", encoder=Letters(), max_tokens=1, seed=0).take(0, 1)
