"""Which prompt comes next: a permutation of the training set per epoch, so that a position alone resumes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.api import Problem
from eval.errors import DataError
from eval.seeds import derive_seed
from eval.templates import PromptEncoder, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A training problem at its place in the data order."""

    position: int
    """Place in the endless order: names the prompt, also when a later epoch brings it again."""
    problem: Problem
    tokens: tuple[int, ...]


class PromptOrder:
    """An endless sequence of prompts, a pure function of (problems, seed)."""

    def __init__(
        self, problems: Sequence[Problem], *, template: str, encoder: PromptEncoder, max_tokens: int, seed: int
    ) -> None:
        """Order a training set.

        Args:
            problems: at least one.
            template: a name of `eval.templates`.
            encoder: turns a rendered prompt into tokens.
            max_tokens: longer prompts are passed over.
            seed: the run's seed.
        """
        self._problems, self._template, self._encoder = problems, template, encoder
        self._max_tokens, self._seed = max_tokens, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def take(self, position: int, count: int) -> tuple[list[Prompt], int]:
        """Return the next `count` prompts from `position` on, and the position after them.

        Raises:
            DataError: a whole epoch has no prompt that is short enough.
        """
        taken: list[Prompt] = []
        num_passed_over = 0
        while len(taken) < count:
            problem = self._problem_at(position)
            tokens = render(self._template, problem, self._encoder)
            if len(tokens) <= self._max_tokens:
                taken.append(Prompt(position=position, problem=problem, tokens=tokens))
                num_passed_over = 0
            else:
                num_passed_over += 1
            if num_passed_over >= len(self._problems):
                raise DataError(
                    f"none of the {len(self._problems)} training prompts fits into {self._max_tokens} tokens",
                    where="data.max_prompt_tokens",
                    fix="raise data.max_prompt_tokens, or choose a shorter template",
                )
            position += 1
        return taken, position

    def _problem_at(self, position: int) -> Problem:
        epoch, place = divmod(position, len(self._problems))
        if epoch != self._epoch:
            generator = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "data order", epoch)))
            self._epoch, self._permutation = epoch, generator.permutation(len(self._problems))
        return self._problems[int(self._permutation[place])]
