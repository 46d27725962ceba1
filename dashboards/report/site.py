"""Write a report: pages from templates, figures for paper, the two scripts. Nothing in it asks the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.figures.experiment import experiment_drawings
from dashboards.figures.plotly_drawing import plotly_figure
from dashboards.figures.printed import draw_printed_gains
from dashboards.figures.pyplot_drawing import write_drawing
from dashboards.figures.scores_drawn import draw_gains_by_model
from dashboards.figures.swept import Swept, label_of, read_swept, seeds_said
from dashboards.papers.comparison_table import compare_with_paper, published_of
from dashboards.render import difference_text, has_checkpoints, p_cell, p_text, with_error
from dashboards.report import wording
from dashboards.report.contrasts import contrasts
from dashboards.report.costs import costs
from dashboards.report.headlines import headlines
from dashboards.report.origins import origins
from dashboards.report.transcripts import problems_at_hand
from dashboards.report.trial_page import TrialPage, TrialPages
from dashboards.table import Row
from orchestrator.errors import OrchError
from orchestrator.store.redact import now
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from jinja2 import Environment

MARK = ".orch-report"
"""Lies in every report, so that only a report is ever replaced by one."""
HERE = Path(__file__).parent
STATIC = ("report.css", "report.js")
LEGIBLE_STATES = {
    "done": "done",
    "failed": "failed",
    "stopped": "stopped",
    "running": "running",
    "missing": "not run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a report is made of, and where it goes."""

    experiments: tuple[str, ...]
    folder: Path
    data_folder: Path | None
    """Where benchmark files lie, for the questions beside completions."""


def write_report(store: Store, request: Request, *, on_progress: Callable[[str], None]) -> Path:
    """Write the pages and return `index.html`; an earlier report in the folder is replaced as a whole.

    Raises:
        StoreError: no such experiment, or a record does not read.
        OrchError: the folder holds something else than a report.
    """
    _check_replaceable(request.folder)
    experiments = [read_swept(store, name) for name in request.experiments]
    draft = request.folder.with_name(f".{request.folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _copy_static(draft)
    site = _Site(draft, experiments)
    questions = cache(lambda name: problems_at_hand(name, request.data_folder))
    for swept in experiments:
        on_progress(f"{swept.name}: {len(swept.plan.entries)} trials")
        pages = TrialPages(swept=swept, store=store, problems=questions)
        site.write_experiment(swept, pages, store)
        site.write_trials(swept, pages)
    site.write_audit()
    site.write_index()
    shutil.rmtree(request.folder, ignore_errors=True)
    draft.rename(request.folder)
    return request.folder / "index.html"


class _Site:
    """The pages of one report."""

    def __init__(self, folder: Path, experiments: Sequence[Swept]) -> None:
        self.folder = folder
        self.experiments = experiments
        self.overviews: list[dict[str, Any]] = []
        self.environment = _environment()
        self.made_at = now()

    def write_experiment(self, swept: Swept, pages: TrialPages, store: Store) -> None:
        """Results, figures, trials, significance, cost and provenance of one experiment."""
        folder = f"experiments/{swept.name}"
        drawings = experiment_drawings(swept)
        for drawing in drawings:
            write_drawing(drawing, self.folder / "figures" / swept.name)
        states = [pages.states[planned.trial.id] for planned in swept.plan.entries]
        counts = {said: sum(state == name for state, _ in states) for name, said in LEGIBLE_STATES.items()}
        overview = {
            "swept": swept,
            "counts": {said: count for said, count in counts.items() if count},
            "best": best_of(swept),
            "headlines": headlines(swept),
            "num_trials": len(swept.plan.entries),
        }
        self.overviews.append(overview)
        compared = compare_with_paper(store, swept.name) if published_of(swept.plan) else None
        shared = overview | {"name": swept.name, "has_paper": compared is not None, "has_figures": bool(drawings)}
        self._write(f"{folder}/index.html", "results.html", shared | {"compared": compared})
        self._write(f"{folder}/figures.html", "figures.html", shared | {"drawings": drawings})
        trials = [(planned, *pages.states[planned.trial.id]) for planned in swept.plan.entries]
        self._write(f"{folder}/trials.html", "trials.html", shared | {"trials": trials})
        self._write(f"{folder}/significance.html", "significance.html", shared | {"contrasts": contrasts(swept.table)})
        self._write(f"{folder}/cost.html", "cost.html", shared | {"costs": costs(swept, store)})
        self._write(f"{folder}/provenance.html", "provenance.html", shared | {"origins": origins(swept)})

    def write_trials(self, swept: Swept, pages: TrialPages) -> None:
        """One page a trial; a trial that several experiments share has one in each."""
        for planned in swept.plan.entries:
            page = pages.page(planned)
            folder = f"experiments/{swept.name}/trials"
            images = self._copy_images(page, f"{folder}/{page.id}")
            self._write(f"{folder}/{page.id}.html", "trial.html", {"name": swept.name, "page": page, "images": images})

    def write_audit(self) -> None:
        """What does not add up in the published tables that the experiments stand beside; all of them where none do."""
        from dashboards.papers.audit import audit
        from dashboards.papers.load import load_papers

        papers = load_papers()
        named = {table for swept in self.experiments if (block := published_of(swept.plan)) for table in block.tables}
        findings = audit(papers)
        shown = [finding for finding in findings if finding.table in named] if named else findings
        self._write("audit.html", "audit.html", {"findings": shown, "named": sorted(named), "papers": papers})

    def write_index(self) -> None:
        """The page that opens first."""
        drawing = draw_gains_by_model(self.experiments) if len(self.experiments) > 1 else None
        if drawing is not None:
            drawing = replace(drawing, beside=draw_printed_gains([swept.plan for swept in self.experiments]))
            write_drawing(drawing, self.folder / "figures")
        self._write("index.html", "index.html", {"overviews": self.overviews, "drawing": drawing})

    def _write(self, path: str, template: str, values: dict[str, Any]) -> None:
        root = "../" * path.count("/")
        page = self.environment.get_template(template)
        shared = {"root": root, "experiments": self.experiments, "made_at": self.made_at, "path": path}
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page.render(shared | values), encoding="utf-8")

    def _copy_images(self, page: TrialPage, folder: str) -> dict[str, list[tuple[str, str]]]:
        """Policy → (path from the trial's page, what it shows) of its diagnosis figures."""
        copied: dict[str, list[tuple[str, str]]] = {}
        for view in page.diagnoses:
            target = self.folder / folder / view.policy
            target.mkdir(parents=True, exist_ok=True)
            for file, caption in view.images:
                shutil.copyfile(file, target / file.name)
                copied.setdefault(view.policy, []).append((f"{page.id}/{view.policy}/{file.name}", caption))
        return copied


