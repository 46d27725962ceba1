"""Seeds until decided against as many seeds for everybody: how often wrong, how often right, and what is spared.

Simulated sweeps of two arms, by `eval.seed_model` and `eval.sequential` as a sweep calls them. Prints a markdown
table; it stands in docs/evaluation.md#seeds-until-decided.

    python benchmarks/bench_until_decided.py [REPETITIONS] [WORLD…]
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "eval" / "fakes"))

from simulated_arms import World, difference, looks, p_values

from eval.sequential.design import Design
from eval.sequential.judge import Judgement, judge

DESIGN = Design(at_least=3, at_most=10, alpha=0.05, effect=0.0)
WORLDS: Mapping[str, World] = {
    "30 × 16, seeds alike": World(num_questions=30, num_samples=16),
    "30 × 16, seeds .25 shared": World(num_questions=30, num_samples=16, seed_sd=0.25, is_shared=True),
    "500 × 4, seeds alike": World(num_questions=500, num_samples=4),
    "500 × 4, seeds .25": World(num_questions=500, num_samples=4, seed_sd=0.25),
    "500 × 16, seeds .25 shared": World(num_questions=500, num_samples=16, seed_sd=0.25, is_shared=True),
}
"""Questions × samples, and by how many logits seeds differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of many simulated sweeps."""

    judgements: tuple[Judgement, ...]
    is_found_at_most: float
    """Share significant at 5 % with `at_most` seeds for everybody."""
    truth: float

    def share(self, *verdicts: str) -> float:
        """Share of sweeps that ended so."""
        return sum(one.verdict in verdicts for one in self.judgements) / len(self.judgements)

    @property
    def mean_seeds(self) -> float:
        """Seeds an arm."""
        return DESIGN.at_least - 1 + float(np.mean([one.look for one in self.judgements]))


def simulate(world: World, design: Design, repetitions: int, seed: int) -> Result:
    """Draw sweeps, look at them seed by seed."""
    first, second = world.draw(np.random.default_rng(seed), num_seeds=design.at_most, repetitions=repetitions)
    whole = difference(first, second)
    return Result(
        judgements=tuple(judge(one, design) for one in looks(first, second, design)),
        is_found_at_most=float((p_values(whole) < design.alpha).mean()),
        truth=float(whole.value.mean()) if world.effect else 0.0,
    )


def effect_of(world: World) -> tuple[float, float]:
    """A difference that `at_most` seeds find with about 80 % power: in logits, and as a fraction."""
    trial = replace(world, effect=0.2)
    found = difference(*trial.draw(np.random.default_rng(1), num_seeds=DESIGN.at_most, repetitions=200))
    error, degrees = float(np.sqrt(found.variance.mean())), float(np.median(found.degrees))
    detectable = (stdtrit(degrees, 0.975) + stdtrit(degrees, 0.8)) * error
    return 0.2 * detectable / float(found.value.mean()), detectable


def main(repetitions: int, names: list[str]) -> None:
    print("| questions × samples | truth | benefit | harm | futile | undecided | of 10 seeds | seeds an arm | spared |")
    print("|---|---|---|---|---|---|---|---|---|")
    started = time.perf_counter()
    for name in names:
        world = WORLDS[name]
        logits, effect = effect_of(world)
        design = replace(DESIGN, effect=effect)
        for label, true in (("no difference", 0.0), ("effect", logits), ("twice the effect", 2 * logits)):
            found = simulate(replace(world, effect=true), design, repetitions, seed=7)
            shares = [found.share(one) for one in ("benefit", "harm", "futile", "undecided")]
            spared = 1 - found.mean_seeds / design.at_most
            print(
                f"| {name} | {label} ({100 * found.truth:.1f}) | {' | '.join(f'{100 * one:.1f}' for one in shares)} "
                f"| {100 * found.is_found_at_most:.1f} | {found.mean_seeds:.1f} | {100 * spared:.0f} % |",
                flush=True,
            )
    print(f"\n{repetitions} sweeps a row, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, sys.argv[2:] or [*WORLDS])
