"""`orch grade`: what a grader says about an answer and why, or all graders, for one pair or a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from eval.graders.api import GraderName
from orchestrator.cli.judge import JudgeModel, JudgeUrl
from orchestrator.cli.options import RUNS, AsJson, StoreFolder

if TYPE_CHECKING:
    from eval.api import Grade, Problem
    from eval.graders.api import Grader

Kind = Literal["integer", "choice", "numeric", "expression"]


def grade(
    answer: Annotated[str | None, typer.Argument(help="A bare answer, or a response with a \\boxed{} one.")] = None,
    gold: Annotated[str | None, typer.Argument(help="The right answer.")] = None,
    kind: Annotated[Kind, typer.Option(help="How answers may be compared.")] = "expression",
    tolerance: Annotated[float | None, typer.Option(help="Absolute error accepted, for --kind numeric.")] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(help="Rows {answer or response, gold, kind?, tolerance?, choices?, question?}; a verdict each."),
    ] = None,
    grader: Annotated[GraderName, typer.Option(help="Who says it.")] = "ours",
    every: Annotated[
        bool, typer.Option("--all", help="What all graders say; the judge too, where its model is named.")
    ] = False,
    question: Annotated[str, typer.Option(help="What was asked: the judge reads it.")] = "",
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Grade an answer against a gold answer; write `--` before an answer that begins with a dash."""
    import json

    from eval.errors import DataError

    graders = _graders(grader, store, every=every, judge_model=judge_model, judge_url=judge_url)
    if jsonl is not None:
        _grade_file(jsonl, kind, graders, every=every)
        return
    if answer is None or gold is None:
        raise DataError("nothing to grade", fix="orch grade ANSWER GOLD, or orch grade --jsonl FILE")
    problem = _problem({"gold": gold, "tolerance": tolerance, "question": question}, kind)
    asked = Asked(answer, "\\boxed" in answer or "\\fbox" in answer, problem)
    verdicts = {one.name: _said_by(one, [asked])[0] for one in graders}
    if as_json:
        rows = {name: _as_row(verdict) for name, verdict in verdicts.items()}
        typer.echo(json.dumps(rows if every else rows[grader], ensure_ascii=False))
    elif every:
        _print_all(verdicts, gold, kind)
    else:
        _print_one(verdicts[grader], gold, kind)


def _graders(
    name: GraderName, store: Path, *, every: bool, judge_model: str | None, judge_url: str | None
) -> list[Grader]:
    from eval.graders.api import GRADERS
    from orchestrator.cli.judge import open_named

    if not every:
        return [open_named(name, store, judge_model=judge_model, judge_url=judge_url)]
    has_judge = bool(judge_model or judge_url)
    return [
        open_named(one, store, judge_model=judge_model, judge_url=judge_url)
        if one == "judge"
        else open_named(one, store)
        for one in GRADERS
        if one != "judge" or has_judge
    ]


class Asked(NamedTuple):
    """One pair to grade."""

    text: str
    is_response: bool
    """A whole response, not a bare answer."""
    problem: Problem


def _said_by(grader: Grader, asked: list[Asked]) -> list[Grade]:
    """Ours takes a bare answer as it stands; the others know responses only, and are given it in a box."""
    from eval.grading import grade_answer_async, grade_async

    if grader.name == "ours":
        pending = [(grade_async if one.is_response else grade_answer_async)(one.text, one.problem) for one in asked]
        return [future.result() for future in pending]
    return grader.grade_many((one.text if one.is_response else f"\\boxed{{{one.text}}}", one.problem) for one in asked)


def _print_one(verdict: Grade, gold: str, kind: Kind) -> None:
    typer.echo(f"{_word(verdict)}   {_reason(verdict)}")
    typer.echo(f"answer  {verdict.answer if verdict.answer is not None else '–'}")
    typer.echo(f"gold    {gold}   ({kind})")
    typer.echo(f"decided in {verdict.elapsed_ms:.2f} ms by {verdict.method}, grader {verdict.grader_version}")


