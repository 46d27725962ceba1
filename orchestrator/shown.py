"""Which of a trial's scores an experiment shows: those it asked for, of regraded ones the latest."""

from __future__ import annotations

from pathlib import Path

from orchestrator.record import RunRecord, ScoreEntry
from orchestrator.trial import EvalSettings
from orchestrator.wanted import sampling_settings


def shown_scores(record: RunRecord | None, evaluation: EvalSettings) -> dict[tuple[str, int], ScoreEntry]:
    """The scores that an experiment asked for, by (benchmark as asked for, step); of regraded ones the latest."""
    wanted = sampling_settings(evaluation)
    asked = {benchmark_name(benchmark): benchmark for benchmark in evaluation.benchmarks}
    chosen: dict[tuple[str, int], ScoreEntry] = {}
    for entry in sorted(record.scores if record else (), key=lambda entry: entry.finished_at):
        if entry.settings == wanted and entry.limit == evaluation.limit and entry.benchmark in asked:
            chosen[asked[entry.benchmark], entry.step] = entry
    return chosen


def benchmark_name(benchmark: str) -> str:
    """What a benchmark's scores call it: the name itself, or the stem of a `.jsonl` path."""
    return Path(benchmark).stem if benchmark.endswith(".jsonl") else benchmark
