"""Experiment file + command-line changes → SweepSpec: every point of the grid as a typed, validated recipe.

    file ─ compose ─▶ plain configuration ─ grid ─▶ points ─ schema ─▶ Recipe, EvalSettings, Resources

Everything a user can get wrong becomes one SpecError with the file and line, the dotted key and the valid choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.blocks import EvalSettings, Guards, Misfit, Notify, Schedule, Scheduling, UntilDecided
from orchestrator.config.compose import Composer, Config, resolve
from orchestrator.config.fields import (
    GROUPS,
    OPTIONAL_GROUPS,
    PLAIN_KEYS,
    SECTIONS_OF_RECIPE,
    SETTINGS_OF_VERL,
    build,
    check_keys,
    check_name,
    convert,
    flattened,
    is_list,
    type_of,
)
from orchestrator.config.grid import AxisValues, Sweep, expand, read_seeds, read_sweep, replace_axis, with_seeds
from orchestrator.config.overrides import Change, read_overrides
from orchestrator.config.packaged import find_experiment
from orchestrator.config.places import Places
from orchestrator.config.published import read_published
from orchestrator.config.schedule import read_schedule
from orchestrator.config.shape import ModelShape
from trainers.recipe import Recipe, Resources

Shared = TypeVar("Shared")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_MOST_BYTES_OF_A_NAME = 200
"""A file name has 255 bytes at most, of which the endings of temporary files take some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPoint:
    """One point of the grid with one seed."""

    axes: dict[str, str | int | float]
    """Axis → value, without the seed and without axes that only place work (`cluster`, `eval`)."""
    seed: int
    recipe: Recipe
    evaluation: EvalSettings
    resources: Resources
    guards: Guards
    shape: ModelShape | None = None
    """What the model's group file says of its shape: costs follow from it, numbers do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """An experiment, read and checked."""

    experiment: str
    """`name:` of the file, or its stem: records and MLflow go by it."""
    file: Path
    axes: tuple[str, ...]
    points: tuple[GridPoint, ...]
    """In the order in which trials start."""
    scheduling: Scheduling
    schedule: Schedule
    """Priorities, caps and patience."""
    until: UntilDecided | None
    """What says how many seeds there will be; None where they are listed."""
    notify: Notify
    """Where notifications go."""
    config: dict[str, Any]
    """The composed experiment before its axes are applied, and the changes of the command line."""
    place_of: Callable[[str], str] = field(repr=False, compare=False)
    """Dotted key → file and line, or the change on the command line: for messages about the key."""


def load_sweep(file: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read an experiment file.

    Args:
        file: a YAML file, or the name of one that comes with orch; groups are folders beside it, or orch's own.
        overrides: changes such as `selection.ratio=[0.1,0.2]`, `algorithm=dapo`, `seeds=[0,1,2]`.

    Raises:
        SpecError: an unknown key, group, type or value, or a sweep block that does not make sense.
    """
    reader = _Reader(find_experiment(file), read_overrides(overrides))
    return reader.read()


