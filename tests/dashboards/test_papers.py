"""Published numbers stand in the cited places of the source texts, and every number of those places is there."""

import os
import re
from pathlib import Path

import pytest

from dashboards.papers.load import load_papers, load_table
from dashboards.papers.published import PaperError, PublishedTable, Row

ROOT = Path(__file__).parents[2]
SOURCES = Path(os.environ.get("ORCH_PAPERS_DIR", ROOT.parent / "shared" / "papers"))
PAPERS = load_papers()
TABLES = [table for table in PAPERS.values() if table.kind == "table"]
PROSE = [table for table in PAPERS.values() if table.kind != "table"]
needs_sources = pytest.mark.skipif(
    not SOURCES.is_dir(), reason="lacking files: the source texts of the papers (ORCH_PAPERS_DIR names their folder)"
)
Printed = tuple[str, tuple[str, ...]]
GOOD = (Path(load_table.__code__.co_filename).parent / "ict_table3.yaml").read_text()


def source_lines(file: str) -> list[str]:
    return (SOURCES / file).read_text(encoding="utf-8").split("\n")


def parse_source(table: PublishedTable) -> list[Printed]:
    """Rows as the text prints them: (label, cells), found without looking at our rows."""
    lines = source_lines(table.source.file)
    starts = [n for n, line in enumerate(lines) if line.startswith(table.source.anchor)]
    assert len(starts) == 1, f"{table.id}: the anchor stands {len(starts)} times"
    if lines[starts[0]].startswith("|"):
        return parse_pipes(lines[starts[0] :], table.source.header_lines)
    assert lines[starts[0] + 1] == ""
    body = lines[starts[0] + 2 :]
    rows = [line.split("\t") for line in body[: body.index("")]]
    return [(row[0], tuple(cell.strip() for cell in row[1:])) for row in rows[table.source.header_lines :]]


def parse_pipes(lines: list[str], header_lines: int) -> list[Printed]:
    rows = []
    for line in lines[header_lines:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        gains = [cell for cell in cells if cell]
        if len(gains) == 1:  # the name of a block
            continue
        rows.append(("", tuple(gains)) if gains[0].startswith("(+") else (cells[0], tuple(cells[1:])))
    return rows


def as_printed(row: Row) -> Printed:
    marks = {"none": "{}", "underline": "<u>{}</u>", "bold": "<b>{}</b>"}
    return row.label, tuple(marks[cell.emphasis].format(cell.text) for cell in row.cells if cell)


@needs_sources
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_a_published_table_is_the_printed_table_cell_by_cell(table: PublishedTable) -> None:
    assert [as_printed(row) for row in table.rows] == parse_source(table)


@needs_sources
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_headers_are_those_of_the_printed_table(table: PublishedTable) -> None:
    lines = source_lines(table.source.file)
    start = next(n for n, line in enumerate(lines) if line.startswith(table.source.anchor))
    header = " ".join(lines[start : start + 4] if lines[start].startswith("|") else [lines[start + 2]])
    for column in table.columns:
        for word in column.label.split():
            assert word in header, f"{table.id}: {word}"
    if table.paper == "gmts":
        assert header.split() == [column.label for column in table.columns]


@needs_sources
def test_no_table_of_the_sources_is_left_out() -> None:
    captions = [line for line in source_lines("gmts.txt") if re.match(r"Table \d+:", line)]
    assert len(captions) == sum(table.paper == "gmts" for table in TABLES) == 5
    headers = [line for line in source_lines("ict.txt") if line.startswith("| Method")]
    assert len(headers) == sum(table.paper == "ict" for table in TABLES) == 3
    for file in ("ets_abstract.txt", "ets_summary.txt"):
        assert not [line for line in source_lines(file) if "\t" in line or line.startswith("|")]


@needs_sources
@pytest.mark.parametrize("table", PROSE, ids=lambda table: table.id)
def test_numbers_of_prose_stand_in_their_quotes_and_no_other_does(table: PublishedTable) -> None:
    text = (SOURCES / table.source.file).read_text(encoding="utf-8")
    assert text.count(table.source.anchor) == 1
    for row in table.rows:
        printed = {cell.text for cell in row.cells if cell}
        assert bool(printed) == (row.quote is not None), f"{table.id}: {row.id}"
        if row.quote is not None:
            assert row.quote in text
            names_removed = re.sub(r"A[IM][MA]E?'\d\d|QWEN3-\d+B|GSM8K|pass@\d|\d+k\b", "", row.quote)
            assert set(re.findall(r"\d+(?:\.\d+)?", names_removed)) == printed


@needs_sources
@pytest.mark.parametrize("table", PAPERS.values(), ids=lambda table: table.id)
def test_a_claim_quotes_its_source_and_its_number_stands_in_the_quote(table: PublishedTable) -> None:
    for claim in table.claims:
        text = (SOURCES / (claim.file or table.source.file)).read_text(encoding="utf-8")
        assert claim.quote in text, claim.id
        assert claim.stated is None or claim.stated.lstrip("+") in claim.quote, claim.id


@needs_sources
def test_every_signed_number_of_the_text_is_a_claim() -> None:
    """`+1.55` in running text is always a claimed gain; none may be missing."""
    signed = re.compile(r"(?<!\w)[+-]\d+\.\d+(?![\dB])")
    for paper, files in (
        ("gmts", ["gmts.txt"]),
        ("ict", ["ict.txt"]),
        ("ets", ["ets_abstract.txt", "ets_summary.txt"]),
    ):
        text = " ".join((SOURCES / file).read_text(encoding="utf-8") for file in files)
        claimed = {claim.stated for table in PAPERS.values() if table.paper == paper for claim in table.claims}
        assert set(signed.findall(text)) - claimed - {None} == set(), paper


def test_the_captioned_doubts_are_told_beside_the_table() -> None:
    assert "24.58" in " ".join(PAPERS["gmts_table4"].doubts)
    assert "7B" in " ".join(PAPERS["gmts_table5"].doubts)
    assert "20,480" in " ".join(PAPERS["gmts_table3"].doubts)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('cells: "58.64 81.35"', 'cells: "58.64"', "1 numbers for 2 columns"),
        ('cells: "58.64 81.35"', 'cells: "58.64 8l.35"', "not a number: '8l.35'"),
        ("id: ict_table3", "id: ict_table4", "differs from the file's name"),
        ("section:", "sektion:", "sektion"),
        ("role: method", "role: winner", "winner"),
        ("  - id: ict_kl", "  - id: ict_wass", "row 'ict_wass' stands twice"),
        ("kind: greater", "kind: equals", "do not go together"),
        ("paper: ict", "paper: [ict", "not YAML"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    file = tmp_path / "ict_table3.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(PaperError, match="ict_table3") as caught:
        load_table(file)
    assert message in str(caught.value)


def test_a_claim_about_a_row_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ict_table3.yaml"
    file.write_text(GOOD.replace("- ict_js.gsm8k_p1 - ict_kl.gsm8k_p1", "- ict_js.gsm8k_p1 - ict_cosine.gsm8k_p1"))
    with pytest.raises(PaperError, match="no row 'ict_cosine'") as caught:
        load_papers(tmp_path)
    assert "ict_wass, ict_kl, ict_js" in caught.value.fix
