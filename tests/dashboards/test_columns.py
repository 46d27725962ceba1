"""Tables on terminals of any width: nothing is cut, whatever the axes are called and whatever they hold."""

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dashboards.cells import Cell
from dashboards.columns import Block, Column, Role, common_lines, common_values, lay_out, short_names
from dashboards.render import render
from dashboards.table import DASH, Row, Table

WIDTHS = st.integers(60, 200)
WORDS = st.text("abcdefgh", min_size=1, max_size=14)
NAMES = st.builds(lambda parts: ".".join(parts), st.lists(WORDS, min_size=1, max_size=3))


@st.composite
def columns(draw: st.DrawFn) -> list[Column]:
    """Columns of made-up texts, each of them unlike every other and of any length, some longer than a terminal."""
    num_rows = draw(st.integers(1, 4))
    made = [Column(header="trial", cells=tuple(f"id{row}" for row in range(num_rows)), role="key")]
    for number, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=12, unique=True))):
        lengths = draw(
            st.lists(st.integers(0, draw(st.sampled_from([3, 12, 90]))), min_size=num_rows, max_size=num_rows)
        )
        cells = tuple(f"{number}/{row}" + "x" * length for row, length in enumerate(lengths))
        role: Role = draw(st.sampled_from(["name", "result"]))
        made.append(Column(header=f"{name}{number}", cells=cells, role=role, is_number=draw(st.booleans())))
    return made[1:] if draw(st.booleans()) else made


def holds(line: str, word: str) -> bool:
    """Whether a text stands whole in a line, not as a part of a longer one."""
    return re.search(rf"(?<!\S){re.escape(word)}(?!\S)", line) is not None


def lines_of(block: Block, row: int) -> list[str]:
    return [line for number, line in block.rows if number == row]


@given(columns=columns(), width=WIDTHS)
def test_every_value_stands_whole_in_a_line_of_its_row_below_its_header(columns: list[Column], width: int) -> None:
    blocks = lay_out(columns, width=width)
    for column in columns:
        having = [block for block in blocks if holds(" ".join(block.heading), column.header)]
        assert having
        for row, cell in enumerate(column.cells):
            assert all(holds(line, cell) for block in having for line in lines_of(block, row))
            assert [line for block in having for line in lines_of(block, row)]


@given(columns=columns(), width=WIDTHS)
def test_a_line_is_too_long_only_where_one_value_is(columns: list[Column], width: int) -> None:
    told_apart = [column for column in columns if column.role != "result"]
    for block in lay_out(columns, width=width):
        shown = [column for column in columns if holds(" ".join(block.heading), column.header)]
        assert all(len(line) <= block.width for _, line in block.rows)
        if block.width > width:
            assert len([column for column in shown if column not in told_apart]) <= 1


@given(columns=columns(), width=WIDTHS)
def test_results_come_first_unless_everything_fits(columns: list[Column], width: int) -> None:
    results = [column for column in columns if column.role == "result"]
    blocks = lay_out(columns, width=width)
    if len(blocks) > 1 and any(column.width < width / 2 for column in results):
        assert any(holds(" ".join(blocks[0].heading), column.header) for column in results)


@given(columns=columns())
def test_one_block_keeps_the_order_of_the_columns(columns: list[Column]) -> None:
    (block,) = lay_out(columns, width=10_000)
    places = [block.heading[0].index(column.header) for column in columns]
    assert places == sorted(places)
    assert [number for number, _ in block.rows] == list(range(len(columns[0].cells)))


def test_rows_are_numbered_where_their_names_leave_no_room_for_results() -> None:
    names = [Column(header=f"axis{n}", cells=("a" * 12, "b" * 12), role="name") for n in range(5)]
    results = [Column(header=f"score{n}", cells=("40.0 ± 2.0", "50.0 ± 2.0"), is_number=True) for n in range(4)]
    first, second, third = lay_out([*names, *results], width=60)
    assert first.heading == ("row      score0      score1      score2      score3",)
    assert first.rows[0] == (0, "  1  40.0 ± 2.0  40.0 ± 2.0  40.0 ± 2.0  40.0 ± 2.0")
    assert [block.heading[0].split() for block in (second, third)] == [
        ["row", "axis0", "axis1", "axis2", "axis3"],
        ["row", "axis4"],
    ]


def test_a_row_that_says_nothing_is_left_out_of_later_blocks() -> None:
    trial = Column(header="trial", cells=("aaa", "bbb"), role="key")
    state = Column(header="state", cells=("done", "failed"))
    doing = Column(header="doing", cells=("", "failed for a reason that is longer than the terminal is wide"))
    first, second = lay_out([trial, state, doing], width=40)
    assert [line for _, line in first.rows] == ["aaa    done", "bbb    failed"]
    assert second.rows == ((1, f"bbb    {doing.cells[1]}"),)


