"""Resumable checkpoints: whole or absent, verified before they are trusted, pruned after the next one is whole.

checkpoints/step-00000010/{state.pt, manifest.json}    model, optimizer, random state, position, last metrics
checkpoints/final/                                     the trained policy as a Hugging Face folder, and .manifest.json
"""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from eval.errors import OrchError
from trainers.checkpoints import (
    delete_partial,
    prune,
    step_folders,
    written_atomically,
)
from trainers.manifest import LITE_STATE, MANIFEST, sha256_of
from trainers.recipe import Resources

log = logging.getLogger(__name__)

FORMAT = 1
"""Raised when the layout of `state.pt` changes; other formats are not read."""

State = dict[str, Any]
"""What a checkpoint holds: tensors, numbers, strings and containers of them, nothing that runs code when read."""


class CheckpointDamaged(Exception):
    """A checkpoint folder is not whole; an older one, or the start, is taken instead."""


def save_checkpoint(folder: Path, step: int, state: State, resources: Resources) -> Path:
    """Write a checkpoint atomically and delete those that `resources` does not ask to keep.

    Raises:
        OrchError: the disk is full or the folder cannot be written; older checkpoints are untouched then.
    """
    target = folder / f"step-{step:08d}"
    with written_atomically(target) as partial:
        with (partial / LITE_STATE).open("wb") as file:  # given a path, torch forgets what the system said of the disk
            torch.save(state, file)
        digest = sha256_of(partial / LITE_STATE)
        manifest = {"format": FORMAT, "step": step, "sha256": digest, "bytes": (partial / LITE_STATE).stat().st_size}
        manifest["reward"] = state.get("metrics", {}).get("reward/mean")
        (partial / MANIFEST).write_text(json.dumps(manifest))
    prune(folder, resources, newest=step)
    return target


def load_newest(folder: Path) -> State | None:
    """Return the state of the newest whole checkpoint, or None where there is none: training starts anew.

    A damaged checkpoint is passed over with a warning; as training is deterministic, the steps since an older one
    (or since the start) come out the same.

    Raises:
        OrchError: a checkpoint was written by another version of this format.
    """
    delete_partial(folder)
    for step, path in step_folders(folder):
        try:
            return _load(path)
        except CheckpointDamaged as damage:
            log.warning("checkpoint of step %d is passed over: %s (%s)", step, damage, path)
    return None


def _load(path: Path) -> State:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        written_format, expected = manifest["format"], manifest["sha256"]
        if written_format == FORMAT and sha256_of(path / LITE_STATE) != expected:
            raise CheckpointDamaged(f"{LITE_STATE} is not what was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{type(error).__name__}: {error}") from error
    if written_format != FORMAT:
        raise OrchError(
            f"the checkpoint has format {written_format}, this version reads {FORMAT}",
            where=str(path),
            fix="use the orch that wrote it, or delete the folder to train from the start",
        )
    try:
        state: State = torch.load(path / LITE_STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointDamaged(str(error)) from error
    return state
