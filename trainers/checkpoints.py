"""Checkpoints as every trainer leaves them: which are kept, the final policy, folders written whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from eval.errors import OrchError
from eval.files import sync
from trainers.api import POLICIES
from trainers.manifest import reward_of, write_hidden_manifest
from trainers.recipe import Resources

FINAL = "final"

_PARTIAL = ".partial-"
_STEP_FOLDER = re.compile(r"(?:step-|global_step_)(\d+)")
"""As `lite` calls a checkpoint's folder, and as verl does."""

_WRITER_SIGNS = ("PytorchStreamWriter", "inline_container.cc", "write")
"""How torch.save words a full disk, by its version."""


def export_final(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write the trained policy atomically into `folder/final`, replacing what was there.

    Args:
        folder: the trial's checkpoint folder.
        write: saves model and tokenizer into the folder it is given.

    Raises:
        OrchError: the disk is full or the folder cannot be written.
    """
    with written_atomically(folder / FINAL) as partial:
        write(partial)
        write_hidden_manifest(partial)
    return folder / FINAL


def leave_policy(folder: Path, step: int, write: Callable[[Path], None]) -> None:
    """Write the policy of a step atomically into `folder/policies/<step>`, for evaluation after training."""
    (folder / POLICIES).mkdir(parents=True, exist_ok=True)
    with written_atomically(folder / POLICIES / str(step)) as partial:
        write(partial)


@contextmanager
def written_atomically(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; when the block ends well it is synced and takes the target's place."""
    partial = target.parent / f"{_PARTIAL}{target.name}"
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in partial.rglob("*"):
            sync(file)
        sync(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        sync(target.parent)
    except (OSError, RuntimeError) as error:
        # torch.save reports a full disk as a RuntimeError of its writer.
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _WRITER_SIGNS):
            raise
        said = error.__context__ if isinstance(error.__context__, OSError) else error
        raise OrchError(
            f"the checkpoint cannot be written: {said}",
            where=str(target),
            fix="free some disk space or fix the permissions, then run the same command again",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def delete_partial(folder: Path) -> None:
    """Delete what killed writers left in a folder of checkpoints."""
    for left_over in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def step_folders(checkpoints: Path) -> list[tuple[int, Path]]:
    """The resumable checkpoints of a trial with their steps, newest first."""
    if not checkpoints.is_dir():
        return []
    matches = ((_STEP_FOLDER.fullmatch(path.name), path) for path in checkpoints.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def prune(checkpoints: Path, resources: Resources, *, newest: int) -> None:
    """Delete what `resources` does not ask to keep.

    Steps beyond `newest` go in any case: they were passed over as damaged when training resumed, and must not outlive
    whole ones.
    """
    folders = step_folders(checkpoints)
    kept = kept_steps({step: reward_of(folder) for step, folder in folders if step <= newest}, resources)
    for step, folder in folders:
        if step not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def kept_steps(rewards: Mapping[int, float | None], resources: Resources) -> frozenset[int]:
    """Return the steps whose checkpoints are kept.

    Args:
        rewards: step → mean training reward in it, None where it is not known; these are never among the best. Equal
            ones count by their step, the later first.
        resources: `keep_checkpoints`, `keep_best` and `keep_every`.
    """
    newest = sorted(rewards, reverse=True)[: resources.keep_checkpoints]
    known = ((reward, step) for step, reward in rewards.items() if reward is not None)
    best = [step for _, step in sorted(known, reverse=True)[: resources.keep_best]]
    every = [step for step in rewards if resources.keep_every and step % resources.keep_every == 0]
    return frozenset((*newest, *best, *every))
