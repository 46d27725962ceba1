"""`orch data`: which benchmarks and training sets there are, whether their files are right, and what they share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.options import AsJson, DataFolder
from orchestrator.cli.terminal import print_json

data = typer.Typer(help="Benchmarks and training sets: list, check, fetch, overlap.", no_args_is_help=True)


@data.command("list")
def list_sets(data_dir: DataFolder = None, as_json: AsJson = False) -> None:
    """List every set with its source, count, licence, and whether its file is here."""
    from eval.benchmarks.registry import NAMES, declared, find_file

    rows: list[dict[str, Any]] = []
    for name in NAMES:
        declaration = declared(name)
        file = find_file(declaration, data_dir) if declaration.file else None
        sources = [f"{s.repository}@{(s.revision or 'main')[:8]}" for s in declaration.hub]
        rows.append(
            {
                "name": name,
                "purpose": declaration.purpose,
                "count": declaration.count,
                "kind": declaration.kind,
                "source": ", ".join(dict.fromkeys(sources)) or ("a file" if declaration.file else "generated"),
                "digest": declaration.digest,
                "licence": declaration.licence,
                "file": str(file) if file else None,
                "note": declaration.note,
            }
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        here = "generated" if row["source"] == "generated" else "here" if row["file"] else "hub"
        typer.echo(
            f"{row['name']:<17}{row['purpose']:<11}{row['count']:>6}  {row['kind']:<11}{here:<10}{row['source']}"
        )
        if row["note"]:
            typer.echo(f"{'':<17}{row['note']}")


@data.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Sets to check; all whose file is here without it.")] = None,
    data_dir: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check each row of the local files against the declarations; exit 2 when one differs.

    Also lists golds that are not compared as they stand, with what is compared instead.
    """
    from eval.benchmarks.registry import NAMES, declared, find_file, load
    from eval.errors import DataError
    from eval.grading.golds import judge_golds

    chosen = names or [
        name for name in NAMES if not declared(name).file or find_file(declared(name), data_dir) is not None
    ]
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    for name in chosen:
        try:
            benchmark = load(name, data_folder=data_dir)
            golds = [
                {"id": one.id, "gold": one.gold, "message": one.message} for one in judge_golds(benchmark.problems)
            ]
            rows.append(
                {"name": name, "ok": True, "count": len(benchmark.problems), "digest": benchmark.digest, "golds": golds}
            )
        except DataError as error:
            problems.append(name)
            rows.append({"name": name, "ok": False, "message": str(error)})
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(
                f"{row['name']:<17}ok  {row['count']:>6} rows  {str(row['digest'])[:12]}"
                if row["ok"]
                else f"{row['name']:<17}BAD {row['message']}"
            )
            for gold in row.get("golds", ()):
                typer.echo(f"{'':<17}{gold['id']}  {gold['gold']!r}: {gold['message']}")
    if problems:
        raise DataError(f"{len(problems)} of {len(chosen)} sets are not as declared: {', '.join(problems)}")


@data.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Sets to fetch from the Hugging Face hub.")],
    data_dir: DataFolder = None,
) -> None:
    """Fetch sets at their pinned revision, verify them, and keep them as jsonl files."""
    from eval.benchmarks.hub import fetch as fetch_set
    from eval.benchmarks.registry import cache_folder, declared

    for name in names:
        typer.echo(fetch_set(declared(name), data_dir or cache_folder()))


@data.command()
def overlap(
    train: Annotated[str, typer.Argument(help="Training set, or a .jsonl path.")],
    bench: Annotated[str, typer.Argument(help="Benchmark, or a .jsonl path.")],
    words: Annotated[int, typer.Option(help="Length of the word n-grams compared.")] = 13,
    data_dir: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Report benchmark questions whose word n-grams occur in the training set."""
    from eval.benchmarks.registry import load
    from eval.contamination import overlapping

    found = overlapping(load(train, data_folder=data_dir), load(bench, data_folder=data_dir), words=words)
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{len(found.matches)} of {found.num_problems} questions of {bench} share {words} or more words in a row with "
        f"{train}; {found.num_identical} are the same question"
    )
    for match in found.matches[:20]:
        typer.echo(f"  {match.share:4.0%}  {match.benchmark_id}  {match.train_id}  {match.excerpt}")
    if len(found.matches) > 20:
        typer.echo(f"  … and {len(found.matches) - 20} more: --json lists all")
