"""`orch grade`: what the grader says about an answer and why, for one pair or a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from eval.api import Grade, Problem

Kind = Literal["integer", "choice", "numeric", "expression"]


def grade(
    answer: Annotated[str | None, typer.Argument(help="A bare answer, or a response with a \\boxed{} one.")] = None,
    gold: Annotated[str | None, typer.Argument(help="The right answer.")] = None,
    kind: Annotated[Kind, typer.Option(help="How answers may be compared.")] = "expression",
    tolerance: Annotated[float | None, typer.Option(help="Absolute error accepted, for --kind numeric.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help="Rows {answer or response, gold, kind?, tolerance?, choices?}; a verdict each.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Grade an answer against a gold answer; write `--` before an answer that begins with a dash."""
    import json

    from eval.errors import DataError

    if jsonl is not None:
        _grade_file(jsonl, kind)
        return
    if answer is None or gold is None:
        raise DataError("nothing to grade", fix="orch grade ANSWER GOLD, or orch grade --jsonl FILE")
    problem = _problem({"gold": gold, "tolerance": tolerance}, kind)
    verdict = _verdict(answer, problem)
    if as_json:
        typer.echo(json.dumps(_as_row(verdict), ensure_ascii=False))
        return
    word = typer.style("right", fg="green") if verdict.is_correct else typer.style("wrong", fg="red")
    typer.echo(f"{word}   {_reason(verdict)}")
    typer.echo(f"answer  {verdict.answer if verdict.answer is not None else '–'}")
    typer.echo(f"gold    {gold}   ({kind})")
    typer.echo(f"decided in {verdict.elapsed_ms:.2f} ms by {verdict.method}, grader {verdict.grader_version}")


def _grade_file(file: Path, kind: Kind) -> None:
    import json

    from eval.errors import DataError
    from eval.grading import grade_answer_async, grade_async

    pending = []
    for row, where in _rows(file):
        problem = _problem(row, kind, where)
        if isinstance(row.get("response"), str):
            pending.append((row, grade_async(row["response"], problem)))
        elif isinstance(row.get("answer"), str | int | float):
            pending.append((row, grade_answer_async(str(row["answer"]), problem)))
        else:
            raise DataError("a row has neither answer nor response", where=where)
    for row, verdict in pending:
        typer.echo(json.dumps(row | {"verdict": _as_row(verdict.result())}))


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
        question="",
        answer=str(row["gold"]).strip(),
        kind=stated,
        tolerance=float(tolerance) if tolerance else None,
        choices=tuple(str(choice) for choice in row.get("choices") or ()),
    )


def _verdict(text: str, problem: Problem) -> Grade:
    from eval.grading import grade as grade_response
    from eval.grading import grade_answer

    return grade_response(text, problem) if "\\boxed" in text or "\\fbox" in text else grade_answer(text, problem)


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
}
