"""The sweep block of an experiment: axes, and the points that follow from them. Pure.

    sweep:
      grid:    {selection: [full, ets], selection.ratio: [0.1, 0.2]}   every combination
      zip:     {model: [small, large], recipe: [short, long]}          axes that advance together
      when:    {selection.ratio: {selection: ets}}                     an axis that applies only there
      include: [{selection: random, selection.ratio: 0.2}]             points beside the grid
      exclude: [{algorithm: grpo, selection: ict}]                     points to leave out
      seeds:   [0, 1, 2]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from orchestrator.schema import Misfit, unknown_name

Value = Any
"""A scalar, or a list for a key whose value is a list."""
Point = dict[str, Value]
"""Axis → value; an axis that does not apply is absent."""

BLOCK_KEYS = ("grid", "zip", "when", "include", "exclude", "seeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A parsed sweep block."""

    grid: Mapping[str, Sequence[Value]]
    zip: Mapping[str, Sequence[Value]]
    when: Mapping[str, Mapping[str, Sequence[Value]]]
    """Axis → (other axis or group → values under which it applies)."""
    include: Sequence[Mapping[str, Value]]
    exclude: Sequence[Mapping[str, Sequence[Value]]]
    seeds: Sequence[int]

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis in the order in which it is written; those that only `include` names come last."""
        extra = (key for point in self.include for key in point)
        return tuple(dict.fromkeys((*self.zip, *self.grid, *extra)))


def parse_grid(block: object) -> Grid:
    """Read the `sweep:` block of an experiment file.

    Raises:
        Misfit: an unknown key, an empty or doubled axis, lists of unequal length under `zip`, bad seeds.
    """
    values = _mapping(block, "sweep")
    for key in values:
        if key not in BLOCK_KEYS:
            raise unknown_name("key", key, list(BLOCK_KEYS), where=f"sweep.{key}", prefix="sweep.")
    parsed = Grid(
        grid=_axes(values.get("grid"), "sweep.grid"),
        zip=_axes(values.get("zip"), "sweep.zip"),
        when={axis: _conditions(given, f"sweep.when.{axis}") for axis, given in _items(values, "when")},
        include=[_mapping(point, "sweep.include") for point in _list(values.get("include"), "sweep.include")],
        exclude=[_conditions(point, "sweep.exclude") for point in _list(values.get("exclude"), "sweep.exclude")],
        seeds=_seeds(values.get("seeds", [0])),
    )
    _check_axes(parsed)
    return parsed


def points(grid: Grid, *, chosen: Mapping[str, Value]) -> list[Point]:
    """The points of a grid, in the order written, each once.

    Args:
        grid: the parsed block.
        chosen: group → choice where the grid has no axis: what `when` and `exclude` may also ask about.

    Raises:
        Misfit: an `exclude` entry that matches no point, or nothing left.
    """
    expanded = [_applied(point, grid, chosen) for point in _products(grid)]
    kept = [point for point in expanded if not any(_matches(point, rule, chosen) for rule in grid.exclude)]
    for rule in grid.exclude:
        if not any(_matches(point, rule, chosen) for point in expanded):
            raise Misfit(
                f"exclude {_spelled(rule)} matches no point of the grid",
                where="sweep.exclude",
                mend="compare its values with the axes, or drop the line",
            )
    unique: dict[str, Point] = {repr(sorted(point.items())): point for point in reversed([*kept, *grid.include])}
    if not unique:
        raise Misfit("the grid is empty", where="sweep.exclude", mend="exclude less, or add a point under include")
    return list(reversed(unique.values()))


def _products(grid: Grid) -> Iterator[Point]:
    length = len(next(iter(grid.zip.values()))) if grid.zip else 1
    zipped = [{axis: values[row] for axis, values in grid.zip.items()} for row in range(length)]
    if not (grid.grid or grid.zip):
        yield from () if grid.include else ({},)
        return
    for together in zipped:
        for combination in product(*grid.grid.values()):
            yield together | dict(zip(grid.grid, combination, strict=True))


def _applied(point: Point, grid: Grid, chosen: Mapping[str, Value]) -> Point:
    return {
        axis: value
        for axis, value in point.items()
        if axis not in grid.when or _matches(point, grid.when[axis], chosen)
    }


def _matches(point: Point, rule: Mapping[str, Sequence[Value]], chosen: Mapping[str, Value]) -> bool:
    here = {**chosen, **point}
    return all(key in here and here[key] in values for key, values in rule.items())


def _check_axes(grid: Grid) -> None:
    both = [axis for axis in grid.grid if axis in grid.zip]
    if both:
        raise Misfit(
            f"duplicate axis {both[0]}: it stands under grid and under zip",
            where=f"sweep.zip.{both[0]}",
            mend="keep one of them",
        )
    lengths = {axis: len(values) for axis, values in grid.zip.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{axis} has {length}" for axis, length in lengths.items())
        raise Misfit(
            f"zip axes differ in length: {sizes}",
            where="sweep.zip",
            mend="axes under zip advance together: give each as many values",
        )
    for axis in grid.when:
        if axis not in grid.axes:
            raise unknown_name("axis", axis, list(grid.axes), where=f"sweep.when.{axis}")


def _axes(block: object, where: str) -> dict[str, list[Value]]:
    axes: dict[str, list[Value]] = {}
    for axis, values in _mapping(block or {}, where).items():
        place = f"{where}.{axis}"
        if not isinstance(values, list):
            raise Misfit(f"axis {axis} is {values!r}", where=place, mend=f"write a list: {axis}: [{values}]")
        if not values:
            raise Misfit(f"axis {axis} has no values", where=place, mend="give it values, or drop the axis")
        doubled = [value for index, value in enumerate(values) if value in values[:index]]
        if doubled:
            raise Misfit(f"axis {axis} has {doubled[0]!r} twice", where=place, mend="keep each value once")
        axes[axis] = values
    return axes


def _conditions(block: object, where: str) -> dict[str, list[Value]]:
    given = _mapping(block, where)
    return {key: value if isinstance(value, list) else [value] for key, value in given.items()}


def _items(values: Mapping[str, Value], key: str) -> Sequence[tuple[str, Value]]:
    return list(_mapping(values.get(key) or {}, f"sweep.{key}").items())


def _seeds(values: object) -> list[int]:
    listed = values if isinstance(values, list) else [values]
    wrong = [one for one in listed if not isinstance(one, int) or isinstance(one, bool) or one < 0]
    if wrong or not listed:
        problem = f"a seed is {wrong[0]!r}" if wrong else "there are no seeds"
        raise Misfit(problem, where="sweep.seeds", mend="write a list of whole numbers from 0: seeds: [0, 1, 2]")
    if len(set(listed)) < len(listed):
        raise Misfit(f"seeds {listed} repeat one", where="sweep.seeds", mend="keep each seed once")
    return listed


def _mapping(block: object, where: str) -> dict[str, Value]:
    if not isinstance(block, Mapping):
        raise Misfit(f"{where} is {block!r}, not a block of keys", where=where, mend=f"write `{where}:` with keys under it")
    return {str(key): value for key, value in block.items()}


def _list(block: object, where: str) -> list[Value]:
    if block is None:
        return []
    if not isinstance(block, list):
        raise Misfit(f"{where} is {block!r}, not a list", where=where, mend="begin each point with a dash")
    return block


def _spelled(rule: Mapping[str, Sequence[Value]]) -> str:
    parts = [f"{key}: {values[0] if len(values) == 1 else list(values)}" for key, values in rule.items()]
    return "{" + ", ".join(parts) + "}"
