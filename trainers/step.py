"""From a scored batch to what competes for selection, and to the mini-batches it is trained in: for every backend.

Shapes: B sequences, T response tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.batch import RolloutBatch
from trainers.objective import gradient_weight
from trainers.recipe import Recipe
from trainers.selection import Tokens


def mini_batches(batch: RolloutBatch, prompts: int) -> Tensor:
    """Return the mini-batch of each sequence, int64 (B,): `prompts` trained groups each, in order of appearance."""
    place: dict[int, int] = {}
    trained = [True] * len(batch) if batch.is_trained_B is None else batch.is_trained_B.tolist()
    labels = [
        place.setdefault(group, len(place)) // prompts if is_trained else -1
        for group, is_trained in zip(batch.group_B.tolist(), trained, strict=True)
    ]
    return torch.tensor(labels, dtype=torch.int64, device=batch.group_B.device)


def competitors(
    batch: RolloutBatch,
    recipe: Recipe,
    *,
    logp_BT: Tensor,
    entropy_BT: Tensor,
    purity_BT: Tensor,
    deviation_BT: Tensor | None,
    scope_B: Tensor,
    draw_seed: int,
) -> Tokens:
    """Return the tokens of a batch as the scored policy sees them.

    Args:
        batch: holds log-probs under the policy that sampled.
        recipe: gives the objective, whose gradient weighs each token.
        logp_BT: with the three that follow, what the scored policy says.
        entropy_BT: nats.
        purity_BT: Σp².
        deviation_BT: only for the methods that rank by it.
        scope_B: int64, from `trainers.selection.scopes`.
        draw_seed: from (run seed, step).
    """
    assert batch.old_logp_BT is not None
    advantage_B = batch.advantage_B
    if recipe.selection.advantage_per_token:
        advantage_B = advantage_B / (batch.response_length_B.clamp(min=1) * recipe.group_size)
    weight_BT = gradient_weight(
        logp_BT,
        old_logp_N=batch.old_logp_BT,
        advantage_N=advantage_B[:, None].to(logp_BT),
        ref_logp_N=batch.ref_logp_BT,
        algorithm=recipe.algorithm,
    )
    return Tokens(
        mask_BT=batch.learned_mask_BT,
        advantage_B=batch.advantage_B,
        group_B=batch.group_B,
        uid_B=batch.uid_B,
        scope_B=scope_B,
        logp_BT=logp_BT,
        entropy_BT=entropy_BT,
        purity_BT=purity_BT,
        weight_BT=weight_BT,
        deviation_BT=deviation_BT,
        draw_seed=draw_seed,
    )
