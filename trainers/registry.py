"""Names to trainers. Nothing heavy is imported until one is asked for."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from eval.errors import OrchError, did_you_mean
from trainers.api import Trainer
from trainers.recipe import Recipe, Resources
from trainers.verl.launch.settings import check_settings

TRAINERS = {"lite": "trainers.lite.trainer:LiteTrainer", "verl": "trainers.verl.launch.launch:VerlTrainer"}
"""Name → where its class lives."""
_SUPPORT = {"lite": "trainers.lite.support", "verl": "trainers.verl.launch.support"}
"""Name → where it says what it does not do."""
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def trainer(name: str) -> Trainer:
    """Return the trainer of a name, or of a user's own class given as `package.module:Class`.

    Raises:
        OrchError: no such name, module or class.
    """
    check_trainer(name)
    instance: Trainer = _load(name)()
    return instance


def check_trainer(name: str) -> None:
    """Raise OrchError unless `name` is a known trainer, or `package.module:Class` that is there.

    Imports a user's own module, since only that tells whether it has the class; nothing of the known trainers.
    """
    if name in TRAINERS:
        return
    if _CLASS.fullmatch(name):
        _load(name)
        return
    hint = did_you_mean(name, TRAINERS)
    raise OrchError(
        f"unknown trainer {name!r}",
        where="trainer",
        fix=f"{hint}known: {', '.join(TRAINERS)}; or package.module:Class",
    )


def check_fit(recipe: Recipe, resources: Resources, *, evaluate_every: int | None = None) -> None:
    """Raise OrchError for what the recipe's trainer is known not to do; imports nothing heavy."""
    if recipe.trainer in _SUPPORT:
        import_module(_SUPPORT[recipe.trainer]).check_support(recipe, resources)
    if recipe.trainer == "verl":
        check_settings(resources)
    elif resources.verl:
        raise OrchError(
            f"cluster.verl holds settings of verl, and the trainer is {recipe.trainer}",
            where="cluster.verl",
            fix="leave it out, or choose trainer: verl",
        )


def _load(name: str) -> Any:
    """The class of a trainer; a user's own may lie in the current folder, where a trial's `python -m` finds it."""
    module_name, _, class_name = TRAINERS.get(name, name).partition(":")
    here = str(Path.cwd())
    if name not in TRAINERS and here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise OrchError(
            f"trainer {name!r} cannot be loaded: {error}",
            where="trainer",
            fix="check the module path and the class name, and that the package is installed or on PYTHONPATH",
        ) from error
