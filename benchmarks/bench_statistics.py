"""How often is what is printed wrong, and how often does it find what is there? Simulated worlds, beside other ways.

Prints three markdown tables: the share of "different at 5 %" where nothing differs; the share found where something
does, with the coverage of the 95 % interval; the coverage of the interval of one average. They stand in
docs/evaluation.md#how-good-the-errors-are.

    python benchmarks/bench_statistics.py [REPETITIONS]
"""

import sys
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "eval" / "fakes"))

from simulated_arms import World, difference, p_values

from eval.stats import interval

SEEDS = (2, 3, 5, 10)
BATCH = 250
"""Repetitions drawn at once: what bounds the memory."""
KINDS: Mapping[str, dict[str, float | bool]] = {
    "none": {},
    ".25": {"seed_sd": 0.25},
    ".25, shared": {"seed_sd": 0.25, "is_shared": True},
    ".25, questions .5": {"seed_sd": 0.25, "question_sd": 0.5},
}
"""What differs between runs, standard deviations in logits."""
DIFFICULTIES = ((0.8, 1.6), (2.0, 2.0), (0.3, 3.0), (3.0, 0.5), (0.2, 2.0), (0.1, 2.0), (0.05, 2.0), (2.0, 0.05))
"""Beta distributions of the chances of 30 questions; the last three have averages of 2 to 5 % and 98 %."""
Rates = NDArray[np.float64]


def naive(first: Rates, second: Rates, num_samples: int) -> Rates:
    """All samples independent of one another."""
    count = first.shape[1] * first.shape[2] * num_samples
    means = first.mean(axis=(1, 2)), second.mean(axis=(1, 2))
    return _p(means[0] - means[1], sum(mean * (1 - mean) for mean in means) / count, np.inf)


def clustered(first: Rates, second: Rates, num_samples: int) -> Rates:
    """Paired by question alone."""
    of_question = (first - second).mean(axis=1)
    count = of_question.shape[1]
    return _p(of_question.mean(axis=1), of_question.var(axis=1, ddof=1) / count, count - 1)


def old_bootstrap(first: Rates, second: Rates, num_samples: int) -> Rates:
    """Until now: from three seeds on the larger of `clustered` and a bootstrap of seeds, questions and samples.

    Its expectation over resamples, in closed form.
    """
    num_seeds, count = first.shape[1:]
    of_question = (first - second).mean(axis=1)
    variance = of_question.var(axis=1, ddof=1) / count
    if num_seeds < 3:
        return _p(of_question.mean(axis=1), variance, count - 1)
    bootstrap = of_question.var(axis=1) / count
    for rates in (first, second):
        of_seed = rates.mean(axis=2)
        rest = rates - of_seed[:, :, None] - rates.mean(axis=1)[:, None] + rates.mean(axis=(1, 2))[:, None, None]
        samples = (rates * (1 - rates)).mean(axis=(1, 2)) / num_samples
        bootstrap += of_seed.var(axis=1) / num_seeds + ((rest**2).mean(axis=(1, 2)) + samples) / (num_seeds * count)
    return _p(of_question.mean(axis=1), np.maximum(variance, bootstrap), min(count - 1, 2 * num_seeds - 2))


def paired_t(first: Rates, second: Rates, num_samples: int) -> Rates:
    """Student's t over the seeds' means: the questions count as fixed."""
    of_seed = (first - second).mean(axis=2)
    return _p(of_seed.mean(axis=1), of_seed.var(axis=1, ddof=1) / of_seed.shape[1], of_seed.shape[1] - 1)


OTHERS: Mapping[str, Callable[[Rates, Rates, int], Rates]] = {
    "independent": naive,
    "clustered": clustered,
    "old bootstrap": old_bootstrap,
    "t of seeds": paired_t,
}