def best_of(swept: Swept) -> Row | None:
    """The trained arm of the highest average; None while none is scored."""
    scored = [row for row in swept.table.rows if row.kind == "train" and row.average.avg is not None]
    return max(scored, key=lambda row: row.average.avg or 0.0, default=None)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("percent", "cell_text", "duration", "sort_key", "plain")
    environment.filters |= {name: getattr(wording, name) for name in names}
    environment.filters |= {
        "p_text": p_text,
        "with_error": with_error,
        "difference_text": difference_text,
        "label_of": label_of,
        "seeds_said": seeds_said,
        "figure_json": _figure_json,
    }
    environment.tests["significant"] = wording.is_significant
    environment.globals |= {"said": LEGIBLE_STATES, "p_cell": p_cell, "has_checkpoints": has_checkpoints}
    return environment


def _figure_json(drawing: Any) -> str:
    """A drawing for a script element of type application/json: no tag can end inside it."""
    from markupsafe import Markup

    text = json.dumps(plotly_figure(drawing), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # escaped for where it stands


def _copy_static(folder: Path) -> None:
    target = folder / "static"
    target.mkdir()
    for name in STATIC:
        shutil.copyfile(HERE / "static" / name, target / name)
    plotly = resources.files("plotly") / "package_data" / "plotly.min.js"
    with resources.as_file(plotly) as file:
        shutil.copyfile(file, target / "plotly.min.js")
    (folder / MARK).touch()


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder / MARK).exists():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise OrchError(
        "the folder for the report holds something else",
        where=str(folder),
        fix="name a new or empty folder, or one of an earlier report, with --out",
    )
