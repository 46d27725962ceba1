"""The formats of a table beside a paper, and the trace of its cells, over an invented sweep."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import MadeUp

from dashboards.papers.compared import ComparedTable
from dashboards.papers.comparison_table import compare_with_paper
from dashboards.papers.load import load_papers
from dashboards.papers.render import compared_files, grids, render_compared
from orchestrator.cli import main
from orchestrator.cli.sync import open_mirror

ARMS = (("dapo", "full"), ("dapo", "ets"), ("dapo", "gmts"))
BLOCK = {"tables": ["gmts_table1"], "stands_for": {"model": "Qwen2.5-Math-1.5B", "training_data": "math12k"}}


def swept(root: Path, **options) -> MadeUp:
    made = MadeUp(root, **{"arms": ARMS, "published": BLOCK, "benchmarks": ("math500", "arithmetic")} | options)
    made.finish(made.base, rate=0.3)
    for planned, rate in zip(made.trials, (0.5, 0.2, 0.9), strict=False):
        made.finish(planned, rate=rate)
    return made


def beside(made: MadeUp) -> ComparedTable:
    return compare_with_paper(made.store, made.experiment)


def test_a_cell_reads_ours_then_published_then_their_difference(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS, published=BLOCK, benchmarks=("math500", "arithmetic"), seeds=(0, 1, 2, 3))
    for number, planned in enumerate((*made.trials, made.base)):
        made.finish(planned, rate=(0.5, 0.2, 0.95, 0.3)[number // 4])
    table = beside(made)
    cell = table.cell("dapo_gmts_top_20", "math500")
    assert cell.ours is not None
    shown = f"{cell.ours:.1f} ± {cell.standard_error:.1f}* | 73.83 | {cell.delta:+.1f}".replace("-", "−")
    line = next(line for line in render_compared(table, "md").splitlines() if "GMTS Top (20%)" in line)
    cells = [one.strip() for one in line.replace("\\|", "\\").split("|")[1:-1]]
    assert cells[3] == f"**{shown}**".replace("|", "\\")
    assert cells[1] == "14.58"  # AIME2024 is not run here
    assert "MATH-500<br>ours \\| published \\| Δ" in render_compared(table, "md")
    assert "AIME2024<br>published, not run" in render_compared(table, "md")


def test_text_marks_best_and_second_and_keeps_reasons_below(tmp_path: Path) -> None:
    made = swept(tmp_path)
    made.fail(made.trials[1], "out of memory")
    text = render_compared(beside(made), "text", width=200)
    marked = [line for line in text.splitlines() if line.strip().startswith("+ GMTS Top (20%)") and "¹" in line]
    assert marked[-1].rstrip().endswith("¹")
    assert "failed: out of memory | 72.25 | –" in text
    assert "Warning: failed: out of memory: dapo · ets · 0.2 · seed 0" in text


def test_latex_is_plain_booktabs(tmp_path: Path) -> None:
    text = render_compared(beside(swept(tmp_path)), "latex")
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        lines = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(tabular[0]) - 1}
    assert len(re.findall(r"\\(?:top|bottom)rule", text)) == 4
    assert not re.search(r"(?<!\\)[%#_]", text.partition("\n")[2])
    assert r"\textbf{" in text


def test_all_that_the_papers_print_has_a_spelling_in_latex() -> None:
    from dashboards.grid import Grid, latex

    for table in load_papers().values():
        notes = (table.caption, *table.footnotes, *table.doubts, *(claim.quote for claim in table.claims))
        printed = latex([Grid(title=table.place(), headers=("a",), rows=(), num_labels=1, notes=notes)])
        assert printed.isascii(), [sign for sign in printed if not sign.isascii()]


def test_csv_has_a_line_for_each_cell_and_json_no_nan(tmp_path: Path) -> None:
    table = beside(swept(tmp_path))
    lines = list(csv.DictReader(io.StringIO(render_compared(table, "csv"))))
    assert len(lines) == len(table.rows) * len(table.columns)
    (line,) = [one for one in lines if (one["row"], one["column"]) == ("dapo_gmts_top_20", "math500")]
    assert float(line["ours"]) == pytest.approx(table.cell("dapo_gmts_top_20", "math500").ours)
    assert (line["published"], line["state"], line["num_seeds"]) == ("73.83", "ok", "1")
    payload = json.loads(render_compared(table, "json"), parse_constant=lambda name: pytest.fail(name))
    assert payload["rows"][3]["cells"][2]["published"] == "73.83"
    assert {claim["verdict"] for claim in payload["claims"]} <= {
        "reproduced", "contradicted", "underpowered", "not measured", "one seed: no verdict",
    }  # fmt: skip


def test_html_is_well_formed_and_asks_for_nothing(tmp_path: Path) -> None:
    class Reader(HTMLParser):
        opened: list[str]

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert not {"src", "href"} & {name for name, _ in attributes}
            if tag not in ("meta", "br"):
                self.opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.opened.pop() == tag

    reader = Reader()
    reader.opened = []
    reader.feed(render_compared(beside(swept(tmp_path)), "html"))
    assert reader.opened == []


def test_mlflow_gets_the_table_beside_the_paper_with_its_own(tmp_path: Path) -> None:
    made = swept(tmp_path)
    files = open_mirror(made.store, made.experiment, "sqlite:///x.db")._tables()
    assert {"table.md", "published.md", "published.json", "published.tex", "published_full.json"} <= set(files)
    kept = json.loads(files["published.json"])
    assert len(kept["columns"]) == len(kept["data"][0]) == len(grids(beside(made))[0].headers)
    assert files["published.md"] == compared_files(beside(made))["published.md"]


def orch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of the command line."""
    monkeypatch.setattr("sys.argv", ["orch", *arguments])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_why_names_trials_files_and_versions(tmp_path: Path, monkeypatch, capsys) -> None:
    made = swept(tmp_path, arms=(("dapo", "full"), ("dapo", "gmts")), seeds=(0, 1))
    folder = made.store.eval_folder(made.trials[0].trial.id, made.store.read(made.trials[0].trial.id).scores[0].key)
    (folder / "samples.jsonl").write_text("{}\n" * 80)
    made.fail(made.trials[1], "out of memory")
    monkeypatch.chdir(tmp_path)
    assert orch(monkeypatch, "why", "made_up", "DAPO", "MATH-500") == 0
    first, _, failed = capsys.readouterr().out.partition(made.trials[1].trial.id)
    assert first.startswith("made_up · dapo · math500: ")
    assert "(1 of 2 seeds)" in first
    assert "20 questions × 4, grader grader123456" in first
    assert f"80 samples in {folder.relative_to(tmp_path)}/samples.jsonl" in first
    assert "code 0123456789ab" in first
    assert "RuntimeError: out of memory" in failed
    assert "math500: no score" in failed


