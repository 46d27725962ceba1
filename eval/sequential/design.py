"""When a group-sequential design looks, and what may go wrong how often; what follows from it stands in `boundaries`.

Plain data that an experiment file is checked against, so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """When to look, and what may go wrong how often."""

    at_least: int
    """Seeds an arm at the first look."""
    at_most: int
    """Seeds an arm at the last look."""
    alpha: float
    """Chance of any benefit or harm where there is no difference."""
    effect: float
    """Smallest difference worth finding, as a fraction."""

    @property
    def times(self) -> tuple[float, ...]:
        """T of every look."""
        return tuple(count / self.at_most for count in range(self.at_least, self.at_most + 1))

    def shared_by(self, num_contrasts: int) -> Design:
        """The design of one of so many contrasts, which share α equally (Bonferroni)."""
        return replace(self, alpha=self.alpha / max(num_contrasts, 1))
