"""The sweep block of an experiment: axes, zips, conditions, extra and dropped points, seeds; and their expansion.

A point maps axis → value. `when` removes an axis from the points where it has no meaning, after which equal points
collapse to one; `seed` is the slowest axis, so that every cell of a table has its first seed before any has its second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from orchestrator.config.blocks import GREATEST_SEED, Misfit, UntilDecided
from orchestrator.config.fields import check_name
from orchestrator.config.seeds import read_until_decided

AxisValues = dict[str, Any]
"""Axis → value; lists are kept as tuples so that points can be compared."""
Condition = Mapping[str, tuple[Any, ...]]
"""Axis → the values it may have."""

KEYS = ("grid", "zip", "include", "exclude", "when", "seeds")
SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked sweep block."""

    blocks: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    """Axes that advance together, in the order of the file: one axis a block for `grid`, several for `zip`."""
    include: tuple[Condition, ...] = ()
    exclude: tuple[Condition, ...] = ()
    when: Mapping[str, Condition] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    until: UntilDecided | None = None
    """What says how many seeds there will be; `seeds` are then the first."""
    replaced: frozenset[str] = frozenset()
    """Axes whose values the command line gave: an `exclude` over them may match nothing."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in order, those that only `include` brings last; the seed left out."""
        names = [name for block in self.blocks for name in block]
        return tuple(dict.fromkeys([*names, *(name for point in self.include for name in point if name != SEED)]))


def read_sweep(block: Any) -> Sweep:
    """Check a sweep block as YAML gives it.

    Raises:
        Misfit: an unknown key, an empty or repeated axis, a condition on something that is no axis.
    """
    values = _mapping({} if block is None else block, "sweep")
    for name in values:
        check_name("key", name, KEYS, where="sweep")
    if "grid" in values and not values["grid"]:
        raise Misfit("sweep.grid is empty", where="sweep.grid", fix="give it an axis, as in `selection: [full, ets]`")
    sweep = Sweep(
        blocks=_blocks(values),
        include=_conditions(values.get("include"), "sweep.include"),
        exclude=_conditions(values.get("exclude"), "sweep.exclude"),
        when={
            name: _condition(condition, f"sweep.when.{name}")
            for name, condition in _mapping(values.get("when") or {}, "sweep.when").items()
        },
    )
    _check_references(sweep)
    return with_seeds(sweep, values.get("seeds", [0]))


def with_seeds(sweep: Sweep, value: Any) -> Sweep:
    """The sweep with these seeds: a list, or a block `until: decided`.

    Raises:
        Misfit: neither, or a design beside a point that has a seed of its own.
    """
    if not isinstance(value, Mapping):
        return replace(sweep, seeds=read_seeds(value), until=None)
    for name, conditions in (("include", sweep.include), ("exclude", sweep.exclude)):
        if any(SEED in condition for condition in conditions):
            raise Misfit(
                f"sweep.{name} names seeds, and sweep.seeds leaves open how many there are",
                where=f"sweep.{name}",
                fix="take the seed out of it, or list the seeds",
            )
    until = read_until_decided(value)
    return replace(sweep, seeds=tuple(range(until.design.at_least)), until=until)


def read_seeds(value: Any) -> tuple[int, ...]:
    """Seeds as a list of different whole numbers from 0 to `GREATEST_SEED`; one number is a list of one.

    Raises:
        Misfit: anything else.
    """
    seeds = tuple(value) if isinstance(value, list | tuple) else (value,)
    is_valid = seeds and all(type(seed) is int and 0 <= seed <= GREATEST_SEED for seed in seeds)
    if not is_valid or len(set(seeds)) != len(seeds):
        raise Misfit(
            f"seeds are {list(seeds)}",
            where="sweep.seeds",
            fix=f"write a list of different whole numbers from 0 to {GREATEST_SEED}, as in seeds=[0,1,2]",
        )
    return seeds


