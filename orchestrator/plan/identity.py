"""What makes two trials the same trial: canonical JSON of what changes numbers, hashed to 12 hex digits.

A field left at None does not enter, so a new optional knob keeps every old id; a field marked `NOT_IDENTITY` in
`trainers.api` does not enter either, because a digest stands for its content (paths and names) or because it only
describes. Anything that has no single spelling (NaN, a set, an object) raises instead of hashing to luck.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from math import isfinite
from typing import Any

from trainers.recipe import Model, Recipe

ID_LENGTH = 12
"""Hex digits of an id: 48 bits, a collision among 100,000 trials has probability 2e-5."""


def trial_id(recipe: Recipe, *, seed: int, data_digest: str, model_digest: str) -> str:
    """The id of training `recipe` with `seed` on exactly these data and initial weights: 12 hex digits."""
    parts = {
        "data": canonical_json(data_digest),
        "model": canonical_json(model_digest),
        "recipe": _recipe_json(recipe),
        "seed": canonical_json(seed),
    }
    return _hash_of_text("{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}")


def base_trial_id(model: Model, *, model_digest: str) -> str:
    """The id of an untrained model, which every experiment that starts from it shares: 12 hex digits."""
    return hash_of({"base": model, "model": model_digest})


def hash_of(value: object) -> str:
    """First 12 hex digits of the sha256 of `canonical_json(value)`."""
    return _hash_of_text(canonical_json(value))


def canonical_json(value: object) -> str:
    """One spelling for equal values: sorted keys, no blanks, `1.0` as `1`, no None fields.

    Raises:
        TypeError: a type without one canonical spelling (sets, bytes, paths, arrays, arbitrary objects).
        ValueError: NaN or an infinity.
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@lru_cache(maxsize=2**14)
def _recipe_json(recipe: Recipe) -> str:
    """Spelled once for all seeds of a recipe."""
    return canonical_json(recipe)


def _hash_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _plain(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(value, place)
    if is_dataclass(value) and not isinstance(value, type):
        return _mapping({name: getattr(value, name) for name in _counted(type(value))}, place)
    if isinstance(value, Mapping):
        return _mapping(value, place)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{place} is a {type(value).__name__}, which has no canonical spelling")


@cache
def _counted(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.metadata.get("identity", True))


def _mapping(values: Mapping[Any, Any], place: str) -> dict[str, Any]:
    for key in values:
        if not isinstance(key, str):
            raise TypeError(f"{place} has the key {key!r}, which is not a string")
    return {key: _plain(item, f"{place}.{key}") for key, item in values.items() if item is not None}


def _number(value: float, place: str) -> int | float:
    if not isfinite(value):
        raise ValueError(f"{place} is {value}, which cannot bear identity")
    return int(value) if value.is_integer() else float(value)
