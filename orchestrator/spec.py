"""An experiment file with its overrides, as types: what is to be trained and evaluated, before any id exists.

    YAML + overrides → Composer (Hydra) → Grid → points → Recipe, EvalSettings, Resources

Light: nothing here imports ray, torch or mlflow, so a wrong key is found in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import OrchError
from orchestrator.compose import Composer, Values, set_key
from orchestrator.errors import SpecError
from orchestrator.grid import Grid, Point, parse_grid, points
from orchestrator.overrides import apply_to_grid, checked_axis_values, parse_overrides
from orchestrator.schema import GROUPS, SECTIONS_OF_RECIPE, Misfit, Scheduling, build, type_of
from orchestrator.trial import EvalSettings
from trainers.api import Algorithm, Data, Model, Recipe, Resources, Selection

_SECTIONS = {"algorithm": Algorithm, "selection": Selection, "model": Model, "data": Data}
_NOT_AXES = {
    "eval": "what is evaluated bears no identity: list every benchmark under eval.benchmarks",
    "cluster": "resources bear no identity: choose them for the whole sweep",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One point of the grid, built: what every seed of it shares."""

    axes: Mapping[str, str | int | float]
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """A whole experiment as types."""

    experiment: str
    file: Path
    axes: tuple[str, ...]
    """Axes of the grid in the order written, seeds left out."""
    arms: tuple[Arm, ...]
    """In planned order."""
    seeds: tuple[int, ...]
    evaluation: EvalSettings
    resources: Resources
    scheduling: Scheduling
    config: Values
    """The composed base values with the sweep block, for the record."""


def load_sweep(file: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Compose and check an experiment.

    Args:
        file: the experiment file; its groups lie in folders beside it or in orch's own.
        overrides: changes as Hydra users write them.

    Raises:
        SpecError: naming the file or override, the key, and the valid choices.
    """
    try:
        return _load(file, overrides)
    except SpecError:
        raise
    except OrchError as error:
        raise SpecError(error.what, where=_place(file, error.where, overrides), mend=error.mend) from error


def _load(file: Path, overrides: Sequence[str]) -> SweepSpec:
    composer = Composer(file)
    parsed = parse_overrides(overrides)
    base = composer.values({})
    grid, choices, changes = apply_to_grid(parse_grid(base.pop("sweep", None) or {}), parsed)
    builder = _Builder(composer, choices, changes)
    grid = _typed(grid, composer)
    values = builder.values({})
    expanded = points(grid, chosen={**composer.defaults, **choices})
    return SweepSpec(
        experiment=_name(values.get("name"), file),
        file=file,
        axes=grid.axes,
        arms=tuple(builder.arm(point) for point in expanded),
        seeds=tuple(grid.seeds),
        evaluation=build(EvalSettings, values.get("eval", {}), group="eval", given={}),
        resources=build(Resources, values.get("cluster", {}), group="cluster", given={}),
        scheduling=build(Scheduling, values.get("cluster", {}), group="cluster", given={}),
        config={**values, "sweep": _shown(grid)},
    )


class _Builder:
    """Builds arms from points, sharing what does not differ between them."""

    def __init__(self, composer: Composer, choices: Mapping[str, str], changes: Mapping[str, Any]) -> None:
        self._composer, self._choices, self._changes = composer, choices, changes
        self._groups: dict[tuple[tuple[str, str], ...], Values] = {}
        self._built: dict[str, Any] = {}

    def values(self, choices: Mapping[str, str]) -> Values:
        """Base values under group choices, with the command line's changes; shared, not to be written to."""
        key = tuple(sorted(choices.items()))
        if key not in self._groups:
            values = self._composer.values({**self._choices, **choices})
            values.pop("sweep", None)
            values.pop("defaults", None)
            for dotted, value in self._changes.items():
                set_key(values, dotted, value)
            self._groups[key] = values
        return self._groups[key]

    def arm(self, point: Point) -> Arm:
        """The recipe at a point."""
        choices = {axis: str(value) for axis, value in point.items() if axis in GROUPS}
        values = self.values(choices)
        dotted = {axis: value for axis, value in point.items() if axis not in GROUPS}
        sections = {name: self._section(name, values, dotted) for name in SECTIONS_OF_RECIPE}
        trainer = dotted.get("trainer", values.get("trainer", "lite"))
        if not isinstance(trainer, str):
            raise Misfit(f"trainer is {trainer!r}", where="trainer", mend="it must be lite, or package.module:Class")
        plain = _with_axes("recipe", values, dotted)
        recipe = build(Recipe, plain, group="recipe", given={**sections, "trainer": trainer})
        return Arm(axes={axis: _label(value) for axis, value in point.items()}, recipe=recipe)

    def _section(self, name: str, values: Values, dotted: Mapping[str, Any]) -> Any:
        plain = _with_axes(name, values, dotted)
        key = f"{name} {sorted(plain.items(), key=str)!r}"
        if key not in self._built:
            self._built[key] = build(_SECTIONS[name], plain, group=name, given={})
        return self._built[key]


def _with_axes(group: str, values: Values, dotted: Mapping[str, Any]) -> Values:
    own = {axis.partition(".")[2]: value for axis, value in dotted.items() if axis.partition(".")[0] == group}
    return {**values.get(group, {}), **own}


def _typed(grid: Grid, composer: Composer) -> Grid:
    """The grid with every axis known and every value of its key's type."""

    def typed(axis: str, values: Sequence[Any]) -> list[Any]:
        group = axis.partition(".")[0]
        if group in _NOT_AXES:
            raise Misfit(f"{axis} cannot be an axis", where=f"sweep.grid.{axis}", mend=_NOT_AXES[group])
        if axis in GROUPS:
            for value in values:
                composer.check_choice(axis, value)
            return [str(value) for value in values]
        return checked_axis_values(axis, values)

    def typed_point(point: Mapping[str, Any]) -> dict[str, Any]:
        return {axis: typed(axis, [value])[0] for axis, value in point.items()}

    for rules in (*grid.exclude, *grid.when.values()):
        for key in rules:
            if key not in GROUPS:
                type_of(key)
    return Grid(
        grid={axis: typed(axis, values) for axis, values in grid.grid.items()},
        zip={axis: typed(axis, values) for axis, values in grid.zip.items()},
        when=grid.when,
        include=[typed_point(point) for point in grid.include],
        exclude=grid.exclude,
        seeds=grid.seeds,
    )


def _label(value: Any) -> str | int | float:
    return value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else str(value)


def _shown(grid: Grid) -> Values:
    shown = {name: getattr(grid, name) for name in ("grid", "zip", "when", "include", "exclude", "seeds")}
    return {name: value for name, value in shown.items() if value}


def _name(given: object, file: Path) -> str:
    name = file.stem if given is None else given
    if not isinstance(name, str) or not name or not all(char.isalnum() or char in "-_." for char in name):
        raise Misfit(f"the experiment's name is {name!r}", where="name", mend="use letters, digits, - _ and .")
    return name


def _place(file: Path, key: str, overrides: Sequence[str]) -> str:
    given = [text for text in overrides if key and text.split("=", 1)[0] == key]
    return f"override {given[0]}" if given else f"{file}: {key}" if key else str(file)
