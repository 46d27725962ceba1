"""The errors a user can fix, for every package; `orchestrator/errors.py` draws the whole tree.

They live here because `eval` is the lowest layer of the import rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class OrchError(Exception):
    """Something a user can fix: what happened, where (file and key, trial and log), and what to do next."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        """Keep the three parts apart so that the command line can lay them out.

        Args:
            what: what is wrong, in one sentence.
            where: the file and key, or the trial and its log.
            fix: the next thing to do: valid choices, a command, a setting.
        """
        self.what, self.where, self.fix = what, where, fix
        super().__init__(
            "\n".join(part for part in (what, where and f"  at: {where}", fix and f"  fix: {fix}") if part)
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling across Ray and worker processes (keyword-only arguments do not by default)."""
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[OrchError], what: str, where: str, fix: str) -> OrchError:
    return kind(what, where=where, fix=fix)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Offer the nearest of the known names, in words that a fix begins with; nothing where none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


class DataError(OrchError):
    """A benchmark or training set is missing, malformed, or not the one that its declaration names."""


class ModelError(OrchError):
    """A model folder is missing, incomplete, or does not fit what is asked of it."""


class EngineError(OrchError):
    """A sampling engine cannot start or stopped answering."""

    exit_code = 1


class EndpointError(EngineError):
    """An endpoint cannot be used as it was named: unreachable from the start, no permission, or another model there."""

    exit_code = 2
