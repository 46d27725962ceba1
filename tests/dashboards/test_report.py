"""`orch report`: what stands on the pages, read as text; `test_report_browser` opens them."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_up import MadeUp

from dashboards.render import p_text
from dashboards.report.site import MARK, Request, write_report
from dashboards.report.transcripts import read_transcripts
from dashboards.report.trial_page import flat
from dashboards.report.wording import duration, with_error
from eval.api import Completion, Grade, Problem
from eval.samples import Sample, SampleStore
from orchestrator.cli import main
from orchestrator.errors import OrchError
from trainers.recipe import Model

ARMS = (("grpo", "full"), ("grpo", "ets"), ("dapo", "ets"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Two of three arms are whole, one lacks a seed that failed."""
    sweep = MadeUp(tmp_path_factory.mktemp("made"), arms=ARMS, seeds=(0, 1))
    for number, planned in enumerate((sweep.base, *sweep.trials[:-1])):
        sweep.finish(planned, rate=0.3 + 0.1 * number)
    sweep.fail(sweep.trials[-1], "out of memory <at step 3>")
    diagnose(sweep, sweep.trials[0].trial.id)
    return sweep


def diagnose(sweep: MadeUp, trial_id: str) -> None:
    """Leave what `orch diagnose` does: one response of two tokens, and a picture."""
    folder = sweep.store.trial_folder(trial_id) / "diagnosis" / "final"
    folder.mkdir(parents=True)
    numbers = {"entropy": 0.5, "probability": 0.25, "purity": 0.2, "js": 0.1, "omega": -1.0}
    tokens = [
        {"uid": 1, "position": place, "text": text, "advantage": 0.97, "reward": 1.0, **numbers}
        | {"selected_ets": place == 0, "selected_gmts": True}
        for place, text in enumerate(("<b", "9"))
    ]
    pd.DataFrame(tokens).to_parquet(folder / "tokens.parquet")
    (folder / "overlap.png").write_bytes(b"a picture")