def test_why_gives_scripts_the_same_as_json(tmp_path: Path, monkeypatch, capsys) -> None:
    made = swept(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert orch(monkeypatch, "why", "made_up", "dapo_gmts_top_20", "arithmetic", "--json") == 0
    (trial,) = json.loads(capsys.readouterr().out)["trials"]
    assert (trial["trial"], trial["seed"], trial["step"]) == (made.trials[2].trial.id, 0, 8)
    assert trial["scores"][0]["score"]["grader_version"] == "grader123456"
    assert trial["scores"][0]["samples_file"] is None


def test_why_works_without_a_paper_and_offers_the_nearest_name(tmp_path: Path, monkeypatch, capsys) -> None:
    made = swept(tmp_path, published=None)
    monkeypatch.chdir(tmp_path)
    assert orch(monkeypatch, "why", "made_up", "dapo,gmts,0.2", "Avg") == 0
    assert made.trials[2].trial.id in capsys.readouterr().out
    assert orch(monkeypatch, "why", "made_up", "dapo,gmts,0.2", "arithmetics") == 2
    assert "did you mean arithmetic?" in capsys.readouterr().err
    assert orch(monkeypatch, "why", "made_up", "dapo,gmts", "Avg") == 2
    assert "did you mean dapo,gmts,0.2?" in capsys.readouterr().err


def test_the_table_beside_the_paper_is_printed_on_request_only(tmp_path: Path, monkeypatch, capsys) -> None:
    swept(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert orch(monkeypatch, "table", "made_up") == 0
    assert "orch table made_up --published" in capsys.readouterr().out
    assert orch(monkeypatch, "table", "made_up", "--published", "--format", "md") == 0
    assert capsys.readouterr().out.startswith("### made_up beside GMTS Table 1")


def test_a_changed_experiment_file_is_warned_of(tmp_path: Path, monkeypatch) -> None:
    from dataclasses import replace

    from dashboards.drift import drift
    from orchestrator.config.spec import load_sweep
    from orchestrator.plan.make import make_plan

    file = tmp_path / "mine.yaml"
    text = (Path(__file__).parents[2] / "experiments" / "smoke.yaml").read_text()
    file.write_text(text)
    plan = make_plan(load_sweep(file))
    assert drift(plan) == ""
    file.write_text(text.replace("[grpo, dapo]", "[grpo]"))
    assert (
        drift(plan)
        == f"{file} changed since this sweep: 5 of those planned then are not wanted any more. Sweep it again."
    )
    file.write_text(text.replace("seeds: [0]", "seeds: [0, 1]"))
    assert drift(plan) == f"{file} changed since this sweep: 10 of its trials were not planned then. Sweep it again."
    file.write_text("defaults: [nothing]")
    assert "does not read any more" in drift(plan)
    assert drift(replace(plan, file=str(tmp_path / "gone.yaml"))) == ""