def replace_axis(sweep: Sweep, name: str, values: Sequence[Any]) -> Sweep:
    """The sweep with other values for an axis, or with one axis more.

    Raises:
        Misfit: no values, repeated values, or another length than its `zip` partners have.
    """
    fresh = _axis_values(list(values), name)
    if not any(name in block for block in sweep.blocks):
        return replace(sweep, blocks=(*sweep.blocks, {name: fresh}), replaced=sweep.replaced | {name})
    blocks = tuple({**block, name: fresh} if name in block else block for block in sweep.blocks)
    for block in blocks:
        if name in block:
            _check_zip(block)
    return replace(sweep, blocks=blocks, replaced=sweep.replaced | {name})


def expand(sweep: Sweep) -> list[tuple[int, AxisValues]]:
    """Every (seed, point) in the order in which trials start.

    Raises:
        Misfit: a `when` that no point meets, an `exclude` that matches nothing, or no point is left.
    """
    points = _grid_points(sweep)
    _check_when(sweep, points)
    seeded = [(seed, point) for seed in sweep.seeds for point in points]
    for index, condition in enumerate(sweep.exclude):
        kept = [one for one in seeded if not _matches({**one[1], SEED: one[0]}, condition)]
        if len(kept) == len(seeded) and not sweep.replaced & condition.keys():
            raise Misfit(
                f"sweep.exclude[{index}] matches no point: {_spell(condition)}",
                where=f"sweep.exclude[{index}]",
                fix="correct its values, or remove it: " + _spell_axes(sweep),
            )
        seeded = kept
    seeded += [one for one in _included(sweep) if one not in seeded]
    if not seeded:
        raise Misfit(
            "the sweep has no point left", where="sweep", fix="exclude less, or give the grid an axis with values"
        )
    return seeded


def _grid_points(sweep: Sweep) -> list[AxisValues]:
    if not sweep.blocks and sweep.include:
        return []
    advances = [
        [dict(zip(block, row, strict=True)) for row in zip(*block.values(), strict=True)] for block in sweep.blocks
    ]
    unique: dict[tuple[tuple[str, Any], ...], AxisValues] = {}
    for parts in product(*advances):
        point = _applicable({name: value for part in parts for name, value in part.items()}, sweep.when)
        unique.setdefault(tuple(point.items()), point)
    return list(unique.values())


def _applicable(point: AxisValues, when: Mapping[str, Condition]) -> AxisValues:
    """Drop the axes whose condition does not hold, and then those that depended on them."""
    while unmet := [name for name in point if name in when and not _matches(point, when[name])]:
        point = {name: value for name, value in point.items() if name not in unmet}
    return point


def _check_when(sweep: Sweep, points: Sequence[AxisValues]) -> None:
    """Every axis of the grid is there at some point, unless the command line narrowed what its condition asks for."""
    kept = {name for point in points for name in point}
    narrowed = set(sweep.replaced)
    for name in (name for block in sweep.blocks for name in block if name not in kept):
        condition = sweep.when[name]
        if name not in sweep.replaced and narrowed & condition.keys():
            narrowed.add(name)  # conditions chain
        else:
            raise Misfit(
                f"sweep.when.{name} is met by no point, so that its values are never used: {_spell(condition)}",
                where=f"sweep.when.{name}",
                fix=f"correct the condition, or take {name} out of the sweep: " + _spell_axes(sweep),
            )


def _included(sweep: Sweep) -> list[tuple[int, AxisValues]]:
    found: dict[tuple[Any, ...], tuple[int, AxisValues]] = {}
    for condition in sweep.include:
        for row in product(*condition.values()):
            cell = dict(zip(condition, row, strict=True))
            seed = cell.pop(SEED, None)
            ordered = {name: cell[name] for name in sweep.axes if name in cell}
            for one in sweep.seeds if seed is None else (seed,):
                found.setdefault((one, *ordered.items()), (one, ordered))
    return list(found.values())


def _matches(point: Mapping[str, Any], condition: Condition) -> bool:
    return all(name in point and point[name] in wanted for name, wanted in condition.items())