@given(names=st.lists(NAMES, min_size=1, max_size=9, unique=True), others=st.lists(WORDS, max_size=3))
def test_short_names_are_endings_that_still_tell_axes_apart(names: list[str], others: list[str]) -> None:
    shortened = short_names(names, others=others)
    assert len(set(shortened)) == len(names)
    for name, short in zip(names, shortened, strict=True):
        assert name == short or (name.endswith(f".{short}") and short not in others)


def test_a_name_is_shortened_from_the_left() -> None:
    assert short_names(["recipe.learning_rate", "selection.ratio", "algorithm"]) == [
        "learning_rate",
        "ratio",
        "algorithm",
    ]
    assert short_names(["eval.temperature", "recipe.temperature"]) == ["eval.temperature", "recipe.temperature"]
    assert short_names(["model.seed"], others=["seed"]) == ["model.seed"]


@given(rows=st.lists(st.dictionaries(NAMES, st.integers(0, 1)), max_size=4), width=WIDTHS)
def test_common_values_are_those_of_every_row_and_are_told_whole(rows: list[dict[str, int]], width: int) -> None:
    common = common_values(rows)
    for name in {name for row in rows for name in row}:
        assert (name in common) == (len({row.get(name) for row in rows}) == 1)
    told = common_lines(common, of="all arms", width=width)
    assert all(any(f"{name} {value}" in line for line in told) for name, value in common.items())
    assert all(len(line) <= width or " · " not in line for line in told)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Results over up to nine axes, of which some do not vary."""
    axes = draw(st.lists(NAMES, min_size=1, max_size=9, unique=True))
    choices = [draw(st.lists(WORDS, min_size=1, max_size=3, unique=True)) for _ in axes]
    arms = draw(st.lists(st.tuples(*(st.sampled_from(values) for values in choices)), min_size=1, max_size=5))
    labels = [("base", *[DASH] * (len(axes) - 1)), *arms]
    benchmarks = draw(st.lists(WORDS.map("bench_{}".format), min_size=1, max_size=8, unique=True))
    averages = st.floats(0, 1)
    return Table(
        selectors=(),
        experiment="made_up",
        label_columns=tuple(axes),
        benchmarks=tuple(benchmarks),
        rows=tuple(_row(number, names, [draw(averages) for _ in benchmarks]) for number, names in enumerate(labels)),
        facts=("temperature 1 · " + "a fact that must be broken between its words " * 5,),
        warnings=(),
    )


def _cell(average: float) -> Cell:
    return Cell(
        avg=average,
        standard_error=0.01,
        generation_error=None,
        num_problems=20,
        num_samples=4,
        num_seeds=1,
        delta_base=None,
        delta_dense=None,
        note="",
    )


def _row(number: int, labels: Sequence[str], averages: Sequence[float]) -> Row:
    cells = tuple(map(_cell, averages))
    return Row(
        arm=str(number),
        kind="train" if number else "base",
        labels=tuple(labels),
        cells=cells,
        average=cells[0],
        p_base=None,
        p_dense=None,
        more_base=None,
        more_dense=None,
        num_seeds_planned=1,
        mean_tokens=1000.0 + number,
        clip_rate=0.125,
        no_box_rate=None,
        notes=(),
    )


@given(table=tables(), width=WIDTHS)
def test_a_table_of_results_loses_no_column_at_any_width(table: Table, width: int) -> None:
    printed = render(table, "text", width=width)
    for row in table.rows:
        for cell in row.cells:
            assert f"{100 * (cell.avg or 0):.1f} ± 1.0" in printed
        assert holds(printed, f"{row.mean_tokens:.0f}")
    for name in [*table.benchmarks, "Δ base", "p base", "Δ dense", "p dense", "tokens", "clipped", "no box"]:
        assert holds(printed, name)
    for place, axis in enumerate(table.label_columns):
        for row in table.rows[1:]:
            assert holds(printed, row.labels[place])
        assert holds(printed, axis) or holds(printed, short_names(table.label_columns)[place]) or "." in axis
    assert holds(printed, "base")
    above, _, below = printed.partition("\n\n")
    assert max(map(len, below.splitlines())) <= width
    assert all(len(line) <= width or " · " not in line for line in above.splitlines())


@given(table=tables())
def test_an_axis_that_does_not_vary_is_told_once_above(table: Table) -> None:
    printed = render(table, "text", width=10_000)
    above, _, below = printed.partition("\n\n")
    for place, axis in enumerate(table.label_columns):
        values = {row.labels[place] for row in table.rows[1:]}
        is_above = f"{axis} {table.rows[1].labels[place]}" in above
        if len(values) > 1:
            assert holds(below.splitlines()[0], axis)
        else:
            assert is_above or holds(below.splitlines()[0], axis)


@given(table=tables())
def test_what_machines_read_is_the_same_at_any_width(table: Table) -> None:
    for machine_format in ("md", "csv", "latex", "html", "json"):
        assert render(table, machine_format, width=60) == render(table, machine_format, width=200)
    for row in render(table, "md").splitlines()[4 : 4 + len(table.rows)]:
        assert row.count(" | ") == len(table.label_columns) + len(table.benchmarks) + (len(table.benchmarks) > 1) + 6
