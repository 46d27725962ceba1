"""Tables over an invented sweep: what is in a cell, what stands where nothing is, and the bytes of each format."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up import MadeUp
from scipy import stats

from dashboards.frame import frame
from dashboards.render import files, render, shortened
from dashboards.table import Table, table
from eval.api import MEASURES
from orchestrator.tracking.points import score_points

GOLDEN = Path(__file__).parent / "golden"


def table_of(made: MadeUp) -> Table:
    return table(frame(made.store, made.experiment))


def finished(root: Path, **options) -> MadeUp:
    made = MadeUp(root, **options)
    made.finish(made.base, rate=0.3)
    for number, planned in enumerate(made.trials):
        made.finish(planned, rate=0.5 + 0.1 * number)
    return made


def rates(made: MadeUp, trial: str, benchmark: str = "arithmetic") -> np.ndarray:
    data = frame(made.store, made.experiment)
    (row,) = data[(data["trial"] == trial) & (data["benchmark"] == benchmark)]["per_problem"]
    return np.array([np.mean(samples) for samples in row.values()])


def test_rows_are_base_then_arms_in_planned_order(tmp_path: Path) -> None:
    shown = table_of(finished(tmp_path))
    assert shown.label_columns == ("algorithm", "selection", "selection.ratio")
    assert [row.labels for row in shown.rows] == [("base", "–", "–"), ("grpo", "full", "–"), ("grpo", "ets", "0.2")]


def test_a_cell_is_the_mean_over_questions_with_its_clustered_error(tmp_path: Path) -> None:
    made = finished(tmp_path)
    (cell,) = table_of(made).rows[1].cells
    each = rates(made, made.trials[0].trial.id)
    assert cell.avg == pytest.approx(each.mean())
    assert cell.standard_error == pytest.approx(each.std(ddof=1) / math.sqrt(len(each)))
    assert (cell.num_problems, cell.num_samples, cell.num_seeds, cell.note) == (20, 4, 1, "")


def test_deltas_are_paired_by_question(tmp_path: Path) -> None:
    made = finished(tmp_path)
    base, dense, sparse = table_of(made).rows
    ours, others = rates(made, made.trials[1].trial.id), rates(made, made.trials[0].trial.id)
    delta = sparse.average.delta_dense
    assert delta is not None
    assert delta.delta == pytest.approx((ours - others).mean())
    assert delta.standard_error == pytest.approx((ours - others).std(ddof=1) / math.sqrt(20))
    assert delta.p_checkpoints == pytest.approx(stats.ttest_rel(ours, others).pvalue)
    assert (delta.p_method, sparse.p_dense) == (None, None)
    assert sparse.average.delta_base is not None
    assert sparse.average.delta_base.delta == pytest.approx((ours - rates(made, made.base.trial.id)).mean())
    assert (base.average.delta_base, base.average.delta_dense, dense.average.delta_dense) == (None, None, None)


def test_the_dense_arm_is_the_one_of_the_same_algorithm(tmp_path: Path) -> None:
    arms = (("grpo", "full"), ("dapo", "full"), ("dapo", "ets"))
    made = finished(tmp_path, arms=arms)
    delta = table_of(made).rows[3].average.delta_dense
    assert delta is not None
    expected = rates(made, made.trials[2].trial.id) - rates(made, made.trials[1].trial.id)
    assert delta.delta == pytest.approx(expected.mean())


def test_several_benchmarks_get_a_macro_average(tmp_path: Path) -> None:
    made = finished(tmp_path, benchmarks=("arithmetic", "sums"))
    row = table_of(made).rows[1]
    assert row.average.avg == pytest.approx(np.mean([cell.avg for cell in row.cells]))
    assert row.average.standard_error == pytest.approx(np.hypot(*(cell.standard_error for cell in row.cells)) / 2)
    assert row.average.num_problems == 40


def test_seeds_share_a_row_and_a_missing_one_is_counted(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=(("grpo", "full"),), seeds=(0, 1, 2))
    for planned in (made.base, *made.trials[:2]):
        made.finish(planned, rate=0.5)
    made.fail(made.trials[2], "out of memory")
    shown = table_of(made)
    (cell,) = shown.rows[1].cells
    each = [rates(made, planned.trial.id).mean() for planned in made.trials[:2]]
    assert cell.avg == pytest.approx(np.mean(each))
    assert (cell.num_seeds, cell.note) == (2, "2 of 3 seeds")
    assert shown.rows[1].notes == ("grpo · full · seed 2: failed: out of memory",)
    assert "(2 of 3 seeds)" in render(shown, "text")


def test_of_one_seed_there_is_no_p_about_a_method_and_no_star(tmp_path: Path) -> None:
    printed = render(table_of(finished(tmp_path)), "md")
    assert "say nothing of training again" in printed
    header, sparse = printed.splitlines()[2], printed.splitlines()[6]
    assert header.count("these checkpoints") == 2
    assert sparse.count("| one seed |") == 2
    assert "*" not in sparse


def test_from_two_seeds_on_the_error_is_that_of_the_seed_model(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("grpo", "full"),), seeds=(0, 1, 2))
    shown = table_of(made)
    (cell,) = shown.rows[1].cells
    each = np.array([rates(made, planned.trial.id) for planned in made.trials])
    of_seed, of_question = each.mean(axis=1), each.mean(axis=0)
    rest = each - of_seed[:, None] - of_question + each.mean()
    residual = (rest**2).sum() / (2 * 19) / 60
    expected = of_seed.var(ddof=1) / 3 + max(of_question.var(ddof=1) / 20 - residual, 0)
    assert cell.standard_error == pytest.approx(math.sqrt(expected))
    printed = render(shown, "md")
    assert "errors are over questions and seeds." in printed
    assert "these checkpoints |" not in printed


def test_the_table_says_how_many_seeds_would_decide_and_what_they_cost(tmp_path: Path) -> None:
    """Device-hours of a seed: 8.5 s on the cores of the made-up trial; both arms get the seeds that they lack."""
    made = MadeUp(tmp_path, seeds=(0, 1))
    made.finish(made.base, rate=0.3)
    for planned, rate in zip(made.trials, (0.5, 0.6, 0.75, 0.6), strict=True):
        made.finish(planned, rate=rate)
    row = table_of(made).rows[2]
    delta = row.average.delta_dense
    assert delta is not None
    assert delta.p_method > 0.05
    assert row.more_dense.count == delta.seeds_to_decide - 2
    cores = made.trials[0].resources.num_cpus
    assert row.more_dense.device_hours == pytest.approx(2 * row.more_dense.count * 8.5 * cores / 3600)
    assert re.search(rf"0\.\d+, \+{row.more_dense.count} seeds? \([\d.]+ core-h\)", render(table_of(made), "md"))


def test_failed_and_missing_trials_stand_in_their_place(tmp_path: Path) -> None:
    made = MadeUp(tmp_path)
    made.finish(made.base, rate=0.3)
    made.fail(made.trials[0], "CUDA out of memory at step 3\nmore")
    shown = table_of(made)
    assert [row.average.avg is None for row in shown.rows] == [False, True, True]
    text = render(shown, "md")
    assert "| grpo | full | – | failed |" in text
    assert "- grpo · full · seed 0: failed: CUDA out of memory at step 3\n" in text
    assert "| grpo | ets | 0.2 | not run yet |" in text


def test_one_missing_benchmark_leaves_the_average_out(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, benchmarks=("arithmetic", "sums"))
    made.finish(made.base, rate=0.3)
    made.finish(made.trials[0], rate=0.5, benchmarks=("arithmetic",))
    row = table_of(made).rows[1]
    assert (row.average.avg, row.average.note) == (None, "1 of 2 benchmarks")
    assert row.average.delta_base is None


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    made = finished(tmp_path)
    record = made.store.read(made.trials[1].trial.id)
    others = {f"other{number}": (1, 0, 1, 1) for number in range(20)}
    made.store.write(made.add_score(record, made.trials[1], "arithmetic", others, second=10))
    row = table_of(made).rows[2]
    assert row.average.avg == 0.75
    assert row.average.delta_base is None
    assert "not compared with base" in row.notes[0]


def test_a_regraded_score_replaces_the_old_one_and_mixed_graders_are_named(tmp_path: Path) -> None:
    made = finished(tmp_path)
    record = made.store.read(made.trials[1].trial.id)
    regraded = {f"q{number}": (1, 1, 1, 1) for number in range(20)}
    record = made.add_score(record, made.trials[1], "arithmetic", regraded, second=10)
    newest = replace(record.scores[-1], grader_version="newer")
    made.store.write(record.with_score(newest, at=record.updated_at))
    shown = table_of(made)
    row = shown.rows[2]
    assert row.average.avg == 1.0
    assert (row.average.delta_base, row.average.delta_dense) == (None, None)
    assert "another grader" in row.notes[0]
    assert shown.warnings == (
        "Graded by several versions, which are not compared: grader123456 (2 scores), newer (1 score). "
        "`orch regrade` brings all to the present one.",
    )


def test_a_table_shows_one_grader_and_says_what_another_has_not_graded(tmp_path: Path) -> None:
    made = finished(tmp_path)
    record = made.store.read(made.trials[1].trial.id)
    theirs = {f"q{number}": (1, 1, 1, 1) for number in range(20)}
    record = made.add_score(record, made.trials[1], "arithmetic", theirs, second=10, grader="qwen:abc")
    before = table_of(made)
    made.store.write(record)
    assert table_of(made) == before
    shown = table(frame(made.store, made.experiment, "qwen"))
    assert [row.average.avg for row in shown.rows] == [None, None, 1.0]
    assert shown.rows[1].cells[0].note == "not graded by qwen: orch regrade --grader qwen"
    assert "grader qwen:abc" in shown.facts[-1]
    assert shown.warnings == ()
    record = made.store.read(made.trials[0].trial.id)
    record = made.add_score(record, made.trials[0], "arithmetic", theirs, second=10, grader="qwen:older")
    made.store.write(record)
    (warning,) = table(frame(made.store, made.experiment, "qwen")).warnings
    assert "`orch regrade --grader qwen` brings all to the present one" in warning


def test_nothing_run_yet_is_still_a_table(tmp_path: Path) -> None:
    shown = table_of(MadeUp(tmp_path))
    assert [row.average.note for row in shown.rows] == ["not run yet"] * 3
    for name in ("text", "md", "csv", "latex", "html", "json"):
        assert "not run yet" in render(shown, name)


def test_what_is_absent_is_null_in_json_and_empty_in_csv_never_zero(tmp_path: Path) -> None:
    shown = table_of(MadeUp(tmp_path))
    row = json.loads(render(shown, "json"))["rows"][1]
    assert row["average"]["avg"] is None
    assert row["mean_tokens"] is None
    header, *lines = render(shown, "csv").splitlines()
    cells = dict(zip(header.split(","), lines[1].split(","), strict=True))
    assert cells["arithmetic/avg"] == ""
    assert cells["arithmetic/delta_base/delta"] == ""


def test_one_question_has_no_error_and_no_test(tmp_path: Path) -> None:
    shown = table_of(finished(tmp_path, num_problems=1))
    assert "±" not in render(shown, "md").splitlines()[4]
    assert shown.rows[1].average.delta_base is None
    assert json.loads(render(shown, "json"))["rows"][1]["average"]["standard_error"] is None


@pytest.mark.parametrize(("name", "suffix"), [("md", "md"), ("csv", "csv"), ("latex", "tex"), ("text", "txt")])
def test_the_format_is_as_the_golden_file(tmp_path: Path, name, suffix: str) -> None:
    made = MadeUp(
        tmp_path, benchmarks=("arithmetic", "sums_100%"), arms=(("grpo", "full"), ("grpo", "ets"), ("dapo", "ict"))
    )
    made.finish(made.base, rate=0.3)
    made.finish(made.trials[0], rate=0.6)
    made.finish(made.trials[1], rate=0.7)
    made.fail(made.trials[2], "out of memory & more | than that")
    assert render(table_of(made), name) == (GOLDEN / f"table.{suffix}").read_text()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_escapes_what_users_wrote_and_closes_its_tags(tmp_path: Path) -> None:
    made = MadeUp(tmp_path)
    made.fail(made.trials[0], "<script>alert(1)</script>")
    page = render(table_of(made), "html")
    assert "<script>" not in page
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    assert "grpo · full · seed 0: failed: <script>alert(1)</script>" in parser.texts


def test_html_asks_nothing_of_the_network(tmp_path: Path) -> None:
    page = render(table_of(finished(tmp_path)), "html")
    assert re.search(r"https?:|src=|url\(|@import", page) is None


def test_selectors_on_as_many_tokens_stand_first(tmp_path: Path) -> None:
    """Each minus ETS, then each minus random; never across algorithms, never the dense arm."""
    arms = (*(("grpo", name) for name in ("full", "ets", "gmts", "random")), ("dapo", "gmts"))
    made = MadeUp(tmp_path, arms=arms, seeds=(0, 1))
    for planned in (made.base, *made.trials):
        made.finish(planned, rate=0.5)
    shown = table_of(made)
    pairs = [(one.labels[:2], one.reference) for one in shown.selectors]
    assert pairs == [(("grpo", "gmts"), "ets"), (("grpo", "ets"), "random"), (("grpo", "gmts"), "random")]
    gmts, ets = (made.trials[number : number + 2] for number in (4, 2))
    means = [np.mean([rates(made, one.trial.id).mean() for one in trials]) for trials in (gmts, ets)]
    assert shown.selectors[0].found.delta == pytest.approx(means[0] - means[1])
    assert shown.selectors[0].p_adjusted >= shown.selectors[0].found.p_method
    for name in ("text", "md", "latex", "html"):
        printed = render(shown, name)
        assert printed.index("selectors on as many tokens") < printed.index("clipped")
    assert "minus" not in render(table_of(finished(tmp_path / "none")), "md")


def test_a_table_without_random_tokens_at_a_ratio_says_so(tmp_path: Path) -> None:
    told = "No arm of random tokens at ratio 0.2"
    without = MadeUp(tmp_path / "without", arms=(("grpo", "full"), ("grpo", "ets"), ("dapo", "random")))
    beside = MadeUp(tmp_path / "beside", arms=(("grpo", "full"), ("grpo", "ets"), ("grpo", "random")))
    dense = MadeUp(tmp_path / "dense", arms=(("grpo", "full"),))
    for name in ("text", "md", "latex", "html"):
        assert told in render(table_of(without), name)  # random tokens under another algorithm are none
        assert told not in render(table_of(beside), name)
        assert told not in render(table_of(dense), name)


def test_arms_at_two_places_of_an_axis_are_not_compared(tmp_path: Path) -> None:
    """ICT after 10 dense steps is compared with random tokens after 10, not after 20."""
    made = MadeUp(tmp_path, arms=(("grpo", "gmts"), ("grpo", "random")), seeds=(0, 1))
    for planned in made.trials:
        made.finish(planned, rate=0.5)
    for first, second, num_contrasts in ((10, 10, 1), (10, 20, 0), (10, None, 1)):
        rows = frame(made.store, made.experiment)
        rows["axis:selection.warmup_steps"] = rows["method"].map({"gmts": first, "random": second})
        assert len(table(rows).selectors) == num_contrasts


def test_significance_is_marked_after_holm(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, seeds=(0, 1, 2))
    made.finish(made.base, rate=0.3)
    for number, planned in enumerate(made.trials):
        made.finish(planned, rate=0.7 + 0.05 * (number // 3))
    shown = table_of(made)
    adjusted = shown.rows[2].p_base
    delta = shown.rows[2].average.delta_base
    assert delta is not None
    assert delta.p_method is not None
    assert adjusted is not None
    assert adjusted >= delta.p_method
    assert re.search(r"\d\* ", render(shown, "text"))


def test_the_artifact_reads_as_a_data_frame(tmp_path: Path) -> None:
    import io

    import pandas as pd

    written = files(table_of(finished(tmp_path)))
    data = pd.read_json(io.StringIO(written["table.json"]), orient="split")
    assert list(data.columns[:4]) == ["algorithm", "selection", "selection ratio", "arithmetic"]
    assert len(data) == 3
    assert set(written) == {"table.md", "table.json", "table.csv", "table.tex", "table.html", "table_full.json"}


def test_a_reason_too_long_for_a_cell_ends_where_its_first_part_does() -> None:
    stopped = "stopped, resumes with the same `orch sweep`"
    assert [shortened(stopped, width) for width in (50, 24)] == [stopped, "stopped"]
    assert shortened("failed: CUDA out of memory", 24) == "failed"


def test_every_number_of_a_score_reaches_frames_and_mlflow_under_its_declared_name(tmp_path: Path) -> None:
    made = finished(tmp_path)
    planned = made.trials[0]
    (entry,) = made.store.read(planned.trial.id).scores
    data = frame(made.store, made.experiment)
    row = data[data["trial"] == planned.trial.id].iloc[0]
    sent = {point.key: point.value for point in score_points(entry)}
    assert len(MEASURES) == len(sent) == 6
    for name, measure in MEASURES.items():
        value = getattr(entry, name)
        assert value == row[measure["column"]] == sent[f"eval/arithmetic/{measure['metric'].format(k=4)}"]
