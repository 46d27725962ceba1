"""Which printed percentages can be k right answers out of n questions × K samples × seeds at all.

A score printed as 15.33 over 30 questions and 16 samples would need 73.6 right answers of 480. For every score the
grid of possible values is finite; where it is coarser than the printed digits, a number can fall between its points.
pass@k of exactly k samples counts questions; more samples make its grid too fine to tell.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import yaml

from dashboards.papers.claims import rounding_error
from dashboards.papers.finding import Finding, ScoreCell, finding, score_cells
from dashboards.papers.published import Column, Papers, PublishedTable, Sampling

MAX_SAMPLES = 64
MAX_QUESTIONS = 120
CONVINCING = 1e-3
"""A number of questions is told as explanation when random numbers fit any of those tried with at most this chance."""
MAX_CHANCE = 0.1
"""A number of samples is told when random numbers in place of the impossible ones fit it with at most this chance."""


def find_impossible_scores(papers: Papers) -> list[Finding]:
    """Find scores that no size of their benchmark gives, and what would explain them."""
    findings = []
    for table in papers.values():
        if table.sampling is None:
            continue
        columns: dict[tuple[str | None, str | None], list[ScoreCell]] = defaultdict(list)
        rows: dict[str, list[ScoreCell]] = defaultdict(list)
        for cell in score_cells([table]):
            columns[cell.row.arm.model, cell.column.benchmark].append(cell)
            rows[cell.row.id].append(cell)
        findings += [found for group in columns.values() if (found := _size_finding(table, table.sampling, group))]
        findings += [found for group in rows.values() if (found := _samples_finding(table, table.sampling, group))]
    return findings


def find_too_few_seeds(papers: Papers) -> list[Finding]:
    """Find tables said to be means over seeds whose scores all lie on the coarser grid of a single seed."""
    findings = []
    for table in papers.values():
        if table.sampling is None or table.sampling.seeds < 2:
            continue
        single = replace(table.sampling, seeds=1)
        fits, chances = 0, []
        for cell in score_cells([table]):
            chance = _coverage(cell, single) / _coverage(cell, table.sampling)
            if cell.value == 0 or chance > 0.5 or not _is_possible_at_any_size(cell, table.sampling):
                continue
            fits += _is_possible_at_any_size(cell, single)
            chances.append(chance)
        probability = at_least(fits, chances)
        if probability < CONVINCING:
            message = (
                f"{fits} of {len(chances)} scores whose grid can tell are possible with one seed, though they are "
                f"said to be means over {table.sampling.seeds}; by chance {sum(chances):.1f} would be "
                f"(p {probability:.0e})"
            )
            findings.append(finding("seeds", table, message))
    return findings


def is_possible(printed: Decimal, total: int) -> bool:
    """Say whether k/total for some whole k can be printed as this percentage.

    Generous: a last digit may have been rounded or cut off, and the score of each pass rounded before their mean.
    """
    half = rounding_error(printed)
    return math.ceil((printed - 2 * half) * total / 100) < (printed + 3 * half) * total / 100


def num_trials(column: Column, num_questions: int, sampling: Sampling) -> int:
    """Return the denominator of a score: answers counted, or for pass@k questions counted."""
    kind, _, k = column.metric.partition("@")
    if kind == "pass" and int(k) > 1:
        return num_questions * math.comb(sampling.num_samples, int(k)) * sampling.seeds
    return num_questions * sampling.num_samples * sampling.seeds


def at_least(count: int, chances: Sequence[float]) -> float:
    """Return the probability that at least `count` of independent events with these chances happen."""
    distribution = [1.0]
    for chance in chances:
        stay = [probability * (1 - chance) for probability in [*distribution, 0.0]]
        rise = [probability * chance for probability in [0.0, *distribution]]
        distribution = [a + b for a, b in zip(stay, rise, strict=True)]
    return sum(distribution[count:])


@cache
def benchmark_sizes() -> dict[str, tuple[int, ...]]:
    """Return the sizes in circulation, the usual one first."""
    payload = yaml.safe_load((Path(__file__).parent / "benchmarks.yaml").read_text(encoding="utf-8"))
    return {name: tuple(sizes) for name, sizes in payload.items()}


def _sizes(cell: ScoreCell) -> tuple[int, ...]:
    assert cell.column.benchmark is not None
    return benchmark_sizes()[cell.column.benchmark]


def _is_possible_at_any_size(cell: ScoreCell, sampling: Sampling) -> bool:
    return any(is_possible(cell.value, num_trials(cell.column, size, sampling)) for size in _sizes(cell))


def _coverage(cell: ScoreCell, sampling: Sampling, sizes: Sequence[int] = ()) -> float:
    """Share of printable numbers that are possible: `is_possible` accepts 2.5 units about each point of the grid."""
    points = sum(num_trials(cell.column, size, sampling) for size in sizes or _sizes(cell))
    return min(1.0, 2.5 * points * float(2 * rounding_error(cell.value)) / 100)


def _size_finding(table: PublishedTable, sampling: Sampling, group: Sequence[ScoreCell]) -> Finding | None:
    """Tell the impossible scores of one model on one benchmark, and the number of questions that they fit."""
    missed = [cell for cell in group if not _is_possible_at_any_size(cell, sampling)]
    if not missed:
        return None
    seeds = f" × {sampling.seeds} seeds" if sampling.seeds > 1 else ""
    numbers = ", ".join(f"{cell.text} ({cell.row.label})" for cell in missed)
    questions = " or ".join(map(str, _sizes(group[0])))
    message = (
        f"{len(missed)} of {len(group)} scores are no whole number of right answers to "
        f"{questions} questions × {sampling.num_samples} samples{seeds}: {numbers}"
    )
    if explanation := _other_size(sampling, group, missed):
        message += f"; {explanation}"
    labels = " / ".join(dict.fromkeys(cell.column.label for cell in missed))
    place = f"{table.place()} · {group[0].row.arm.model} · {labels}"
    rows, columns = (cell.row.id for cell in missed), (cell.column.id for cell in missed)
    return finding("denominator", table, message, place=place, rows=rows, columns=columns)


def _other_size(sampling: Sampling, group: Sequence[ScoreCell], missed: Sequence[ScoreCell]) -> str | None:
    """Find the number of questions that the scores are multiples of, if chance would not do as well."""
    single = replace(sampling, seeds=1)
    nonzero = [cell for cell in group if cell.value]
    best, best_size, fitting = 1.0, 0, list[ScoreCell]()
    for size in range(1, MAX_QUESTIONS + 1):
        fits = [cell for cell in nonzero if is_possible(cell.value, num_trials(cell.column, size, single))]
        probability = at_least(len(fits), [_coverage(cell, single, [size]) for cell in nonzero])
        if probability < best and 2 * sum(cell in fits for cell in missed) >= len(missed):
            best, best_size, fitting = probability, size, fits
    if best * MAX_QUESTIONS > CONVINCING or len({cell.text for cell in fitting if cell in missed}) < 2:
        return None
    return (
        f"{len(fitting)} of the {len(nonzero)} that are not 0 fit {best_size} questions × {sampling.num_samples} "
        f"samples, one seed ({', '.join(dict.fromkeys(cell.text for cell in fitting))})"
    )


def _samples_finding(table: PublishedTable, sampling: Sampling, row: Sequence[ScoreCell]) -> Finding | None:
    """Tell the numbers of samples that make every score of a row possible, where the stated one does not."""
    missed = [cell for cell in row if not _is_possible_at_any_size(cell, sampling)]
    fitting = []
    for num_samples in range(1, MAX_SAMPLES + 1):
        other = replace(sampling, num_samples=num_samples)
        if any(num_trials(cell.column, 1, other) == 0 for cell in row):
            continue
        chance = math.prod(_coverage(cell, other) for cell in missed)
        if chance < MAX_CHANCE and all(_is_possible_at_any_size(cell, other) for cell in row):
            fitting.append(num_samples)
    if not missed or not fitting:
        return None
    numbers = ", ".join(f"{cell.column.label} {cell.text}" for cell in missed)
    message = f"{numbers}: not with K = {sampling.num_samples}, but with K = {' or '.join(map(str, fitting))}"
    own, columns = row[0].row, (cell.column.id for cell in missed)
    return finding("denominator", table, message, place=table.place(own), rows=[own.id], columns=columns)
