"""Render published tables, claims and audit findings for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dashboards.papers.claims import Outcome, check_claim
from dashboards.papers.finding import Finding
from dashboards.papers.published import Cell, Papers, PublishedTable

_OUTCOMES: dict[Outcome, str] = {
    "holds": "[green]the numbers give it[/]",
    "rounding": "[green]within rounding[/]",
    "fails": "[bold red]the numbers do not give it[/]",
    "unprinted": "[dim]numbers not printed[/]",
}
_STYLES = {"none": "", "bold": "bold", "underline": "underline"}


def render_list(papers: Papers) -> Table:
    """List what there is: id, place, rows × columns, numbers, claims."""
    table = Table("id", "paper", "what", "section", "rows × columns", "numbers", "claims", box=None, pad_edge=False)
    for published in papers.values():
        numbers = sum(cell is not None for row in published.rows for cell in row.cells)
        table.add_row(
            published.id,
            published.paper.upper(),
            published.number,
            published.section,
            f"{len(published.rows)} × {len(published.columns)}" if published.rows else "",
            str(numbers) if numbers else "",
            str(len(published.claims)) if published.claims else "",
        )
    return table


def render_table(published: PublishedTable, papers: Papers) -> RenderableType:
    """Show one table as printed, then its footnotes, doubts and claims."""
    title = f"[bold]{escape(published.place())}[/]\n{escape(published.caption)}"
    parts: list[RenderableType] = [Text.from_markup(title)]
    if published.shows:
        parts.append(Text(f"draws the numbers of {', '.join(published.shows)}"))
    if published.experiments:
        parts.append(Text("run by " + ", ".join(f"experiments/{name}.yaml" for name in published.experiments)))
    if published.rows:
        parts.append(_render_numbers(published))
    parts += [Text.from_markup(line) for line in _notes(published, papers)]
    return Group(*parts)


def render_findings(findings: Sequence[Finding]) -> RenderableType:
    """Show findings grouped by what was checked in which table, doubts first."""
    parts: list[RenderableType] = []
    for place, group in groupby(findings, key=lambda finding: (finding.severity, finding.place)):
        parts.append(Text.from_markup(f"[bold]{escape(place[1])}[/]"))
        for finding in group:
            style = "red" if finding.severity == "doubt" else "yellow"
            parts.append(
                Text.from_markup(f"  [{style}]{finding.severity}[/] {finding.check}: {escape(finding.message)}")
            )
    doubts = sum(finding.severity == "doubt" for finding in findings)
    parts.append(Text(f"{doubts} doubts, {len(findings) - doubts} notes"))
    return Group(*parts)


def _render_numbers(published: PublishedTable) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in published.columns:
        table.add_column(column.label, justify="right")
    models = {row.arm.model for row in published.rows}
    block = None
    for row in published.rows:
        if row.block != block and row.block in models:
            table.add_row(Text(row.block or "", style="bold"))
        block = row.block
        table.add_row(escape(row.label), *(_render_cell(cell) for cell in row.cells))
    return table


def _render_cell(cell: Cell | None) -> Text:
    return Text("") if cell is None else Text(cell.text, style=_STYLES[cell.emphasis])


def _notes(published: PublishedTable, papers: Papers) -> Iterator[str]:
    yield f"[dim]Emphasis: {escape(published.emphasis.rule)}[/]"
    if published.sampling is not None:
        yield f"[dim]{published.sampling.text}: {escape(published.sampling.stated_in)}[/]"
    yield from (f"[dim]Note: {escape(note)}[/]" for note in published.footnotes)
    yield from (f"[yellow]Doubt: {escape(doubt)}[/]" for doubt in published.doubts)
    for claim in published.claims:
        check = check_claim(claim, papers)
        found = ""
        if claim.stated is not None and len(check.found) == 1:
            found = f" ({check.found[0]:+.2f})"
        yield f"Claim {claim.id} ({escape(claim.place)}): “{escape(claim.quote)}”: {_OUTCOMES[check.outcome]}{found}"
