"""What went wrong, in its place: on the rendered table, on the table beside the paper, and on the report's pages."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import MadeUp

from dashboards.drift import with_drift
from dashboards.frame import frame
from dashboards.papers.comparison_table import compare_with_paper
from dashboards.papers.render import render_compared
from dashboards.render import render
from dashboards.report.site import Request, write_report
from dashboards.table import table

TINY = {"model": "Qwen2.5-Math-1.5B", "training_data": "math12k"}
TABLES = ["gmts_table4", "gmts_table1"]
ARMS = tuple((algorithm, method) for algorithm in ("dapo", "grpo") for method in ("full", "ets", "gmts"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Of seven arms one is whole, each of the others has a fault of its own; the experiment's file has changed."""
    folder = tmp_path_factory.mktemp("faulty")
    sweep = MadeUp(folder, arms=ARMS, seeds=(0, 1), published={"tables": TABLES, "stands_for": TINY})
    changed = folder / "changed.yaml"
    changed.write_text((Path(__file__).parents[2] / "experiments" / "smoke.yaml").read_text())
    sweep.store.plans.save(replace(sweep.plan, file=str(changed)))
    whole, ets, gmts, grpo, grpo_ets, _ = zip(sweep.trials[::2], sweep.trials[1::2], strict=True)
    for planned in (sweep.base, *whole, ets[0], gmts[0], grpo[0]):
        sweep.finish(planned, rate=0.5)
    sweep.fail(ets[1], "CUDA out of memory")
    graded(sweep, gmts[1], "grader000000")
    not_a_number(sweep, grpo[1])
    for planned in grpo_ets:
        graded(sweep, planned, "grader000000")
    return sweep  # the last arm was never run


def graded(sweep: MadeUp, planned, grader: str) -> None:
    record = sweep.finish(planned, rate=0.5, benchmarks=())
    verdicts = sweep.draw(planned, "arithmetic", 0.5)
    sweep.store.write(sweep.add_score(record, planned, "arithmetic", verdicts, grader=grader))


def not_a_number(sweep: MadeUp, planned) -> None:
    sweep.finish(planned, rate=0.5)
    file = sweep.store.trial_folder(planned.trial.id) / "record.json"
    record = json.loads(file.read_text())
    del record["seal"]
    record["scores"][0]["avg"] = math.nan
    file.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def rows(made: MadeUp) -> dict[str, str]:
    """Beginning of a row of `orch table` → the row."""
    own = with_drift(table(frame(made.store, "made_up")), made.store.plans.read("made_up"))
    lines = render(own, "md").splitlines()
    return {line.split(" | ")[0] + " " + line.split(" | ")[1]: line for line in lines if line.startswith("| ")} | {
        "notes": "\n".join(line for line in lines if line.startswith("- "))
    }


@pytest.fixture(scope="module")
def beside(made: MadeUp) -> str:
    return render_compared(compare_with_paper(made.store, "made_up"), "md")


@pytest.fixture(scope="module")
def site(made: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = Request(experiments=("made_up",), folder=tmp_path_factory.mktemp("out") / "site", data_folder=None)
    return write_report(made.store, request, on_progress=lambda line: None).parent / "experiments" / "made_up"


FAULTS = {
    "a failed seed": (
        "| dapo ets",
        "(1 of 2 seeds)",
        "dapo · ets · 0.2 · seed 1: failed: CUDA out of memory",
    ),
    "two graders": ("| dapo gmts", "| seeds graded by 2", "graded by several versions"),
    "a score that is not a number": (
        "| grpo full",
        "(1 of 2 seeds)",
        "grpo · full · seed 1: its score is not a number",
    ),
    "another grader": ("| grpo ets", "| – | – | – | – |", "not compared with dense"),
    "an arm that was not run": ("| grpo gmts", "| not run yet |", "grpo · gmts · 0.2 · seed 0: not run yet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stands_in_its_row_and_below_the_table(rows: dict[str, str], fault: str) -> None:
    row, cell, note = FAULTS[fault]
    assert cell in rows[row]
    assert note.lower() in rows["notes"].lower()


def test_the_changed_experiment_is_the_first_note_of_both_tables(rows: dict[str, str], beside: str) -> None:
    for notes in (rows["notes"], beside[beside.index("- Warning") :]):
        assert "changed.yaml changed since this sweep: 10 of its trials were not planned then" in notes.splitlines()[0]


def test_the_table_beside_the_paper_says_the_same(beside: str) -> None:
    for said in (
        "(1 of 2 seeds)",
        "seeds graded by 2 versions",
        "(grader grader000000)",
        "not run yet",
        "failed: CUDA out of memory: dapo · ets · 0.2 · seed 1",
        "its score is not a number: grpo · full · seed 1",
        "Graded by several versions: grader123456 (6 scores), grader000000 (3 scores)",
    ):
        assert said in beside, said


def test_the_page_says_the_same(site: Path) -> None:
    page = (site / "index.html").read_text()
    for said in (
        "changed since this sweep: 10 of its trials were not planned then",
        "(1 of 2 seeds)",
        "seeds graded by 2 versions: grader123456, grader000000",
        "grader grader000000",
        "not run yet",
        "dapo · ets · 0.2 · seed 1: failed: CUDA out of memory",
        "grpo · full · seed 1: its score is not a number",
        "Graded by several versions",
    ):
        assert said in page, said
    assert "nan" not in page.lower().replace("provenance", "")


def test_the_paper_stands_beside_with_its_doubts_and_claims(site: Path) -> None:
    page = (site / "index.html").read_text()
    assert "Beside GMTS Table 4 (section 4.4)" in page
    assert '<small class="printed">printed 24.58</small>' in page
    assert ", ours only</small>" in page
    assert '<span class="absent">not run yet</span>' in page
    assert 'class="verdict not-measured">not measured<' in page
    audit = (site.parents[1] / "audit.html").read_text()
    assert "What does not add up in gmts_table1, gmts_table4." in audit
    assert "24.58" in audit


def test_each_trial_has_its_reason_on_its_own_page(made: MadeUp, site: Path) -> None:
    def page(number: int) -> str:
        return (site / "trials" / f"{made.trials[number].trial.id}.html").read_text()

    assert "CUDA out of memory" in page(3)
    assert "its score is not a number" in page(7)
    assert "<code>grader000000</code>" in page(8)
    assert "None: not run yet." in page(10)


def test_no_number_is_made_of_two_graders_or_of_nothing(made: MadeUp) -> None:
    averages = {row.labels[:2]: row.average.avg for row in table(frame(made.store, "made_up")).rows}
    assert averages["dapo", "gmts"] is None
    assert averages["grpo", "gmts"] is None
    record = made.store.read(made.trials[6].trial.id)
    assert averages["grpo", "full"] == pytest.approx(record.scores[0].avg)
