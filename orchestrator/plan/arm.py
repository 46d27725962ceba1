"""Arms: trials that differ in their seed only. Families: arms that differ in their selection only."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from orchestrator.codec import encode
from orchestrator.plan.trial import PlannedTrial


def arm_of(planned: PlannedTrial) -> str:
    """12 hex digits, equal for trials that differ in their seed only."""
    trial = planned.trial
    return _short_hash([trial.kind, trial.model_digest, trial.data_digest, encode(trial.recipe)])


def family_of(planned: PlannedTrial) -> str | None:
    """12 hex digits, equal for arms whose recipes differ in selection only; None for a base model.

    Whether the update skips unselected tokens changes no gradient, so it does not tell recipes apart here.
    """
    if planned.trial.recipe is None:
        return None
    recipe = encode(planned.trial.recipe)
    for key in ("selection", "update"):
        del recipe[key]
    return _short_hash([planned.trial.model_digest, planned.trial.data_digest, recipe])


def _short_hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()
