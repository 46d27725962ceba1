"""The charts that MLflow opens with, for a grid in which not every arm has every axis."""

import json
from pathlib import Path

from made_up import MadeUp

from orchestrator.tracking.board import board


def test_an_axis_that_dense_arms_lack_has_a_chart_of_its_own(tmp_path: Path) -> None:
    charts = json.loads(board(MadeUp(tmp_path, benchmarks=("one", "two")).plan))["compareRunCharts"]
    parallel = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert [chart["selectedParams"] for chart in parallel] == [
        ["algorithm.name", "selection.method"],
        ["algorithm.name", "selection.method", "selection.ratio"],
    ]
    assert parallel[1]["selectedMetrics"] == ["eval/macro/avg_at_4", "eval/one/avg_at_4", "eval/two/avg_at_4"]
    assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_a_grid_that_every_arm_fills_has_one_chart(tmp_path: Path) -> None:
    charts = json.loads(board(MadeUp(tmp_path, arms=(("grpo", "ets"), ("dapo", "ets"))).plan))["compareRunCharts"]
    assert [chart["selectedParams"] for chart in charts if chart["type"] == "PARALLEL"] == [
        ["algorithm.name", "selection.method", "selection.ratio"]
    ]