def simulate(world: World, num_seeds: int, repetitions: int, seed: int) -> dict[str, float]:
    """Share significant by each way, of an oracle that knows the variance, and coverage of our interval."""
    generator = np.random.default_rng(seed)
    found: dict[str, list[Rates]] = {name: [] for name in ("ours", *OTHERS, "value", "margin")}
    for _ in range(repetitions // BATCH):
        first, second = world.draw(generator, num_seeds=num_seeds, repetitions=BATCH)
        ours = difference(first, second)
        found["ours"].append(p_values(ours) < 0.05)
        found["value"].append(ours.value)
        found["margin"].append(stdtrit(ours.degrees, 0.975) * np.sqrt(ours.variance))
        for name, way in OTHERS.items():
            found[name].append(way(first, second, world.num_samples) < 0.05)
    every = {name: np.concatenate(parts) for name, parts in found.items()}
    value, margin = every.pop("value"), every.pop("margin")
    shares = {name: float(share.mean()) for name, share in every.items()}
    truth = value.mean() if world.effect else 0.0
    covered = float((np.abs(value - truth) <= margin).mean())
    known = float((np.abs(value) > stdtrit(1e9, 0.975) * value.std()).mean())
    return shares | {"known variance": known, "coverage": covered, "difference": float(value.mean())}


def type_one(repetitions: int) -> None:
    print(
        "| questions × samples | seeds differ by | ours, 2 3 5 10 seeds | independent | clustered | old bootstrap "
        "| t of seeds |"
    )
    print("|---|---|---|---|---|---|---|")
    for (n, k), (kind, options) in product(product((30, 500), (1, 4, 16)), KINDS.items()):
        world = World(num_questions=n, num_samples=k, **options)  # type: ignore[arg-type]
        rows = [simulate(world, count, repetitions, seed=1000 * place + n + k) for place, count in enumerate(SEEDS)]
        cells = [" ".join(_percent(row[name]) for row in rows) for name in ("ours", *OTHERS)]
        print(f"| {n} × {k} | {kind} | {' | '.join(cells)} |", flush=True)


def power(repetitions: int) -> None:
    print(
        "| questions × samples | seeds differ by | difference | ours, 2 3 5 10 seeds | known variance | old bootstrap "
        "| t of seeds | coverage |"
    )
    print("|---|---|---|---|---|---|---|---|")
    cases = {(30, 16): 0.36, (500, 4): 0.12, (500, 16): 0.25}
    for ((n, k), effect), (kind, options) in product(cases.items(), KINDS.items()):
        world = World(num_questions=n, num_samples=k, effect=effect, **options)  # type: ignore[arg-type]
        rows = [simulate(world, count, repetitions, seed=1000 * place + n + k) for place, count in enumerate(SEEDS)]
        names = ("ours", "known variance", "old bootstrap", "t of seeds", "coverage")
        cells = [" ".join(_percent(row[name]) for row in rows) for name in names]
        print(f"| {n} × {k} | {kind} | {100 * rows[-1]['difference']:.1f} | {' | '.join(cells)} |", flush=True)


def averages(repetitions: int) -> None:
    print("| chances of the questions | average | K = 4 | K = 16 | K = 64 |")
    print("|---|---|---|---|---|")
    for first, second in DIFFICULTIES:
        truth = first / (first + second)
        shares = []
        for num_samples in (4, 16, 64):
            generator = np.random.default_rng(num_samples)
            chances = generator.beta(first, second, size=(repetitions, 30))
            rates = generator.binomial(num_samples, chances) / num_samples
            found = [interval({str(q): (rate,) for q, rate in enumerate(row)}) for row in rates]
            shares.append(sum(one.low <= truth <= one.high for one in found) / repetitions)
        print(f"| Beta({first:g}, {second:g}) | {100 * truth:.0f} | {' | '.join(map(_percent, shares))} |", flush=True)


def _p(value: Rates, variance: Rates, degrees: float) -> Rates:
    error = np.sqrt(np.where(variance > 0, variance, np.inf))
    return np.asarray(2 * stdtr(min(degrees, 1e9), -np.abs(value) / error))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    started = time.perf_counter()
    print(f"Share called different at 5 % where nothing differs, percent, {repetitions} repetitions\n")
    type_one(repetitions)
    print("\nShare found where something differs, percent\n")
    power(repetitions)
    print("\nShare of 95 % intervals of one average that hold the truth, percent\n")
    averages(repetitions)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