class _Reader:
    """Reads one experiment; keeps what is built so that equal sections are validated once."""

    def __init__(self, file: Path, changes: tuple[Change, ...]) -> None:
        self.file = file
        self.changes = {change.key: change for change in changes}
        self.composer = Composer(file)
        self.places = Places(composer=self.composer, changes=self.changes)
        self.groups: dict[str, str] = {}
        """Choices that the command line fixes."""
        self.values: dict[str, Any] = {}
        """Dotted keys that the command line sets."""
        self._built: dict[tuple[Any, ...], Any] = {}
        self._checked: set[int] = set()

    def read(self) -> SweepSpec:
        base = self.composer.compose({})
        with self.places.located(self.groups):
            for key in base:
                check_name("key", key, [*GROUPS, *PLAIN_KEYS], where=key)
            read_published(base.get("published"))
            schedule = read_schedule(base.get("schedule"))
            sweep = self._changed(read_sweep(base.get("sweep")))
            self._check_axes(sweep)
            self.composer.compose_ahead(_group_choices(sweep))
            cells = expand(sweep)
            name = self._name(base)
        points = self._points(cells)
        return SweepSpec(
            experiment=name,
            file=self.file,
            axes=tuple(axis for axis in sweep.axes if _is_shown(axis)),
            points=points,
            scheduling=self._shared(Scheduling, "cluster", cells),
            schedule=schedule,
            until=sweep.until,
            notify=self._shared(Notify, "notify", cells),
            config={**self._set({**self.composer.compose(self.groups)}, self.values), "overrides": self._texts()},
            place_of=lambda key: self.places.place_of(key, self.groups),
        )

    def _texts(self) -> list[str]:
        return [change.text for change in self.changes.values()]

    def _name(self, base: Config) -> str:
        change = self.changes.get("name")
        name = change.value if change else base.get("name", self.file.stem)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Misfit(
                f"the experiment's name is {name!r}",
                where="name",
                fix="use letters, digits, - _ and . only: records and MLflow go by it",
            )
        if (size := len(name.encode())) > _MOST_BYTES_OF_A_NAME:
            raise Misfit(
                f"the experiment's name has {size} bytes: {name[:20]}…",
                where="name",
                fix=f"give one of {_MOST_BYTES_OF_A_NAME} or fewer by name=…: files are called after it",
            )
        return name

    def _changed(self, sweep: Sweep) -> Sweep:
        """Apply the command line: to an axis where it names one, else to the base configuration."""
        for change in self.changes.values():
            key, value = change.key, change.value
            if key in ("seeds", "sweep.seeds"):
                sweep = with_seeds(sweep, value)
            elif key.startswith("sweep."):
                raise Misfit(
                    f"{key} cannot be changed here", where=key, fix="name the axis itself, as in selection.ratio=[0.1]"
                )
            elif key in sweep.axes or change.is_sweep or self._is_new_axis(key, value):
                sweep = replace_axis(sweep, key, value if isinstance(value, list) else [value])
            elif key in GROUPS:
                self.composer.check_choice(key, value, where=key)
                self.groups[key] = value
            elif key != "name":
                self.values[key] = convert(value, type_of(key), key=key)
        return sweep

    def _is_new_axis(self, key: str, value: Any) -> bool:
        if not isinstance(value, list) or key == "name":
            return False
        return key in GROUPS or not is_list(type_of(key))

    def _check_axes(self, sweep: Sweep) -> None:
        """Every axis names something and every value fits it, wherever the sweep block mentions it."""
        conditions = [*sweep.include, *sweep.exclude, *sweep.when.values()]
        for block in [*sweep.blocks, *conditions]:
            for axis, values in block.items():
                for value in values:
                    self._check_axis_value(axis, value)

    def _check_axis_value(self, axis: str, value: Any) -> None:
        if axis == "seed":
            read_seeds(value)
        elif axis in GROUPS:
            self.composer.check_choice(axis, value, where=axis)
        else:
            convert(value, type_of(axis), key=axis)

    def _points(self, cells: list[tuple[int, AxisValues]]) -> tuple[GridPoint, ...]:
        made: dict[int, GridPoint] = {}
        points = []
        for seed, cell in cells:
            if id(cell) not in made:
                with self.places.located(self._chosen(cell)):
                    made[id(cell)] = self._make(cell, seed)
            points.append(replace(made[id(cell)], seed=seed))
        return tuple(points)

    def _make(self, cell: AxisValues, seed: int) -> GridPoint:
        config = self._config(cell)
        sections = {name: self._section(name, config) for name in SECTIONS_OF_RECIPE}
        trainer = convert(config.get("trainer", "lite"), str, key="trainer")
        recipe = self._build(Recipe, "recipe", config, trainer=trainer, **sections)
        evaluation = self._build(EvalSettings, "eval", config)
        return GridPoint(
            axes={axis: _shown(value) for axis, value in cell.items() if _is_shown(axis)},
            seed=seed,
            recipe=recipe,
            evaluation=evaluation,
            resources=self._build(Resources, "cluster", config),
            guards=self._build(Guards, "guards", config),
            shape=self._shape(config),
        )

    def _shape(self, config: Config) -> ModelShape | None:
        is_declared = any(field.name in config.get("model", {}) for field in fields(ModelShape))
        return self._build(ModelShape, "model", config) if is_declared else None

    def _config(self, cell: AxisValues) -> Config:
        composed = self.composer.compose(self._chosen(cell))
        if id(composed) not in self._checked:
            for group in GROUPS:
                if group in composed:
                    check_keys(group, composed[group])
            self._checked.add(id(composed))
        dotted = {**self.values, **{axis: value for axis, value in cell.items() if axis not in GROUPS}}
        config = self._set({**composed}, dotted)
        config.pop("sweep", None)
        if "${" in repr(config):
            return self._resolved(config)
        return config

    def _resolved(self, config: Config) -> Config:
        try:
            return resolve(config)
        except OmegaConfBaseException as error:
            raise Misfit(
                f"an interpolation leads nowhere: {str(error).splitlines()[0]}",
                where=str(getattr(error, "full_key", "") or "${…}"),
                fix="check the key inside ${…}",
            ) from error

    def _set(self, config: Config, dotted: Mapping[str, Any]) -> Config:
        """`config` with dotted keys set; sections that change are copied first."""
        for key, value in dotted.items():
            group, _, name = key.partition(".")
            section = config.get(group, {})
            if name.startswith(SETTINGS_OF_VERL):
                setting = {name.removeprefix(SETTINGS_OF_VERL): value}
                name, value = "verl", {**dict(flattened(section.get("verl") or {})), **setting}
            config[group] = {**section, name: value} if name else value
        return config

    def _section(self, name: str, config: Config) -> Any:
        return self._build(GROUPS[name][0], name, config)

    def _build(self, kind: type, group: str, config: Config, **given: Any) -> Any:
        if group not in config and group not in OPTIONAL_GROUPS:
            raise Misfit(
                f"no {group} is chosen",
                where=group,
                fix=f"add `- {group}: NAME` to `defaults:`; valid: {', '.join(self.composer.choices(group))}",
            )
        values = config.get(group, {})
        key = (kind, repr(values), *(part if isinstance(part, str) else id(part) for part in given.values()))
        if key not in self._built:  # what is built holds its parts, so their ids stay theirs
            self._built[key] = build(kind, values, group=group, given=given)
        return self._built[key]

    def _shared(self, kind: type[Shared], group: str, cells: list[tuple[int, AxisValues]]) -> Shared:
        """What is said of the sweep as a whole: one answer for all its trials."""
        unique = {id(cell): cell for _, cell in cells}
        with self.places.located(self.groups):
            found: set[Shared] = {self._build(kind, group, self._config(one)) for one in unique.values()}
            if len(found) > 1:
                keys = [name.name for name in fields(cast(Any, kind))]
                raise Misfit(
                    f"trials of one sweep differ in {group}, which speaks of the sweep as a whole",
                    where=group,
                    fix=f"let the files of the {group} axis agree on {', '.join(keys)}",
                )
        return next(iter(found))

    def _chosen(self, cell: AxisValues) -> dict[str, str]:
        """Group → choice at a point, where it is not the file's default."""
        return {**self.groups, **{axis: value for axis, value in cell.items() if axis in GROUPS}}


def _group_choices(sweep: Sweep) -> dict[str, list[str]]:
    """Group → the choices of its axis, each once."""
    found: dict[str, dict[str, None]] = {}
    for block in [*sweep.blocks, *sweep.include]:
        for axis, values in block.items():
            if axis in GROUPS:
                found.setdefault(axis, {}).update(dict.fromkeys(values))
    return {group: [*names] for group, names in found.items()}


def _is_shown(axis: str) -> bool:
    return axis.partition(".")[0] not in ("cluster", "eval", "guards", "notify")


def _shown(value: Any) -> str | int | float:
    """An axis value as labels, tags and table rows carry it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return value
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)
