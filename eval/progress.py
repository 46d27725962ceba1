"""How far an evaluation is: in all, and benchmark by benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkProgress:
    """How far one benchmark is."""

    benchmark: str
    num_done: int
    """Samples drawn and graded, the stored ones included."""
    num_total: int
    num_correct: int
    num_reused: int
    """Samples that were found in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalProgress:
    """How far an evaluation of several benchmarks is; they are sampled together."""

    parts: tuple[BenchmarkProgress, ...]
    elapsed_s: float

    @property
    def num_done(self) -> int:
        """Samples drawn and graded, the stored ones included."""
        return sum(part.num_done for part in self.parts)

    @property
    def num_total(self) -> int:
        """Samples wanted."""
        return sum(part.num_total for part in self.parts)

    @property
    def num_correct(self) -> int:
        """Samples that are right."""
        return sum(part.num_correct for part in self.parts)

    @property
    def num_reused(self) -> int:
        """Samples that were found in a store."""
        return sum(part.num_reused for part in self.parts)

    @property
    def samples_per_s(self) -> float:
        """New samples a second in this call; 0 before the first."""
        return (self.num_done - self.num_reused) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present rate, or None before the first new sample."""
        rate = self.samples_per_s
        return (self.num_total - self.num_done) / rate if rate > 0 else None
