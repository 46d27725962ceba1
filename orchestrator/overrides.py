"""Command-line overrides in Hydra's grammar, sorted by what they change: an axis, the seeds, or the base values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import SpecError
from orchestrator.grid import Grid, parse_grid
from orchestrator.schema import GROUPS, convert, is_list, type_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line changes, before it meets the file."""

    listed: Mapping[str, list[Any]] = field(default_factory=dict)
    """Keys that were given several values."""
    single: Mapping[str, Any] = field(default_factory=dict)
    """Keys that were given one."""


def parse_overrides(texts: Iterable[str]) -> Overrides:
    """Read overrides such as `selection.ratio=[0.1,0.2]`, `algorithm=grpo,dapo`, `seeds=range(0,5)`.

    Raises:
        SpecError: not Hydra's grammar, a `+` or `~` prefix, a key given twice.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser = OverridesParser.create()
    listed: dict[str, list[Any]] = {}
    single: dict[str, Any] = {}
    for text in texts:
        try:
            override = parser.parse_override(text)
        except OverrideParseException as error:
            raise SpecError(f"cannot read the override {text!r}", where=text, mend="write key=value or key=[a,b]") from error
        key = override.key_or_group
        if override.is_add() or override.is_delete():
            raise SpecError(
                f"the override {text!r} begins with {text[0]}",
                where=text,
                mend=f"write {key}=VALUE: every key exists already; drop an axis by giving it one value",
            )
        if key in listed or key in single:
            raise SpecError(f"{key} is overridden twice", where=text, mend="keep one of them")
        value = [*override.sweep_iterator()] if override.is_sweep_override() else override.value()
        if isinstance(value, list) and not (key in _all_keys_with_lists() and not override.is_sweep_override()):
            listed[key] = value
        else:
            single[key] = value
    return Overrides(listed=listed, single=single)


def apply_to_grid(grid: Grid, overrides: Overrides) -> tuple[Grid, dict[str, str], dict[str, Any]]:
    """The changed grid, the changed group choices, and the changed base values by dotted key.

    Raises:
        OrchError: an unknown key or group, a value of the wrong type, an emptied axis.
    """
    several, one = dict(overrides.listed), dict(overrides.single)
    seeds = several.pop("seeds", None) or several.pop("sweep.seeds", None)
    for key in ("seeds", "sweep.seeds"):
        seeds = [one.pop(key)] if key in one else seeds
    for key in [*several, *one]:
        if key not in GROUPS and key not in ("trainer", "name"):
            type_of(key)
    axes = set(grid.grid) | set(grid.zip)
    several |= {key: [one.pop(key)] for key in [*one] if key in axes}
    block = {
        "grid": {**grid.grid, **{key: values for key, values in several.items() if key not in grid.zip}},
        "zip": {axis: several.get(axis, values) for axis, values in grid.zip.items()},
        "seeds": grid.seeds if seeds is None else seeds,
    }
    changed = parse_grid({key: value for key, value in block.items() if value})
    choices = {key: str(one.pop(key)) for key in [*one] if key in GROUPS}
    return replace(grid, grid=changed.grid, zip=changed.zip, seeds=changed.seeds), choices, one


def checked_axis_values(axis: str, values: Sequence[Any]) -> list[Any]:
    """The values of a dotted axis as its key's type.

    Raises:
        Misfit: a value that does not fit.
    """
    return [convert(value, type_of(axis), key=axis) for value in values]


def _all_keys_with_lists() -> frozenset[str]:
    from orchestrator.schema import keys_of

    return frozenset(f"{group}.{key}" for group in GROUPS for key, hint in keys_of(group).items() if is_list(hint))
