"""Plain values to the typed sections of an experiment: one place that knows keys, types and their wording.

The sections are the dataclasses themselves, read by reflection, so a new field is a new key with no line here.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from orchestrator.config.blocks import EvalSettings, Guards, Misfit, Notify, Scheduling
from orchestrator.config.shape import ModelShape
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection
from trainers.recipe.resources import Setting

Built = TypeVar("Built")


GROUPS: Mapping[str, tuple[type, ...]] = {
    "algorithm": (Algorithm,),
    "selection": (Selection,),
    "model": (Model, ModelShape),
    "data": (Data,),
    "recipe": (Recipe,),
    "eval": (EvalSettings,),
    "cluster": (Resources, Scheduling),
    "guards": (Guards,),
    "notify": (Notify,),
}
"""Config group → the dataclasses that its keys fill."""
OPTIONAL_GROUPS = ("cluster", "guards", "notify")
"""Groups that an experiment need not choose: every key has a default."""
SECTIONS_OF_RECIPE = ("algorithm", "selection", "model", "data")
SETTINGS_OF_VERL = "verl."
"""Before a setting of verl itself, below `cluster`."""
PLAIN_KEYS = ("name", "trainer", "published", "schedule", "sweep")
"""Top-level keys that are no group."""


@cache
def keys_of(group: str) -> Mapping[str, Any]:
    """Key → type of one group; the sections of a recipe and its trainer are groups and keys of their own."""
    hidden = {*SECTIONS_OF_RECIPE, "trainer"} if group == "recipe" else set()
    return {
        name: hint
        for kind in GROUPS[group]
        for name, hint in get_type_hints(kind).items()
        if name not in hidden and name in {field.name for field in fields(kind)}
    }


def type_of(key: str) -> Any:
    """Type of the value at a dotted key.

    Raises:
        Misfit: no such group or key, with the nearest name and the valid ones.
    """
    if key == "trainer":
        return str
    group, _, rest = key.partition(".")
    if group not in GROUPS:
        known = [*GROUPS, *PLAIN_KEYS] if not rest else list(GROUPS)
        raise unknown_name("key" if not rest else "group", group, known, where=key)
    if rest.startswith(SETTINGS_OF_VERL):
        return Setting
    if rest not in keys_of(group):
        raise unknown_name("key", rest, list(keys_of(group)), where=key, hints=_hidden_hints(group), prefix=f"{group}.")
    return keys_of(group)[rest]


def build(kind: type[Built], values: Mapping[str, Any], *, group: str, given: Mapping[str, Any]) -> Built:
    """The dataclass `kind` from plain values plus already built ones.

    Args:
        kind: a frozen dataclass of `GROUPS`.
        values: the group's keys; those of another dataclass of the same group are ignored here.
        group: prefix of the dotted keys in messages.
        given: fields that are built elsewhere, such as the sections of a recipe.

    Raises:
        Misfit: a missing key or a value of the wrong type. OrchError: a value out of range.
    """
    hints = keys_of(group)
    arguments: dict[str, Any] = dict(given)
    for field in fields(cast(Any, kind)):
        if field.name in values and field.name in hints:
            arguments[field.name] = convert(values[field.name], hints[field.name], key=f"{group}.{field.name}")
        elif field.name not in given and _is_required(field):
            raise Misfit(
                f"{group}.{field.name} is not given",
                where=f"{group}.{field.name}",
                fix=f"add it to the {group} file, or to `{group}:` in the experiment ({describe(hints[field.name])})",
            )
    return kind(**arguments)


def check_keys(group: str, values: object) -> None:
    """Raise Misfit if a group's block is no mapping or holds a key its dataclasses do not have."""
    if not isinstance(values, Mapping):
        raise Misfit(
            f"{group} is {values!r}, not a block of keys",
            where=group,
            fix=f"choose a file under `defaults: [{{{group}: NAME}}]`, or write `{group}:` with keys under it",
        )
    for name in values:
        type_of(f"{group}.{name}")


def convert(value: Any, hint: Any, *, key: str) -> Any:
    """`value` as the type `hint`: int to float and list to tuple, nothing else is guessed.

    Raises:
        Misfit: naming the key, the value and what is wanted.
    """
    fitted = _fit(value, hint)
    if fitted is _NO_FIT:
        close = _close_choice(value, hint)
        raise Misfit(
            f"{key} is {value!r}",
            where=key,
            fix=f"{close}it must be {describe(hint)}",
        )
    return fitted


def describe(hint: Any) -> str:
    """A type in the words of an experiment file: `a whole number, or null`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        named = [describe(part) for part in arguments if part is not type(None)]
        return ", or ".join([*named, "null"] if type(None) in arguments else named)
    if _is_block(hint):
        return "a block of keys with plain values"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each {describe(arguments[0])}"
    if origin is tuple:
        return "a list of " + " and ".join(describe(part) for part in arguments)
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]


def is_list(hint: Any) -> bool:
    """Whether a value of this type is written as a list, so that a list is one value and not an axis."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return any(get_origin(part) is tuple for part in parts)


def check_name(noun: str, name: str, known: Collection[str], *, where: str) -> None:
    """Raise Misfit if `name` is not among `known`."""
    if name not in known:
        raise unknown_name(noun, name, list(known), where=where)


def unknown_name(
    noun: str,
    name: str,
    known: list[str],
    *,
    where: str,
    hints: Mapping[str, str] | None = None,
    prefix: str = "",
) -> Misfit:
    """The error for a name that is not among `known`: nearest name first, then every valid one."""
    close = get_close_matches(str(name), known, n=1, cutoff=0.55)
    guess = f"did you mean {prefix}{close[0]}? " if close else ""
    guess = (hints or {}).get(name, guess)
    valid = ", ".join(known) if known else "none"
    return Misfit(f"unknown {noun} '{prefix}{name}'", where=where, fix=f"{guess}valid: {valid}")


_NO_FIT = object()


def _fit(value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        fitted = [_fit(value, part) for part in arguments]
        return next((candidate for candidate in fitted if candidate is not _NO_FIT), _NO_FIT)
    if origin is Literal:
        return next((c for c in arguments if c == value and type(c) is type(value)), _NO_FIT)
    if _is_block(hint) and isinstance(value, Mapping):
        return _fit_list(list(flattened(value)), arguments)
    if origin is tuple:
        return _fit_list(value, arguments)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is hint:
        return value
    return value if hint is type(None) and value is None else _NO_FIT


def flattened(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, whether a block is written with dots or with blocks inside."""
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_block(hint: Any) -> bool:
    """Whether a type is that of pairs of key and value."""
    return get_origin(hint) is tuple and get_args(get_args(hint)[0])[:1] == (str,)


def _fit_list(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _NO_FIT
    parts = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(parts) != len(value):
        return _NO_FIT
    fitted = tuple(_fit(item, part) for item, part in zip(value, parts, strict=True))
    return _NO_FIT if any(item is _NO_FIT for item in fitted) else fitted


def _close_choice(value: Any, hint: Any) -> str:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    choices = [str(c) for part in parts if get_origin(part) is Literal for c in get_args(part)]
    close = get_close_matches(str(value), choices, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _hidden_hints(group: str) -> Mapping[str, str]:
    if group != "recipe":
        return {}
    sections = {name: f"{name} is a group of its own: write `{name}` without recipe. " for name in SECTIONS_OF_RECIPE}
    return {**sections, "trainer": "trainer stands at the top level. "}


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


assert all(is_dataclass(kind) for kinds in GROUPS.values() for kind in kinds)
