"""Which run a checkpoint belongs to: a hash of all that decides a run's numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from trainers.recipe import Recipe


def fingerprint(recipe: Recipe, seed: int) -> str:
    """Return a hash of what decides a run's numbers; options that are None do not count, so that new ones can come."""
    text = json.dumps([_counted(recipe), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _counted(value: Any) -> Any:
    if not is_dataclass(value):
        return value
    counted = {
        field.name: getattr(value, field.name) for field in fields(value) if field.metadata.get("identity", True)
    }
    return {name: _counted(item) for name, item in counted.items() if item is not None}
