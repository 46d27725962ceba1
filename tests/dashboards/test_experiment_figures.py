"""Figures of an experiment: the values that both drawings print, and what is left undrawn."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_up import MadeUp

from dashboards.figures.curves_drawn import mean_over_seeds, smoothed, window_of
from dashboards.figures.drawing import Drawing, Series
from dashboards.figures.experiment import experiment_drawings
from dashboards.figures.plotly_drawing import plotly_figure
from dashboards.figures.pyplot_drawing import write_drawing
from dashboards.figures.scores_drawn import draw_gains_by_model, draw_ratios
from dashboards.figures.swept import Swept, read_swept

ARMS = (("grpo", "full"), ("grpo", "ets"), ("grpo", "gmts"))


def swept(tmp_path: Path, **options) -> Swept:
    made = MadeUp(tmp_path, **{"arms": ARMS, **options})
    for number, planned in enumerate((made.base, *made.trials)):
        made.finish(planned, rate=0.3 + 0.1 * number)
    return read_swept(made.store, made.experiment)


def drawn(experiment: Swept) -> dict[str, Drawing]:
    return {drawing.id: drawing for drawing in experiment_drawings(experiment)}


def test_bars_are_the_cells_of_the_table(tmp_path: Path) -> None:
    experiment = swept(tmp_path)
    (bars,) = drawn(experiment)["scores"].series
    assert bars.x == ("base", "grpo · full", "grpo · ets · 0.2", "grpo · gmts · 0.2")
    assert bars.y == tuple(100 * row.average.avg for row in experiment.table.rows)
    assert bars.hover[1].endswith("n = 20 × 4, 1 seed")


def test_several_benchmarks_are_groups_of_bars_with_their_average(tmp_path: Path) -> None:
    series = drawn(swept(tmp_path, benchmarks=("one", "two")))["scores"].series
    assert [one.x for one in series] == [("one", "two", "Avg")] * 4
    assert series[0].y[2] == pytest.approx((series[0].y[0] + series[0].y[1]) / 2)


def test_an_arm_that_lacks_a_seed_is_named_in_the_caption(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS, seeds=(0, 1))
    for planned in (made.base, *made.trials[:-1]):
        made.finish(planned, rate=0.4)
    scores = drawn(read_swept(made.store, "made_up"))["scores"]
    assert "1–2 training seeds an arm; not all planned seeds: grpo · gmts · 0.2" in scores.caption


def test_curves_average_seeds_over_a_window(tmp_path: Path) -> None:
    assert smoothed(((1, 1.0), (2, 3.0), (3, 5.0)), 2) == ((1, 1.0), (2, 2.0), (3, 4.0))
    assert mean_over_seeds([((1, 1.0), (2, 3.0)), ((1, 2.0),)]) == ((1, (1.0, 2.0)), (2, (3.0,)))
    assert [window_of(steps) for steps in (8, 40, 1000)] == [1, 4, 20]
    reward = drawn(swept(tmp_path, seeds=(0, 1)))["reward_mean"]
    assert [one.name for one in reward.series] == ["grpo · full", "grpo · ets · 0.2", "grpo · gmts · 0.2"]
    assert reward.series[0].x == tuple(float(step) for step in range(1, 9))
    assert (
        reward.caption == "Mean over 16 prompts × 16 responses a step, over the last 1 steps and over seeds: 2 an arm."
    )


def test_accuracy_over_checkpoints_is_the_mean_over_seeds_of_those_evaluated(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS[:1], seeds=(0, 1))
    for number, planned in enumerate(made.trials):
        record = made.finish(planned, rate=0.4)
        (last,) = record.scores
        early = replace(last, step=4, avg=0.1 + 0.2 * number, key=last.key[::-1])
        made.store.write(replace(record, scores=(early, last)))
    accuracy = drawn(read_swept(made.store, "made_up"))["accuracy"]
    last_scores = [100 * made.store.read(planned.trial.id).scores[-1].avg for planned in made.trials]
    assert [(one.name, one.x) for one in accuracy.series] == [("grpo · full", (4.0, 8.0))]
    assert accuracy.series[0].y == pytest.approx((20.0, sum(last_scores) / 2))
    assert "n = 20 questions × K = 4 samples of arithmetic; mean over training seeds: 2 an arm" in accuracy.caption


def test_the_ratio_of_regimes_is_drawn_for_diagnosed_trials_beside_the_printed_one(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS, experiment="ict_table2_tiny")
    for planned in made.trials[:2]:
        made.finish(planned, rate=0.4)
    folder = made.store.trial_folder(made.trials[1].trial.id) / "diagnosis" / "final"
    folder.mkdir(parents=True)
    tokens = {"uid": [1, 1, 1], "probability": [0.9, 0.8, 0.1], "purity": [0.5, 0.5, 0.5]}
    pd.DataFrame(tokens | {"selected_ict": [True, False, True]}).to_parquet(folder / "tokens.parquet")
    experiment = read_swept(made.store, "ict_table2_tiny")
    figure = drawn(experiment)["high_to_low"]
    assert [(one.name, one.x, one.y) for one in figure.series] == [
        ("grpo · ets · 0.2 · seed 0", ("all tokens", "ict"), (2.0, 1.0))
    ]
    assert figure.beside is not None
    assert figure.beside.series[0].y == (1.03, 0.99)
    assert experiment.undiagnosed() == (made.trials[0].trial.id,)  # the third was not trained


def test_what_was_not_run_is_not_drawn(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS)
    assert experiment_drawings(read_swept(made.store, "made_up")) == ()
    made.finish(made.base, rate=0.4)
    assert experiment_drawings(read_swept(made.store, "made_up")) == ()


def test_one_ratio_gives_no_ratio_curve_and_one_model_no_gains(tmp_path: Path) -> None:
    experiment = swept(tmp_path)
    assert draw_ratios(experiment) is None
    assert draw_gains_by_model([experiment]) is None


def test_a_ratio_curve_has_a_point_a_ratio_and_the_level_of_all_tokens(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS)
    wider = []
    for planned in made.trials[1:]:
        recipe = planned.trial.recipe
        other = replace(recipe, selection=replace(recipe.selection, ratio=0.5))
        trial = replace(planned.trial, id=planned.trial.id[::-1], recipe=other)
        wider.append(replace(planned, trial=trial, axes={**planned.axes, "selection.ratio": 0.5}))
    made.store.plans.save(replace(made.plan, entries=(*made.plan.entries, *wider)))
    for planned in (made.base, *made.trials, *wider):
        made.finish(planned, rate=0.4)
    experiment = read_swept(made.store, "made_up")
    ratios = draw_ratios(experiment)
    assert ratios is not None
    assert [(one.name, one.x, one.mark) for one in ratios.series] == [
        ("grpo · ets", (0.2, 0.5), "line"),
        ("grpo · gmts", (0.2, 0.5), "line"),
        ("grpo · all tokens", (1.0,), "level"),
    ]
    dense = next(row for row in experiment.table.rows if "full" in row.labels)
    assert ratios.series[2].y == (100 * dense.average.avg,)


def test_hours_leave_evaluation_out(tmp_path: Path) -> None:
    hours = drawn(swept(tmp_path))["accuracy_hours"]
    assert [one.x for one in hours.series] == [(pytest.approx(7.0 / 3600),)] * 3
    assert "hours on CPU" in hours.x_label


def test_a_twin_says_that_only_arms_compare(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS, experiment="gmts_table5_tiny")
    for planned in (made.base, *made.trials):
        made.finish(planned, rate=0.4)
    title = drawn(read_swept(made.store, "gmts_table5_tiny"))["scores"].title
    assert title.endswith("(as GMTS Figure 4, tiny twin: arms compare, numbers do not)")


def test_both_drawings_print_the_same_values(tmp_path: Path) -> None:
    points = Series(name="arm", x=(0.1, 0.2), y=(50.0, None), error=(1.0, None), hover=("a", "b"))
    level = Series(name="all", x=(1.0,), y=(48.0,), mark="level")
    drawing = Drawing(id="one", title="t", caption="c", x_label="x", y_label="y", series=(points, level))
    page = json.loads(json.dumps(plotly_figure(drawing), allow_nan=False))
    assert page["data"][0]["y"] == [50.0, None]
    assert page["data"][0]["error_y"]["array"] == [1.0, None]
    assert (page["data"][1]["x"], page["data"][1]["y"]) == ([0.1, 0.2], [48.0, 48.0])
    files = write_drawing(drawing, tmp_path / "figures")
    assert [file.name for file in files] == ["one.pdf", "one.png"]
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write_drawing(drawing, tmp_path / "figures")] == before


def test_a_series_refuses_values_that_match_no_point() -> None:
    with pytest.raises(ValueError, match="2 points"):
        Series(name="arm", x=(1.0, 2.0), y=(1.0,))
