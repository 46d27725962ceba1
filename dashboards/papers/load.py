"""Read the YAML files of this folder into published tables, and check that every name in them refers to something."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dashboards.papers.published import CellRef, PaperError, PublishedTable, TableKind
from orchestrator.codec import CodecError, decode

FOLDER = Path(__file__).parent
NOTHING_PRINTED = "-"
KIND_ORDER: tuple[TableKind, ...] = ("table", "figure", "text")


@cache
def load_papers(folder: Path = FOLDER) -> dict[str, PublishedTable]:
    """Read every published table of a folder: id → table, by paper, kind and number.

    Raises:
        PaperError: a file is malformed, or a claim or figure names a table, row or column that does not exist.
    """
    tables = [load_table(file) for file in sorted(folder.glob("*_*.yaml"))]
    tables.sort(key=lambda table: (table.paper, KIND_ORDER.index(table.kind), table.number))
    papers = {table.id: table for table in tables}
    for table in tables:
        _check_references(table, papers)
    return papers


def find_table(table_id: str) -> PublishedTable:
    """Return one published table.

    Raises:
        PaperError: there is none of that id.
    """
    papers = load_papers()
    if table_id not in papers:
        raise PaperError(f"no published table {table_id!r}", fix="one of: " + ", ".join(papers))
    return papers[table_id]


def load_table(file: Path) -> PublishedTable:
    """Read one file.

    Raises:
        PaperError: it is not YAML, has an unknown or missing key, or a row with too few or too many numbers.
    """
    try:
        payload = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PaperError(f"not YAML: {error}", where=str(file)) from error
    if not isinstance(payload, dict):
        raise PaperError("not a mapping", where=str(file), fix="copy the keys of another table of that folder")
    shared = payload.get("arm") or {}
    for row in payload.get("rows", ()):
        row["arm"] = {**shared, **(row.get("arm") or {})}
        row["cells"] = [_read_cell(text) for text in str(row.get("cells", "")).split()]
    for claim in payload.get("claims", ()):
        claim["contrasts"] = [_read_contrast(text, str(payload.get("id"))) for text in claim.get("contrasts", ())]
    try:
        table = decode(PublishedTable, payload)
    except CodecError as error:
        raise PaperError(str(error), where=str(file)) from error
    _check_shape(table, file)
    return table


def _read_cell(text: str) -> dict[str, str] | None:
    """`14.17` · `_29.72_` underlined · `**30.51**` bold · `-` nothing printed."""
    if text == NOTHING_PRINTED:
        return None
    if text.startswith("_"):
        return {"text": text.strip("_"), "emphasis": "underline"}
    if text.startswith("**"):
        return {"text": text.strip("*"), "emphasis": "bold"}
    return {"text": text}


def _read_contrast(text: str, own_table: str) -> dict[str, Any]:
    """`row.column, row.column - other_table/row.column`: the mean of the left cells minus the mean of the right."""
    sides = [[_read_ref(ref.strip(), own_table) for ref in side.split(",")] for side in text.split(" - ")]
    return {"plus": sides[0], "minus": sides[1] if len(sides) > 1 else []}


def _read_ref(text: str, own_table: str) -> dict[str, str]:
    table, _, cell = text.rpartition("/")
    row, _, column = cell.rpartition(".")
    return {"table": table or own_table, "row": row, "column": column}


def _check_shape(table: PublishedTable, file: Path) -> None:
    if table.id != file.stem:
        raise PaperError(f"id {table.id!r} differs from the file's name", where=str(file), fix=f"id: {file.stem}")
    columns = [column.id for column in table.columns]
    for kind, names in (
        ("row", [row.id for row in table.rows]),
        ("column", columns),
        ("claim", [claim.id for claim in table.claims]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PaperError(f"{kind} {twice[0]!r} stands twice", where=str(file))
    for row in table.rows:
        if len(row.cells) != len(columns):
            raise PaperError(f"{len(row.cells)} numbers for {len(columns)} columns", where=f"{file}: row {row.id}")
        for cell in row.cells:
            _check_number(cell.text if cell else "0", f"{file}: row {row.id}")
    for column in table.columns:
        unknown = [name for name in column.mean_of if name not in columns]
        if unknown:
            raise PaperError(f"mean_of names no column: {unknown[0]!r}", where=f"{file}: column {column.id}")
    for claim in table.claims:
        if (claim.kind in ("equals", "mean", "maximum")) != (claim.stated is not None):
            raise PaperError(f"kind {claim.kind!r} and key `stated` do not go together", where=f"{file}: {claim.id}")
        if (claim.kind == "within") != (claim.bounds is not None):
            raise PaperError("`bounds` belongs to kind `within`, and to no other", where=f"{file}: {claim.id}")
        if not claim.contrasts or (claim.kind == "equals" and len(claim.contrasts) != 1):
            raise PaperError("`equals` takes one contrast, others at least one", where=f"{file}: {claim.id}")
        _check_number(claim.stated or "0", f"{file}: claim {claim.id}")


def _check_number(text: str, where: str) -> None:
    try:
        float(text.strip("()"))
    except ValueError as error:
        raise PaperError(f"not a number: {text!r}", where=where) from error


def _check_references(table: PublishedTable, papers: dict[str, PublishedTable]) -> None:
    for shown in table.shows:
        if shown not in papers:
            raise PaperError(f"shows no published table: {shown!r}", where=table.id)
    for claim in table.claims:
        for contrast in claim.contrasts:
            for ref in (*contrast.plus, *contrast.minus):
                _check_reference(ref, papers, where=f"{table.id}: claim {claim.id}")


def _check_reference(ref: CellRef, papers: dict[str, PublishedTable], *, where: str) -> None:
    if ref.table not in papers:
        raise PaperError(f"no published table {ref.table!r}", where=where)
    try:
        papers[ref.table].cell(ref.row, ref.column)
    except PaperError as error:
        raise PaperError(error.what, where=where, fix=error.fix) from error
