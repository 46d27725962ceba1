"""A published table beside an invented sweep: whose numbers stand where, how they are marked, what is not averaged."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_up import MadeUp

from dashboards.papers.compared import ComparedTable
from dashboards.papers.comparison_table import compare_with_paper
from dashboards.papers.experiment_runs import read_runs
from dashboards.papers.load import load_papers
from dashboards.papers.published import PaperError
from dashboards.papers.verdicts import contrasts_of, null_hypothesis_of
from eval.comparison import Arm, compare_arms, holm
from orchestrator.config.published import StandsFor
from orchestrator.errors import OrchError

TINY = {"model": "Qwen2.5-Math-1.5B", "training_data": "math12k"}
ARMS = (("dapo", "full"), ("dapo", "ets"), ("dapo", "gmts"), ("grpo", "full"), ("grpo", "ets"), ("grpo", "gmts"))
PRINTED = ("aime2024", "amc23", "math500", "minerva_math", "olympiadbench")


def sweep_of(root: Path, table: str = "gmts_table1", **options) -> MadeUp:
    block = {"tables": [table], "stands_for": TINY}
    return MadeUp(root, **{"arms": ARMS, "published": block, "num_problems": 40} | options)


def finished(root: Path, rates: dict[tuple[str, str], float] | None = None, **options) -> MadeUp:
    made = sweep_of(root, **options)
    made.finish(made.base, rate=0.3)
    for planned in made.trials:
        recipe = planned.trial.recipe
        assert recipe is not None
        made.finish(planned, rate=(rates or {}).get((recipe.algorithm.name, recipe.selection.method), 0.5))
    return made


def beside(made: MadeUp) -> ComparedTable:
    return compare_with_paper(made.store, made.experiment)


def rates_of(made: MadeUp, number: int, benchmark: str) -> np.ndarray:
    record = made.store.read(made.trials[number].trial.id)
    entry = next(one for one in record.scores if one.benchmark == benchmark)
    score = made.store.read_score(record.trial.id, entry.key)
    assert score is not None
    return np.array([np.mean(samples) for samples in score.per_problem.values()])


def arm_of(made: MadeUp, number: int) -> Arm:
    """All seeds of an arm on its first benchmark."""
    count = len(made.seeds)
    trials = made.trials[number * count : (number + 1) * count]
    scores = [made.store.read_score(one.trial.id, made.store.read(one.trial.id).scores[0].key) for one in trials]
    return Arm(runs={seed: score.per_problem for seed, score in zip(made.seeds, scores, strict=True)})


def test_rows_and_columns_stand_as_printed_with_the_twins_benchmark_behind(tmp_path: Path) -> None:
    table = beside(finished(tmp_path))
    assert [row.label for row in table.rows[:4]] == [
        "Qwen2.5-math-1.5B", "DAPO", "+ ETS Top (20%)", "+ GMTS Top (20%)",
    ]  # fmt: skip
    assert [column.id for column in table.columns] == [*PRINTED, "avg", "arithmetic"]
    assert [column.is_run for column in table.columns] == [False] * 6 + [True]
    printed = table.cell("dapo_gmts_top_20", "avg")
    assert (printed.published, printed.ours, printed.state, printed.note) == ("41.56", None, "not_run", "not run")
    assert table.cell("dapo_gmts_top_20", "arithmetic").published is None


def test_a_cell_holds_ours_in_percent_the_printed_number_and_their_difference(tmp_path: Path) -> None:
    made = finished(tmp_path, benchmarks=PRINTED)
    table = beside(made)
    cell = table.cell("dapo_gmts_top_20", "math500")
    each = rates_of(made, 2, "math500")
    assert cell.ours == pytest.approx(100 * each.mean())
    assert cell.standard_error == pytest.approx(100 * each.std(ddof=1) / math.sqrt(len(each)))
    assert cell.delta == pytest.approx(100 * each.mean() - 73.83)
    assert (cell.num_problems, cell.num_samples, cell.num_seeds, cell.state) == (40, 4, 1, "ok")
    assert cell.trial_ids == (made.trials[2].trial.id,)
    average = table.cell("dapo_gmts_top_20", "avg")
    assert average.ours == pytest.approx(100 * np.mean([rates_of(made, 2, name).mean() for name in PRINTED]))
    assert average.delta == pytest.approx(average.ours - 41.56)
    assert not any(column.id == "arithmetic" for column in table.columns)


def test_arms_that_another_table_prints_stand_behind_their_block(tmp_path: Path) -> None:
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": TINY}
    table = beside(finished(tmp_path, published=block))
    rows = [(row.id, row.printed_in) for row in table.rows if row.is_run]
    assert rows == [
        ("base", "gmts_table4"),
        ("dapo", "gmts_table4"), ("dapo_ets_top_20", "gmts_table1"), ("dapo_gmts_top_20", "gmts_table1"),
        ("grpo", "gmts_table4"), ("grpo_ets_top_20", "gmts_table1"), ("grpo_gmts_top_20", "gmts_table1"),
    ]  # fmt: skip
    assert len(table.rows) == 19 + 4
    assert table.cell("dapo_ets_top_20", "avg").published == "40.01"


def test_best_and_second_are_ours_within_a_block_without_the_untrained_model(tmp_path: Path) -> None:
    table = beside(finished(tmp_path, {("dapo", "gmts"): 0.9, ("dapo", "ets"): 0.2, ("grpo", "full"): 0.8}))
    marks = {row.id: (row.cells[-1].is_best, row.cells[-1].is_second) for row in table.rows if row.is_run}
    assert marks["dapo_gmts_top_20"] == (True, False)
    assert marks["dapo"] == (False, True)
    assert marks["dapo_ets_top_20"] == (False, False)
    assert marks["grpo"] == (True, False)
    assert marks["base"] == (False, False)


def test_significance_is_paired_against_the_blocks_dense_arm_and_corrected(tmp_path: Path) -> None:
    made = finished(tmp_path, {("dapo", "gmts"): 0.9, ("grpo", "gmts"): 0.6}, seeds=(0, 1, 2, 3))
    table = beside(made)
    pairs = [(1, 0), (2, 0), (4, 3), (5, 3)]
    alone = [compare_arms(*(arm_of(made, number) for number in pair)).p_method for pair in pairs]
    found = [table.cell(f"{block}_{arm}_top_20", "arithmetic") for block in ("dapo", "grpo") for arm in ("ets", "gmts")]
    assert [cell.p_dense for cell in found] == pytest.approx(holm(alone))
    assert found[1].is_significant
    assert table.cell("dapo", "arithmetic").p_dense is None
    assert table.cell("base", "arithmetic").p_dense is None


def test_partial_seeds_are_counted_and_the_failed_one_is_named(tmp_path: Path) -> None:
    made = sweep_of(tmp_path, arms=(("dapo", "full"),), seeds=(0, 1, 2))
    for planned in made.trials[:2]:
        made.finish(planned, rate=0.5)
    made.fail(made.trials[2], "CUDA out of memory\nmore")
    table = beside(made)
    cell = table.cell("dapo", "arithmetic")
    each = [rates_of(made, number, "arithmetic").mean() for number in (0, 1)]
    assert cell.ours == pytest.approx(100 * np.mean(each))
    assert (cell.state, cell.note, cell.num_seeds, cell.num_seeds_planned) == ("partial", "2 of 3 seeds", 2, 3)
    assert "failed: CUDA out of memory: dapo · full · seed 2" in table.warnings


def test_a_failed_and_a_missing_arm_say_so_in_their_cell(tmp_path: Path) -> None:
    made = sweep_of(tmp_path)
    made.fail(made.trials[0], "out of memory")
    table = beside(made)
    failed, missing = table.cell("dapo", "arithmetic"), table.cell("grpo", "arithmetic")
    assert (failed.state, failed.note, failed.ours) == ("failed", "failed: out of memory", None)
    assert (missing.state, missing.note, missing.delta) == ("missing", "not run yet", None)


def graded(made: MadeUp, number: int, grader: str) -> None:
    """Finish a trial with a score of another grader version."""
    planned = made.trials[number]
    record = made.finish(planned, rate=0.5, benchmarks=())
    table = made.draw(planned, "arithmetic", 0.5)
    made.store.write(made.add_score(record, planned, "arithmetic", table, grader=grader))


def test_another_grader_version_is_shown_and_warned_of(tmp_path: Path) -> None:
    made = finished(tmp_path)
    graded(made, 2, "grader000000")
    table = beside(made)
    cell = table.cell("dapo_gmts_top_20", "arithmetic")
    assert (cell.state, cell.note) == ("other_grader", "grader grader000000")
    assert (cell.p_dense, cell.is_best, cell.is_second) == (None, False, False)
    assert table.warnings[0].startswith("Graded by several versions: grader123456 (6 scores), grader000000 (1 scores)")


def test_seeds_of_different_graders_are_not_averaged(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("dapo", "full"),), seeds=(0, 1))
    graded(made, 1, "grader000000")
    cell = beside(made).cell("dapo", "arithmetic")
    assert (cell.state, cell.ours) == ("mixed", None)
    assert cell.note == "seeds graded by 2 versions: grader123456, grader000000"


def test_seeds_on_different_questions_are_not_averaged(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("dapo", "full"),), seeds=(0, 1))
    made.num_problems = 30
    made.finish(made.trials[1], rate=0.5)
    cell = beside(made).cell("dapo", "arithmetic")
    assert (cell.state, cell.ours, cell.note) == ("mixed", None, "its seeds answer different questions")


def test_a_score_that_is_not_a_number_is_no_seed(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("dapo", "full"),), seeds=(0, 1))
    file = made.store.trial_folder(made.trials[1].trial.id) / "record.json"
    record = json.loads(file.read_text())
    del record["seal"]
    record["scores"][0]["avg"] = math.nan
    file.write_text(json.dumps(record))
    table = beside(made)
    cell = table.cell("dapo", "arithmetic")
    assert (cell.state, cell.note) == ("partial", "1 of 2 seeds")
    assert cell.ours == pytest.approx(100 * rates_of(made, 0, "arithmetic").mean())
    assert "its score is not a number: dapo · full · seed 1" in table.warnings


def test_a_score_that_does_not_read_is_no_seed_and_takes_no_other_away(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("dapo", "full"), ("dapo", "ets")))
    (entry,) = made.store.read(made.trials[0].trial.id).scores
    file = made.store.eval_folder(made.trials[0].trial.id, entry.key) / "score.json"
    score = json.loads(file.read_text())
    file.write_text(json.dumps(score | {"per_problem": {"q0": [math.nan] * 4}}))
    table = beside(made)
    assert table.cell("dapo", "arithmetic").note.startswith("a score does not read: per_problem.q0[0]")
    assert table.cell("dapo_ets_top_20", "arithmetic").state == "ok"


def test_a_score_whose_file_is_gone_is_no_seed(tmp_path: Path) -> None:
    made = finished(tmp_path, arms=(("dapo", "full"),))
    (entry,) = made.store.read(made.trials[0].trial.id).scores
    (made.store.eval_folder(made.trials[0].trial.id, entry.key) / "score.json").unlink()
    cell = beside(made).cell("dapo", "arithmetic")
    assert (cell.state, cell.ours) == ("missing", None)
    assert cell.note == "its score file is gone"


def test_pass_at_4_is_asked_for_where_the_column_is(tmp_path: Path) -> None:
    block = {"tables": ["ict_table2"], "stands_for": {"model": "Qwen2.5-1.5B"}}
    arms = (("grpo", "full"), ("grpo", "ict"))
    made = finished(tmp_path / "four", arms=arms, published=block)
    table = beside(made)
    assert [column.id for column in table.columns[2:]] == ["arithmetic_pass1", "arithmetic_pass4"]
    rates = rates_of(made, 1, "arithmetic")
    assert table.cell("unique_20", "arithmetic_pass1").ours == pytest.approx(100 * rates.mean())
    assert table.cell("unique_20", "arithmetic_pass4").ours == pytest.approx(100 * (rates > 0).mean())
    few = beside(finished(tmp_path / "two", arms=arms, published=block, num_samples=2))
    cell = few.cell("unique_20", "arithmetic_pass4")
    assert (cell.ours, cell.note) == (None, "pass@4 needs 4 samples a question, there are 2")


def claim_of(table: ComparedTable, name: str):
    return next(claim for claim in table.claims if claim.id == name)


def test_claims_are_judged_by_paired_differences_on_the_twins_benchmark(tmp_path: Path) -> None:
    rates = {("dapo", "gmts"): 0.95, ("dapo", "ets"): 0.2, ("grpo", "gmts"): 0.2, ("grpo", "ets"): 0.95}
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": TINY}
    made = finished(tmp_path, rates, published=block, seeds=(0, 1, 2))
    table = beside(made)
    reproduced, contradicted = claim_of(table, "dapo_20"), claim_of(table, "grpo_20")
    difference = compare_arms(arm_of(made, 2), arm_of(made, 1))
    (measured,) = reproduced.measured
    assert measured.difference == pytest.approx(100 * difference.delta)
    assert measured.standard_error == pytest.approx(100 * difference.standard_error)
    assert measured.margin == pytest.approx(100 * difference.margin)
    assert measured.num_seeds == 3
    assert 0 < measured.power < 1  # of +1.55 points
    assert (reproduced.verdict, contradicted.verdict) == ("reproduced", "contradicted")
    assert reproduced.is_stated_inside is None  # +1.55 was said of other benchmarks
    assert "Judged on arithmetic in place of Avg." in reproduced.rule
    assert reproduced.contrasts == (
        "dapo + GMTS Top (20%) − dapo + ETS Top (20%) on arithmetic in place of Avg.",
    )  # fmt: skip
    unmeasured = claim_of(table, "dapo_90")
    assert (unmeasured.verdict, unmeasured.measured) == ("not measured", ())
    assert "not run" in unmeasured.note


def test_a_claim_on_the_papers_own_benchmarks_is_asked_for_its_size_too(tmp_path: Path) -> None:
    rates = {("dapo", "gmts"): 0.95, ("dapo", "ets"): 0.2}
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": TINY}
    made = finished(tmp_path, rates, published=block, benchmarks=PRINTED, seeds=(0, 1, 2))
    claim = claim_of(beside(made), "dapo_20")
    assert claim.rule.startswith("The difference lies on the stated side of 0. Judged on Avg. Reproduced")
    assert (claim.verdict, claim.is_stated_inside) == ("reproduced", False)


def test_equal_arms_are_underpowered(tmp_path: Path) -> None:
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": TINY}
    claim = claim_of(beside(finished(tmp_path, published=block, seeds=(0, 1))), "dapo_20")
    assert claim.verdict == "underpowered"
    assert claim.p_value is not None
    assert claim.p_value > 0.05


def test_of_one_seed_no_claim_gets_a_verdict_however_sure_the_checkpoints_differ(tmp_path: Path) -> None:
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": TINY}
    table = beside(finished(tmp_path, {("dapo", "gmts"): 0.98, ("dapo", "ets"): 0.05}, published=block))
    claim = claim_of(table, "dapo_20")
    assert claim.measured[0].difference > 50
    assert (claim.verdict, claim.p_value) == ("one seed: no verdict", None)
    assert {one.verdict for one in table.claims} <= {"one seed: no verdict", "not measured"}
    assert not any(cell.is_significant for row in table.rows for cell in row.cells)


def test_claims_that_restate_one_difference_are_one_test(tmp_path: Path) -> None:
    papers = load_papers()
    runs = read_runs(sweep_of(tmp_path).store, "made_up", StandsFor())
    claims = papers["ict_table1"].claims
    tests = {null_hypothesis_of(claim, contrasts_of(claim, papers, runs)) for claim in claims}
    assert (len(claims), len(tests)) == (34, 22)


def test_an_experiment_that_names_no_table_or_an_unknown_one_says_so(tmp_path: Path) -> None:
    with pytest.raises(PaperError, match="names no published table"):
        beside(sweep_of(tmp_path / "none", published=None))
    with pytest.raises(PaperError, match="no published table 'gmts_table9'"):
        beside(sweep_of(tmp_path / "other", table="gmts_table9"))


def test_an_unknown_row_or_column_gets_the_nearest(tmp_path: Path) -> None:
    table = beside(finished(tmp_path))
    with pytest.raises(OrchError, match="did you mean dapo_gmts_top_20"):
        table.cell("dapo_gmts_top20", "avg")
    with pytest.raises(OrchError, match="did you mean minerva_math"):
        table.cell("dapo", "minerva_maths")
    assert table.cell("DAPO", "Avg.").published == "41.06"
