"""What commands that take `--grader` share: the grader that the options name, and what a judge has cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.graders.api import Grader

JudgeModel = Annotated[str | None, typer.Option(help="For --grader judge: the model's name at its endpoint.")]
JudgeUrl = Annotated[
    str | None, typer.Option(help="For --grader judge: an OpenAI-compatible endpoint, up to /v1; key: OPENAI_API_KEY.")
]
FOLDER = "judge"
"""Of a runs folder: what judges said."""


def open_named(name: str, store: Path, *, judge_model: str | None = None, judge_url: str | None = None) -> Grader:
    """Open a grader.

    Raises:
        OrchError: the judge lacks a model or an endpoint, or another grader is given one.
    """
    from eval.graders.judge import JudgeSettings
    from eval.graders.registry import open_grader
    from orchestrator.errors import OrchError

    if name != "judge" and (judge_model or judge_url):
        raise OrchError(
            f"the grader {name} asks no model", fix="--grader judge, or leave --judge-model and --judge-url"
        )
    if not (judge_model and judge_url):
        return open_grader(name)
    return open_grader(name, judge=JudgeSettings(model=judge_model, base_url=judge_url, folder=store / FOLDER))


def cost_line(grader: Grader) -> str:
    """Return what a judge has cost, in one line; nothing for other graders."""
    from eval.graders.judge import JudgeGrader

    if not isinstance(grader, JudgeGrader):
        return ""
    cost = grader.cost
    silent = f", {cost.num_without_usage} replies without a count" if cost.num_without_usage else ""
    return (
        f"judge {grader.settings.model}: {cost.num_asked} asked, {cost.num_cached} from earlier replies; "
        f"{cost.prompt_tokens:,} + {cost.completion_tokens:,} tokens{silent}"
    )
