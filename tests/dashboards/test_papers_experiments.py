"""Every experiment of the papers plans, and every printed arm is among the planned trials."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from dashboards.figures.printed import (
    draw_printed_gains,
    draw_printed_high_to_low,
    draw_printed_ratios,
    draw_printed_scores,
)
from dashboards.papers.comparison_table import compare_with_paper, published_of
from dashboards.papers.experiment_runs import is_behind
from dashboards.papers.load import load_papers
from dashboards.papers.published import PublishedTable
from orchestrator.config.published import StandsFor
from orchestrator.config.spec import load_sweep
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan
from orchestrator.store.store import Store
from trainers.recipe import Recipe

ROOT = Path(__file__).parents[2]
TWINS = ("_tiny", "_small")
EXPERIMENTS = sorted(
    file.stem for paper in ("gmts", "ict", "ets") for file in (ROOT / "experiments").glob(f"{paper}_*.yaml")
)
PAPERS = load_papers()
TRAINED = [table for table in PAPERS.values() if any(row.arm.algorithm for row in table.rows) and table.experiments]


@cache
def plan_of(experiment: str) -> Plan:
    spec = load_sweep(ROOT / "experiments" / f"{experiment}.yaml")
    return make_plan(spec)


def recipes(experiment: str) -> list[Recipe]:
    return [entry.trial.recipe for entry in plan_of(experiment).entries if entry.trial.recipe is not None]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_of_a_paper_plans(experiment: str) -> None:
    plan = plan_of(experiment)
    assert plan.experiment == experiment
    assert len(plan.entries) >= 2
    assert plan.entries[0].trial.kind == "base"
    assert len({entry.trial.id for entry in plan.entries}) == len(plan.entries)
    labels = [(entry.label, *entry.axes.values()) for entry in plan.entries if entry.trial.kind == "train"]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("table", TRAINED, ids=lambda table: table.id)
def test_every_printed_arm_is_planned(table: PublishedTable) -> None:
    planned = [entry for experiment in table.experiments for entry in plan_of(experiment).entries]
    for row in table.rows:
        if row.role != "gain":
            assert any(is_behind(entry, row.arm, StandsFor()) for entry in planned), f"{table.id}: {row.id}"


@pytest.mark.parametrize("table", TRAINED, ids=lambda table: table.id)
def test_every_printed_benchmark_is_evaluated(table: PublishedTable) -> None:
    evaluated = {
        name for experiment in table.experiments for name in plan_of(experiment).entries[0].evaluation.benchmarks
    }
    assert {column.benchmark for column in table.columns if column.benchmark} <= evaluated


def test_tables_that_print_the_same_arm_share_its_trial() -> None:
    def ids(experiment: str) -> set[str]:
        return {entry.trial.id for entry in plan_of(experiment).entries}

    assert ids("gmts_table1") < ids("gmts_table4")
    assert len(ids("gmts_table4") & ids("gmts_table5")) == 3  # the base model, DAPO on all tokens and a random 90 %
    assert ids("gmts_figure3") < ids("gmts_table2")
    assert len(ids("ict_table2") & ids("ict_table3")) == 11  # the base model, five seeds of ICT, five of a random 10 %
    assert (
        len(ids("ict_table1") & ids("ict_table2")) == 16
    )  # the base model; all tokens, ICT and a random 10 % on GSM8K


def test_gmts_clips_as_its_appendix_says_under_both_algorithms() -> None:
    assert {(r.algorithm.name, r.algorithm.clip_low, r.algorithm.clip_high) for r in recipes("gmts_table4")} == {
        ("dapo", 0.2, 0.28), ("grpo", 0.2, 0.28),
    }  # fmt: skip


def test_ict_trains_as_its_appendix_says() -> None:
    for experiment in ("ict_table1", "ict_table2", "ict_table3"):
        for recipe in recipes(experiment):
            assert (recipe.prompts_per_step, recipe.group_size, recipe.ppo_epochs) == (16, 8, 2)
            assert (recipe.temperature, recipe.model.dtype) == (0.6, "float16")
            assert (recipe.algorithm.kl_coef, recipe.algorithm.entropy_coef) == (0.001, 0.001)
    assert {entry.trial.seed for entry in plan_of("ict_table2").entries} == {None, 0, 1, 2, 3, 4}


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if not name.endswith(TWINS)])
def test_what_a_paper_does_not_state_is_named_as_assumption(experiment: str) -> None:
    """Each recipe and evaluation group that stands for a paper says so of the values that the paper leaves open."""
    for group in ("recipe", "eval"):
        lines = (ROOT / "experiments" / f"{experiment}.yaml").read_text().splitlines()
        (chosen,) = [line.split(": ")[1] for line in lines if line.startswith(f"  - {group}: ")]
        text = (ROOT / "experiments" / group / f"{chosen}.yaml").read_text()
        assert "Source:" in text or "ablations" in text
        assert chosen == "gmts" or "assumption" in text


def documented() -> list[list[str]]:
    lines = (ROOT / "docs" / "papers.md").read_text().splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| ")]
    return [row for row in rows if len(row) == 7 and row[0] not in ("Published", "---")]


def test_the_page_lists_every_published_table_and_every_experiment() -> None:
    named = {name for row in documented() for cell in (row[2], row[3], row[5]) for name in re.findall(r"`(\w+)`", cell)}
    assert set(PAPERS) <= named
    assert set(EXPERIMENTS) <= named
    assert {name for name in named if re.fullmatch(r"(gmts|ict|ets)_\w+", name)} <= {*PAPERS, *EXPERIMENTS}


def test_the_page_tells_the_planned_number_of_trials() -> None:
    for row in documented():
        experiment = row[3].strip("`")
        assert row[4] == (str(len(recipes(experiment))) if experiment else ""), row


@pytest.mark.parametrize("twin", [name for name in EXPERIMENTS if name.endswith(TWINS)])
def test_a_twin_has_the_arms_of_its_table(twin: str) -> None:
    def arms(experiment: str) -> set[tuple[str, str, str, str]]:
        found = {
            (r.algorithm.name, r.selection.method, str(r.selection.ratio), r.selection.end) for r in recipes(experiment)
        }
        return found

    assert arms(twin) == arms(twin.rpartition("_")[0])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_tables_that_an_experiment_names_exist_and_every_arm_has_its_row(experiment: str, tmp_path: Path) -> None:
    """No arm is left over, no row has two arms behind it, and the store being empty every cell says so."""
    plan = plan_of(experiment)
    block = published_of(plan)
    if block is None:
        assert not any(experiment.removesuffix(suffix) in PAPERS for suffix in ("", *TWINS))
        return
    store = Store(tmp_path)
    store.plans.save(replace(plan, file="not here"))  # else the file would be composed again to tell whether it changed
    table = compare_with_paper(store, experiment)
    notes = {cell.note for row in table.rows for cell in row.cells}
    assert notes <= {
        "not run yet",
        "not run",
        "a printed difference",
        *(note for note in notes if "benchmarks" in note),
    }
    assert not [warning for warning in table.warnings if "stand in no row" in warning]
    assert {claim.verdict for claim in table.claims} <= {"not measured"}


def test_the_ratio_ablation_is_the_sweep_of_table_4() -> None:
    """GMTS A.3 states the clips once, for both algorithms."""
    ids = [{entry.trial.id for entry in plan_of(name).entries} for name in ("ratio_ablation", "gmts_table4")]
    assert ids[0] == ids[1]


def test_the_panel_beside_a_ratio_curve_has_the_numbers_of_tables_4_and_1() -> None:
    for experiment in ("gmts_table4", "gmts_table4_tiny"):
        panel = draw_printed_ratios(plan_of(experiment))
        assert panel is not None
        curves = {one.name: dict(zip(one.x, one.y, strict=True)) for one in panel.series}
        assert curves["dapo · gmts"] == {0.1: 40.89, 0.2: 41.56, 0.5: 41.41, 0.7: 40.83, 0.9: 41.11}
        assert curves["grpo · ets"] == {0.1: 37.37, 0.2: 39.59, 0.5: 40.85, 0.7: 40.59, 0.9: 40.0}
        assert (curves["dapo · all tokens"], curves["grpo · all tokens"]) == ({1.0: 41.06}, {1.0: 38.81})
        assert panel.title == "Published: GMTS Table 4, Table 1"


def test_the_panel_beside_bars_has_every_benchmark_while_the_arms_are_few() -> None:
    few, many = draw_printed_scores(plan_of("gmts_table3")), draw_printed_scores(plan_of("gmts_table4"))
    assert few is not None
    assert many is not None
    assert [one.name for one in few.series] == ["Qwen3-8B", "DAPO", "dapo · ETS Top (20%)", "dapo · GMTS Top (20%)"]
    assert few.series[3].y == (39.79, 30.0, 79.38, 91.14, 42.42, 53.76, 56.08)
    assert len(many.series) == 1
    assert len(many.series[0].x) == 23
    assert dict(zip(many.series[0].x, many.series[0].y, strict=True))["GRPO"] == 38.81


def test_the_panel_beside_gains_is_figure_5_right() -> None:
    panel = draw_printed_gains([plan_of(f"gmts_table{number}") for number in (1, 2, 3)])
    assert panel is not None
    dapo = panel.series[0]
    assert dapo.name == "dapo · 0.2"
    assert dapo.x == ("Qwen2.5-Math-1.5B", "Qwen2.5-Math-7B", "Qwen3-8B")
    assert (dapo.y[0], dapo.y[2]) == (pytest.approx(0.41), pytest.approx(5.21))


def test_the_panel_beside_a_ratio_of_regimes_is_ict_figure_4() -> None:
    panel = draw_printed_high_to_low("ict_table2")
    assert panel is not None
    assert [(one.x, one.y) for one in panel.series] == [(("GSM8K", "MATH"), (1.03, 0.99))]
    assert draw_printed_high_to_low("gmts_table4") is None


def test_an_experiment_that_names_no_table_has_no_panel() -> None:
    assert draw_printed_scores(plan_of("gmts_figure3")) is None
    assert draw_printed_ratios(plan_of("gmts_figure3")) is None
    assert draw_printed_scores(plan_of("ets_long")) is None  # one printed number