@pytest.fixture(scope="module")
def site(made: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    return written(made, tmp_path_factory.mktemp("out") / "site").parent


def written(made: MadeUp, folder: Path, *names: str) -> Path:
    request = Request(experiments=names or ("made_up",), folder=folder, data_folder=None)
    return write_report(made.store, request, on_progress=lambda line: None)


class Links(HTMLParser):
    """Everything that a page refers to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def test_every_reference_is_a_file_of_the_report(made: MadeUp, site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 1 + 6 + len(made.plan.entries) + 1
    for page in pages:
        for target in Links(page).found:
            if target.startswith("#"):
                assert f'id="{target[1:]}"' in page.read_text(), f"{page.name} lacks {target}"
            elif target != "data:,":
                assert (page.parent / target).is_file(), f"{page.name} refers to {target}"


def test_partial_seeds_and_failures_stand_in_their_place(made: MadeUp, site: Path) -> None:
    results = (site / "experiments/made_up/index.html").read_text()
    assert "6 done, 1 failed of 7 trials" in results
    assert "(1 of 2 seeds)" in results
    trial = (site / f"experiments/made_up/trials/{made.trials[-1].trial.id}.html").read_text()
    assert "out of memory &lt;at step 3&gt;" in trial
    assert "None on file." in trial


def test_a_trial_page_shows_what_differs_from_its_dense_arm(made: MadeUp, site: Path) -> None:
    page = (site / f"experiments/made_up/trials/{made.trials[2].trial.id}.html").read_text()
    differing = re.findall(r'<th scope="row" class="label"><code>([a-z._]+)</code></th><td class="label"><del>', page)
    assert differing == ["selection.method", "selection.ratio"]
    assert f'<a href="{made.trials[0].trial.id}.html">grpo · full · seed 0</a>' in page


def test_tables_carry_the_values_that_columns_sort_by(made: MadeUp, site: Path) -> None:
    page = (site / "experiments/made_up/index.html").read_text()
    entry = made.store.read(made.base.trial.id).scores[0]
    assert f'<td data-sort="{entry.avg:.10g}">{100 * entry.avg:.1f} ± {100 * entry.standard_error:.1f}</td>' in page


def test_figures_lie_beside_the_pages(site: Path) -> None:
    assert {file.name for file in (site / "figures/made_up").iterdir()} == {
        f"{name}.{suffix}"
        for name in ("scores", "reward_mean", "tokens_entropy", "high_to_low", "accuracy_hours")
        for suffix in ("pdf", "png")
    }


def test_a_trial_page_marks_the_tokens_of_each_selector(made: MadeUp, site: Path) -> None:
    trials = site / "experiments/made_up/trials"
    page = (trials / f"{made.trials[0].trial.id}.html").read_text()
    title = 'title="H 0.500, p 0.250, JS 0.100, ω -1.000"'
    assert f'<span data-by="ets gmts" {title}>&lt;b</span><span data-by="gmts" {title}>9</span>' in page
    assert "ets <small>1 of 2</small>" in page
    assert (trials / made.trials[0].trial.id / "final" / "overlap.png").read_bytes() == b"a picture"
    assert "is not measured yet" not in page


def test_a_trained_trial_that_nobody_diagnosed_names_the_command(made: MadeUp, site: Path) -> None:
    trials = site / "experiments/made_up/trials"
    undiagnosed, untrained = made.trials[1].trial.id, made.base.trial.id
    assert f"<code>orch diagnose {undiagnosed}</code>" in (trials / f"{undiagnosed}.html").read_text()
    assert "orch diagnose" not in (trials / f"{untrained}.html").read_text()


def test_several_experiments_share_a_report_and_a_figure_across_models(tmp_path: Path) -> None:
    arms = (("grpo", "full"), ("grpo", "ets"), ("grpo", "gmts"))
    small = MadeUp(tmp_path, arms=arms)
    large = MadeUp(tmp_path, arms=arms, experiment="large")
    model = Model(path="models/large")
    entries = tuple(
        replace(one, trial=replace(one.trial, id=one.trial.id[::-1], model=model, model_digest="e5f6"))
        for one in large.plan.entries
    )
    large.store.plans.save(replace(large.plan, entries=entries))
    for number, planned in enumerate((*small.plan.entries, *entries)):
        small.finish(planned, rate=0.3 + 0.05 * number)
    folder = written(small, tmp_path / "site", "made_up", "large").parent
    assert (folder / "experiments/large/index.html").is_file()
    assert '"x":["builtin:arithmetic-tiny","large"]' in (folder / "index.html").read_text()
    assert (folder / "figures/gain_by_model.pdf").is_file()


def test_an_experiment_without_any_run_has_a_report(tmp_path: Path) -> None:
    folder = written(MadeUp(tmp_path), tmp_path / "site").parent
    assert "no arm is scored yet" in (folder / "index.html").read_text()
    assert "Nothing to draw yet" in (folder / "experiments/made_up/figures.html").read_text()


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    made, folder = MadeUp(tmp_path), tmp_path / "site"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(OrchError, match="holds something else"):
        written(made, folder)
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    (folder / MARK).touch()
    written(made, folder)
    assert (folder / "index.html").is_file()
    assert not (folder / "mine.txt").exists()


def test_the_command_prints_the_page_to_open(tmp_path: Path, monkeypatch, capsys) -> None:
    made = MadeUp(tmp_path)
    arguments = ["report", "made_up", "--store", str(made.root / "runs"), "--out", str(tmp_path / "site"), "--json"]
    monkeypatch.setattr("sys.argv", ["orch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["index"] == str(tmp_path / "site" / "index.html")


def test_an_unknown_experiment_is_refused_before_anything_is_written(
    made: MadeUp, tmp_path: Path, monkeypatch, capsys
) -> None:
    arguments = ["report", "made_upp", "--store", str(made.root / "runs"), "--out", str(tmp_path / "site")]
    monkeypatch.setattr("sys.argv", ["orch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "here are: made_up" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_transcripts_are_the_first_of_each_verdict_one_a_problem(tmp_path: Path) -> None:
    with SampleStore(tmp_path) as store:
        for number in range(12):
            store.append(sample(number))
    problems = {"q0": Problem(id="q0", question="1 + 1?", answer="2", kind="integer")}
    found = read_transcripts(tmp_path, "sums", problems)
    assert [(one.problem_id, one.is_correct) for one in found] == [
        ("q0", True),
        ("q1", True),
        ("q2", True),
        ("q0", False),
        ("q1", False),
        ("q2", False),
    ]
    assert [one.question for one in found[:2]] == ["1 + 1?", None]


def sample(number: int) -> Sample:
    completion = Completion(
        problem_id=f"q{number // 2 % 5}", index=number, text=r"\boxed{2}", num_tokens=3, finish_reason="stop"
    )
    grade = Grade(
        is_correct=number % 2 == 0, answer="2", method="integer", status="ok", elapsed_ms=0.1, grader_version="g"
    )
    return Sample(key="k" * 24, completion=completion, grade=grade, engine="hf")


def test_numbers_read_as_in_tables() -> None:
    assert with_error(0.565, 0.028) == "56.5 ± 2.8"
    assert with_error(0.02, float("nan"), signed=True) == "+2.0"
    assert [p_text(value) for value in (None, 0.0004, 0.0321)] == ["–", "<0.001", "0.032"]
    assert [duration(value) for value in (48.2, 185.0, 7800.0, 300000.0)] == [
        "48 s",
        "3 min 05 s",
        "2 h 10 min",
        "3.5 d",
    ]
    assert flat({"a": {"b": 1, "c": [2]}, "d": None}) == {"a.b": 1, "a.c": [2], "d": None}
