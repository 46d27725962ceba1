"""`orch paper list · show · audit`: the papers' published numbers, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import AsJson
from orchestrator.cli.terminal import print_json

paper = typer.Typer(help="Published numbers of the papers: list, show, audit.", no_args_is_help=True)


@paper.command("list")
def list_tables(as_json: AsJson = False) -> None:
    """List every table, figure and passage whose numbers are kept."""
    from dashboards.papers.load import load_papers
    from dashboards.papers.show import render_list

    papers = load_papers()
    if as_json:
        print_json([{"id": table.id, "place": table.place(), "caption": table.caption} for table in papers.values()])
        return
    _print(render_list(papers))
    typer.echo("\nnext: orch paper show gmts_table4 · orch paper audit")


@paper.command("show")
def show_table(
    table: Annotated[str, typer.Argument(help="Id from `orch paper list`, for example gmts_table4.")],
    as_json: AsJson = False,
) -> None:
    """Show one table as printed, with its footnotes, known doubts and claims."""
    from dashboards.papers.load import find_table, load_papers
    from dashboards.papers.show import render_table

    published = find_table(table)
    if as_json:
        print_json(published)
        return
    _print(render_table(published, load_papers()))


@paper.command("audit")
def audit_tables(
    table: Annotated[str | None, typer.Option(help="Only what concerns this table.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute averages and claims; find duplicated rows, impossible scores, outliers. Finding some is no error."""
    from dashboards.papers.audit import audit
    from dashboards.papers.load import find_table, load_papers
    from dashboards.papers.show import render_findings

    findings = audit(load_papers())
    if table is not None:
        wanted = find_table(table).id
        findings = [finding for finding in findings if finding.table == wanted]
    if as_json:
        print_json(findings)
        return
    _print(render_findings(findings))


def _print(renderable: object) -> None:
    """Print to the terminal at its width; elsewhere wide enough that no number is cut."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240, soft_wrap=False)
    console.print(renderable)
