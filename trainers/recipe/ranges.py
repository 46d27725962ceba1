"""Refuses what a field may not be. `where` is the dotted key as an experiment file writes it (`recipe.steps`)."""

from __future__ import annotations

from dataclasses import fields
from math import isfinite
from typing import Any

from eval.errors import OrchError, did_you_mean

NOT_IDENTITY = {"identity": False}
"""Metadata of a field that changes no number, or whose content a digest already stands for."""


def check_finite(section: str, values: Any) -> None:
    """Raise OrchError if a number of a dataclass is NaN or infinite."""
    for field in fields(values):
        value = getattr(values, field.name)
        if isinstance(value, float):
            require(isfinite(value), f"{section}.{field.name}", value, "a finite number")


def require(is_met: bool, key: str, value: object, wanted: str) -> None:
    """Raise OrchError, saying what `key` is and what it must be, unless `is_met`."""
    if not is_met:
        raise OrchError(f"{key} is {value}", where=key, fix=f"it must be {wanted}")


def unknown(noun: str, name: str, known: Any, *, where: str) -> OrchError:
    """The error for a name that is not among `known`: did-you-mean first, then every valid choice."""
    guess = did_you_mean(name, known)
    return OrchError(f"unknown {noun} '{name}'", where=where, fix=f"{guess}valid: {', '.join(known)}")