def _print_all(verdicts: dict[GraderName, Grade], gold: str, kind: Kind) -> None:
    for name, verdict in verdicts.items():
        typer.echo(f"{name:<12} {_word(verdict)}   {_reason(verdict)}")
    answers = dict.fromkeys(verdict.answer for verdict in verdicts.values() if verdict.answer is not None)
    typer.echo(f"answer       {' | '.join(answers) or '–'}")
    typer.echo(f"gold         {gold}   ({kind})")
    typer.echo(f"graders      {', '.join(verdict.grader_version for verdict in verdicts.values())}")


def _word(verdict: Grade) -> str:
    return typer.style("right", fg="green") if verdict.is_correct else typer.style("wrong", fg="red")


def _grade_file(file: Path, kind: Kind, graders: list[Grader], *, every: bool) -> None:
    import json

    from eval.errors import DataError

    rows: list[dict[str, Any]] = []
    asked: list[Asked] = []
    for row, where in _rows(file):
        problem = _problem(row, kind, where)
        if isinstance(row.get("response"), str):
            asked.append(Asked(row["response"], True, problem))
        elif isinstance(row.get("answer"), str | int | float):
            asked.append(Asked(str(row["answer"]), False, problem))
        else:
            raise DataError("a row has neither answer nor response", where=where)
        rows.append(row)
    said = {one.name: _said_by(one, asked) for one in graders}
    for place, row in enumerate(rows):
        verdicts = {name: _as_row(grades[place]) for name, grades in said.items()}
        found = {"verdicts": verdicts} if every else {"verdict": next(iter(verdicts.values()))}
        typer.echo(json.dumps(row | found))


def _rows(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    from eval.benchmarks.registry import rows_of_file

    yield from rows_of_file(file)


def _problem(row: dict[str, Any], kind: Kind, where: str = "command line") -> Problem:
    from typing import get_args

    from eval.api import AnswerKind, Problem
    from eval.errors import DataError

    if row.get("gold") is None or not str(row["gold"]).strip():
        raise DataError("a row has no gold answer", where=where, fix='each row needs "gold": "…"')
    stated = row.get("kind", kind)
    if stated not in get_args(AnswerKind):
        raise DataError(f"unknown answer kind {stated!r}", where=where, fix=f"one of {', '.join(get_args(AnswerKind))}")
    tolerance = row.get("tolerance", row.get("error"))
    return Problem(
        id="graded",
        question=str(row.get("question") or ""),
        answer=str(row["gold"]).strip(),
        kind=stated,
        tolerance=float(tolerance) if tolerance else None,
        choices=tuple(str(choice) for choice in row.get("choices") or ()),
    )


def _as_row(verdict: Grade) -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(verdict)
    return row | {"elapsed_ms": round(row["elapsed_ms"], 3)}


def _reason(verdict: Grade) -> str:
    return {
        "none": "no \\boxed{} answer was found",
        "unclosed": "the box is never closed",
        "empty": "the answer is empty",
        "timeout": "grading was given up: such answers count as wrong",
        "undecided": "neither the exact path nor math_verify could tell: such answers count as wrong",
        "crash": "the answer could not be evaluated: such answers count as wrong",
    }.get(verdict.status) or _REASONS.get(verdict.method.removesuffix("_unit"), verdict.method)


_REASONS = {
    "exact": "compared as text after normalising the spelling",
    "fraction": "compared as exact numbers",
    "tolerance": "compared as numbers within the stated tolerance",
    "text": "compared as words",
    "choice": "compared as options",
    "base": "compared digits and base",
    "parts": "compared part by part",
    "time": "compared as times of day",
    "too_long": "longer than any answer: compared as text only",
    "too_many_parts": "a list of dozens is no answer to a question with one",
    "side_by_side": "several numbers side by side are no answer",
    "formula": "compared by value at points of both signs and several scales",
    "equation": "compared as equations",
    "ratio": "compared as ratios",
    "tautology": "an equation that says nothing",
    "unit": "compared with their units",
    "empty": "nothing is said",
    "empty_set": "the empty set against something",
    "infinite": "infinity against a number",
    "not_a_number": "an integer must be written as one",
    "math_verify": "compared symbolically",
    "qwen": "by the rules of Qwen2.5-Math's evaluation",
    "prime": "by the rules of PRIME's reward",
    "judge": "by what a model says",
}
