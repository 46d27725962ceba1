"""The loss inside verl's workers: `trainers.objective` on the tokens of one micro-batch.

The weights that come with the tokens hold mask, normaliser and mean of the whole mini-batch; summing is all that is
left, so that no way of cutting a mini-batch changes the loss.

Shapes: N response tokens of the micro-batch, those of padding rows included, whose weights are 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.objective import token_terms, weighted_loss
from trainers.recipe import Algorithm

POLICY_WEIGHT, REGULARISER_WEIGHT, ADVANTAGE = "orch_policy_weight", "orch_regulariser_weight", "orch_advantage"
"""Fields that the trainer puts beside verl's own, one value a response token."""
SUMS = ("count", "ratio", "clipped", "old_kl", "kl", "regularised")
"""Metrics of the loss, sums over a mini-batch."""


def micro_batch_loss(
    logp_N: Tensor, entropy_N: Tensor | None, fields: dict[str, Tensor], algorithm: Algorithm
) -> tuple[Tensor, dict[str, float]]:
    """Return the micro-batch's share of the loss, and the sums of `SUMS`.

    Args:
        logp_N: log-probs under the policy, with gradient.
        entropy_N: entropies, with gradient, where there is a bonus.
        fields: `old_log_probs`, `ref_log_prob` where there is a KL term, and the three of this module, each (N,).
        algorithm: the objective.
    """
    regulariser_N = fields[REGULARISER_WEIGHT]
    terms = token_terms(
        logp_N,
        old_logp_N=fields["old_log_probs"],
        advantage_N=fields[ADVANTAGE],
        ref_logp_N=fields.get("ref_log_prob"),
        algorithm=algorithm,
    )
    loss = weighted_loss(
        terms,
        policy_N=fields[POLICY_WEIGHT],
        regulariser_N=regulariser_N,
        entropy_N=entropy_N,
        algorithm=algorithm,
    )
    with torch.no_grad():
        real_N = fields["response_mask"].bool()
        kl = 0.0 if terms.kl_N is None else float((regulariser_N * terms.kl_N).sum())
        values = (
            int(real_N.sum()),
            float(terms.ratio_N[real_N].sum()),
            int(terms.is_clipped_N[real_N].sum()),
            float((fields["old_log_probs"] - logp_N)[real_N].sum()),
            kl,
            float(regulariser_N.sum()),
        )
    return loss, dict(zip(SUMS, map(float, values), strict=True))


def verl_loss(model_output: Any, data: Any, dp_group: Any = None, *, algorithm: Algorithm) -> tuple[Tensor, Any]:
    """`micro_batch_loss` behind the interface of verl's loss functions, scaled for FSDP's mean over workers."""
    from verl.utils.metric import AggregationType, Metric
    from verl.workers.utils.padding import response_from_nested

    mask = data["response_mask"]
    names = ["old_log_probs", "response_mask", POLICY_WEIGHT, REGULARISER_WEIGHT, ADVANTAGE]
    names += ["ref_log_prob"] if algorithm.kl_coef > 0 else []
    entropy = model_output.get("entropy") if algorithm.entropy_coef > 0 else None
    loss, sums = micro_batch_loss(
        response_from_nested(model_output["log_probs"], mask).values(),
        None if entropy is None else response_from_nested(entropy, mask).values(),
        {name: data[name].values() for name in names},
        algorithm,
    )
    num_workers = int(data["dp_size"])
    metrics = Metric.from_dict(
        {f"orch/{name}": value * num_workers for name, value in sums.items()}, aggregation=AggregationType.SUM
    )
    return loss * num_workers, metrics