def _blocks(values: Mapping[str, Any]) -> tuple[Mapping[str, tuple[Any, ...]], ...]:
    blocks: list[Mapping[str, tuple[Any, ...]]] = []
    for name, block in values.items():
        if name == "grid":
            axes = _mapping(block, "sweep.grid")
            blocks += [{axis: _axis_values(listed, axis)} for axis, listed in axes.items()]
        elif name == "zip" and block:
            for part in block if isinstance(block, list) else [block]:
                axes = _mapping(part, "sweep.zip")
                blocks.append({axis: _axis_values(listed, axis) for axis, listed in axes.items()})
                _check_zip(blocks[-1])
    seen: set[str] = set()
    for axis in (axis for part in blocks for axis in part):
        if axis in seen:
            raise Misfit(f"axis {axis} is given twice", where=f"sweep: {axis}", fix="keep one of them")
        seen.add(axis)
    return tuple(blocks)


def _axis_values(listed: Any, axis: str) -> tuple[Any, ...]:
    where = f"sweep: {axis}"
    if axis in (SEED, "seeds"):
        raise Misfit("seeds are no axis of the grid", where=where, fix="write them as `seeds: [0, 1]` under `sweep`")
    if not isinstance(listed, list):
        raise Misfit(f"axis {axis} is {listed!r}, not a list", where=where, fix=f"write {axis}: [{listed}]")
    if not listed:
        raise Misfit(f"axis {axis} has no values", where=where, fix="list at least one value, or remove the axis")
    values = tuple(_frozen(value) for value in listed)
    if repeated := [value for index, value in enumerate(values) if value in values[:index]]:
        raise Misfit(f"axis {axis} lists {repeated[0]} twice", where=where, fix="keep one of them")
    return values


def _check_zip(block: Mapping[str, tuple[Any, ...]]) -> None:
    lengths = {name: len(values) for name, values in block.items()}
    if len(set(lengths.values())) > 1:
        spelled = ", ".join(f"{name} has {number}" for name, number in lengths.items())
        raise Misfit(
            f"axes that advance together differ in length: {spelled}",
            where="sweep.zip",
            fix="give each as many values as the others; on the command line, change them all",
        )


def _conditions(block: Any, where: str) -> tuple[Condition, ...]:
    if block is None:
        return ()
    if not isinstance(block, list):
        raise Misfit(f"{where} is no list", where=where, fix="write it as a list of points: `- {selection: full}`")
    return tuple(_condition(one, f"{where}[{index}]") for index, one in enumerate(block))


def _condition(block: Any, where: str) -> Condition:
    values = _mapping(block, where)
    if not values:
        raise Misfit(f"{where} is empty", where=where, fix="name an axis and its values, or remove it")
    return {
        name: tuple(_frozen(value) for value in listed) if isinstance(listed, list) else (_frozen(listed),)
        for name, listed in values.items()
    }


def _check_references(sweep: Sweep) -> None:
    """Every axis named by `when` and `exclude` exists."""
    axes = [*sweep.axes, SEED]
    for name, condition in sweep.when.items():
        check_name("axis", name, sweep.axes, where="sweep.when")
        for other in condition:
            check_name("axis", other, sweep.axes, where=f"sweep.when.{name}")
    for index, condition in enumerate(sweep.exclude):
        for other in condition:
            check_name("axis", other, axes, where=f"sweep.exclude[{index}]")


def _mapping(block: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(block, Mapping) or any(not isinstance(name, str) for name in block):
        raise Misfit(f"{where} is {block!r}, not a block of keys", where=where, fix="write `key: value` lines under it")
    return block


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _spell(condition: Condition) -> str:
    return "{" + ", ".join(f"{name}: {list(values)}" for name, values in condition.items()) + "}"


def _spell_axes(sweep: Sweep) -> str:
    values = [f"{name} is one of {list(listed)}" for block in sweep.blocks for name, listed in block.items()]
    return "; ".join(values)
