"""Which resumable checkpoints are kept: the last, the best, and every k-th. The same rule for every trainer."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.api import Resources


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
