"""The prepared view names only tags, metrics and parameters that the mirror really sends."""

import json
import re

import pytest
from fake_trainer import open_fake_sampler
from lab import Lab

from orchestrator.tracking.board import board
from orchestrator.tracking.points import cost_points, macro_points, score_points
from orchestrator.tracking.view import trial_params, trial_view
from trainers.diagnostics import METRICS


def test_every_column_and_chart_of_the_board_exists(lab: Lab) -> None:
    lab.num_benchmarks = 2
    plan = lab.plan([None, 0])
    state = json.loads(board(plan))
    planned = plan.entries[1]
    names = [f"bench{number}" for number in range(2)]
    sent = {f"eval/{name}/avg_at_2{suffix}" for name in [*names, "macro"] for suffix in ("", "_se")} | METRICS.keys()
    tags = trial_view(planned, None, experiment="test", state="waiting").tags
    for column in state["selectedColumns"]:
        kind, key = re.fullmatch(r"(\w+)\.`(.*)`", column).groups()
        assert key in (tags if kind == "tags" else sent)
    for chart in state["compareRunCharts"]:
        assert chart.get("metricKey", "loss") in sent
        assert set(chart.get("selectedParams", ())) <= trial_params(planned).keys()
    assert state["orderByKey"] == "metrics.`eval/macro/avg_at_2`"


def test_one_benchmark_needs_no_macro_average(lab: Lab) -> None:
    assert json.loads(board(lab.plan([None, 0])))["orderByKey"] == "metrics.`eval/bench0/avg_at_2`"


def test_a_macro_average_waits_for_all_benchmarks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.trial.attempt.open_sampler", open_fake_sampler)
    lab.num_benchmarks = 2
    plan = lab.plan([0])
    lab.sweep(plan)
    (record,) = lab.store.list()
    planned = plan.entries[0]
    scores = {(planned.evaluation.benchmarks[n], entry.step): entry for n, entry in enumerate(record.scores)}
    (point,) = macro_points(planned, scores)
    assert point.value == sum(entry.avg for entry in record.scores) / 2
    assert point.key == "eval/macro/avg_at_2"
    assert macro_points(planned, dict([*scores.items()][:1])) == []
    assert {point.step for point in cost_points(record)} == {0}
    assert "eval/bench0/clip_rate" in {point.key for point in score_points(record.scores[0])}
