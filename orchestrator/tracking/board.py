"""The board: a view of MLflow's runs page, prepared for one experiment. Arms by axis, best first, scores as bars.

Kept where MLflow's own Share button keeps views: a tag of the experiment, JSON in the shape of the page's state
(seen in MLflow 3.17). Without it, `orch ui` opens the plain page; nothing else depends on it.
"""

from __future__ import annotations

import json
from typing import Any

from eval.benchmarks.registry import short_name
from orchestrator.plan.trial import Plan
from orchestrator.tracking.points import MACRO, metric_key
from orchestrator.tracking.view import trial_params

BOARD = "orch"
"""The view's key in an address: `?viewStateShareKey=orch`."""
BOARD_TAG = f"mlflow.sharedViewState.{BOARD}"

_NUM_BENCHMARKS = 6
_METRIC_WIDTH = 200
"""Pixels: room for a name such as eval/arithmetic/avg_at_16."""
_CURVES = (
    "reward/mean",
    "response/length_mean",
    "tokens/entropy",
    "select/entropy",
    "select/ratio",
    "policy/clip_fraction",
    "gradient/norm",
    "loss",
)
"""Training metrics shown first; all others follow in sections of their own."""
_LINE = {"lineSmoothness": 0, "useGlobalLineSmoothing": True, "useGlobalXaxisKey": True, "scaleType": "linear"}
_GROUP_PARAMS = {"algorithm": "algorithm.name", "selection": "selection.method", "model": "model.path"}
"""Axes over a group of settings → the parameter that names the group's choice."""


def board(plan: Plan) -> str:
    """State of the runs page for an experiment, as JSON."""
    scores = _score_keys(plan)
    columns = [f"tags.`{metric_key(axis)}`" for axis in plan.axes]
    columns += [f"metrics.`{key}`" for key in (*scores, f"{scores[0]}_se")]
    state = {
        "searchFilter": "tags.`orch.role` = 'trial'",
        "orderByKey": f"metrics.`{scores[0]}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _METRIC_WIDTH for column in columns if column.startswith("metrics.")},
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": [_section("scores"), _section("training")],
        "compareRunCharts": [
            *(_chart("BAR", "scores", key, metricKey=key, displayName=key) for key in scores),
            *(
                _chart("PARALLEL", "scores", name, selectedParams=params, selectedMetrics=scores)
                for name, params in _parallel_axes(plan).items()
            ),
            *(_chart("LINE", "training", key, metricKey=key, displayName=key, **_LINE) for key in _CURVES),
        ],
    }
    return json.dumps(state)


def _score_keys(plan: Plan) -> list[str]:
    """avg@K metrics, the macro average first where there are several benchmarks."""
    evaluation = plan.entries[0].evaluation
    names = [short_name(name) for name in evaluation.benchmarks]
    shown = [*([MACRO] if len(names) > 1 else []), *names[:_NUM_BENCHMARKS]]
    return [metric_key(f"eval/{name}/avg_at_{evaluation.num_samples}") for name in shown]


def _parallel_axes(plan: Plan) -> dict[str, list[str]]:
    """Parameters behind the axes: those that every arm has; then, where an arm lacks some, all of them.

    A run without one of a chart's parameters is left out of that chart, as dense arms are where there is a ratio.
    """
    arms = [trial_params(planned) for planned in plan.entries if planned.trial.kind == "train"]
    wanted = [_GROUP_PARAMS.get(axis, axis) for axis in plan.axes]
    shared = [key for key in wanted if all(key in params for params in arms)]
    return {"axes": shared} | ({"all axes": wanted} if shared != wanted else {})


def _section(name: str) -> dict[str, Any]:
    return {
        "uuid": f"orch-{name}",
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _chart(kind: str, section: str, key: str, **settings: Any) -> dict[str, Any]:
    common = {"type": kind, "uuid": f"orch-{kind}-{key}", "metricSectionId": f"orch-{section}"}
    return {**common, "runsCountToCompare": 20, "deleted": False, "isGenerated": False, **settings}
