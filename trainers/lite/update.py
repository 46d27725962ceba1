"""The update of one training step: for every epoch and mini-batch, select → weigh → forward and backward → step.

The sparse and the dense update have the same gradients. The sparse one runs rows that hold a needed token, cut after
the last of them, the last feed-forward block and the head at those tokens only (`trainers/head/log_probs.py`).

Shapes: B sequences of the step, T response tokens, N needed tokens of one pass.
"""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from eval.errors import OrchError
from trainers.batch import RolloutBatch
from trainers.head.log_probs import hidden_log_probs, kept_chunks
from trainers.head.operators import Head
from trainers.lite.forward import Pass, last_needed, needed_hidden, passes
from trainers.lite.remade import remade_layers
from trainers.lite.score import policy_scores
from trainers.objective import LossWeights, needs_gradient, token_terms, weighted_loss
from trainers.recipe import Recipe
from trainers.step import StepPlan, mini_batch_weights, plan_step, select_again, select_first


def update_policy(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batch: RolloutBatch,
    recipe: Recipe,
    *,
    step: int,
    seed: int,
    micro_batch_sequences: int,
) -> dict[str, float]:
    """Train the model on a scored batch and return the step's metrics, named in `trainers.diagnostics.METRICS`.

    Args:
        model: the policy; its parameters change.
        optimizer: stepped once a mini-batch and epoch; its learning rate is the caller's.
        batch: from `score_rollouts`; whole groups, in training order. An empty batch changes nothing.
        recipe: objective, selection, mini-batches, epochs, gradient clipping.
        step: the training step, counted from 1.
        seed: the run's seed; random selection draws from (seed, step).
        micro_batch_sequences: rows of one forward and backward pass; changes rounding only.

    Raises:
        OrchError: a gradient or a score is not a number, or the realised ratio is not the one asked for.
    """
    started = perf_counter()
    plan = plan_step(batch, recipe, step=step, seed=seed)
    chosen = select_first(batch, plan)
    selected_BT = chosen.selected_BT
    selecting_s = perf_counter() - started
    totals: dict[str, float] = defaultdict(float)
    updates = [label for _ in range(recipe.ppo_epochs) for label in range(plan.num_mini_batches)]
    for number, label in enumerate(updates):
        # Before the first update the present policy is the one that sampled, and has been scored.
        if number and recipe.is_rescored:
            again = perf_counter()
            competing = batch.take(plan.rows_competing(label))
            scores = policy_scores(model, competing, recipe, micro_batch_sequences=micro_batch_sequences)
            selected_BT = select_again(batch, scores, plan, label=label)
            selecting_s += perf_counter() - again
        weights = mini_batch_weights(batch, selected_BT, plan, label=label)
        mini_batch = batch.take(plan.rows_trained(label))
        found = _train(model, optimizer, mini_batch, weights, plan, micro_batch_sequences=micro_batch_sequences)
        for name, value in found.items():
            totals[name] += value
    metrics = chosen.metrics | {name: value / len(updates) for name, value in totals.items()}
    metrics["update/count"] = float(len(updates))
    metrics["time/select_s"] = selecting_s
    return metrics


def _train(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batch: RolloutBatch,
    weights: LossWeights,
    plan: StepPlan,
    *,
    micro_batch_sequences: int,
) -> dict[str, float]:
    """Make one optimizer step on one mini-batch and return its metrics."""
    recipe = plan.recipe
    response_BT = batch.response_mask_BT
    # The dense update runs all tokens, with weight 0 where they are not selected: the same gradients, for more work.
    needed_BT = response_BT
    if recipe.update == "sparse":
        needed_BT = needs_gradient(weights, batch.advantage_B, recipe.algorithm)
    optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=response_BT.device)
    with remade_layers(model, recipe):
        for part in passes(batch, needed_BT, micro_batch_sequences):
            sums += _backward(model, batch, part, weights, recipe)
    grad_norm = _clip(model, recipe.max_grad_norm, plan.step)
    optimizer.step()
    total = dict(zip(_SUMS, sums.tolist(), strict=True))
    count = max(total["count"], 1.0)
    metrics = {
        "loss": total["loss"],
        "policy/ratio_mean": total["ratio"] / count if total["count"] else 1.0,
        "policy/clip_fraction": total["clipped"] / count,
        "policy/approx_kl": total["old_kl"] / count,
        "gradient/norm": grad_norm,
        "update/head_share": total["count"] / max(int(response_BT.sum()), 1),
        "update/position_share": int(last_needed(needed_BT).sum()) / max(int(response_BT.sum()), 1),
    }
    if recipe.algorithm.kl_coef > 0:
        metrics["policy/ref_kl"] = total["kl"] / max(float(weights.regulariser_BT.sum()), 1e-12)
    return metrics


_SUMS = ("count", "loss", "ratio", "clipped", "old_kl", "kl")


def _backward(model: Any, batch: RolloutBatch, part: Pass, weights: LossWeights, recipe: Recipe) -> Tensor:
    """Add the gradient of one pass and return its sums, in the order of `_SUMS`.

    Backpropagation in two parts. The head's part goes by chunks of tokens, whose logits are made and freed one after
    the other; each leaves the gradient at its hidden states. Then one backward pass takes these through the decoder.
    """
    head = Head.of(model, recipe.temperature)
    hidden_ND = needed_hidden(model, part)
    # Cut off from the decoder's graph: else each chunk's backward would run through the whole decoder.
    leaf_ND = hidden_ND.detach()
    gradient_ND = torch.empty_like(leaf_ND)
    row_N, position_N = part.needed_RT.nonzero(as_tuple=True)
    row_N = part.rows_R[row_N]
    sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=leaf_ND.device)
    for cut in kept_chunks(leaf_ND, head):
        piece_KD = leaf_ND[cut].requires_grad_()
        loss, found = _chunk_loss(piece_KD, head, batch, (row_N[cut], position_N[cut]), weights, recipe)
        torch.autograd.backward(loss)
        assert piece_KD.grad is not None
        gradient_ND[cut] = piece_KD.grad
        sums += found
    torch.autograd.backward(hidden_ND, gradient_ND)
    return sums


def _chunk_loss(
    hidden_KD: Tensor,
    head: Head,
    batch: RolloutBatch,
    place: tuple[Tensor, Tensor],
    weights: LossWeights,
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    row_K, position_K = place
    algorithm = recipe.algorithm
    assert batch.old_logp_BT is not None
    logp_K, entropy_K = hidden_log_probs(
        hidden_KD,
        head,
        batch.tokens_BS[row_K, batch.prompt_length_B[row_K] + position_K],
        with_entropy=algorithm.entropy_coef > 0,
    )
    old_logp_K = batch.old_logp_BT[place]
    terms = token_terms(
        logp_K,
        old_logp_N=old_logp_K,
        advantage_N=batch.advantage_B[row_K].to(logp_K),
        ref_logp_N=None if batch.ref_logp_BT is None else batch.ref_logp_BT[place],
        algorithm=algorithm,
    )
    regulariser_K = weights.regulariser_BT[place]
    # The weights hold the mini-batch's normaliser: the losses of chunks and passes only have to be added up.
    loss = weighted_loss(
        terms,
        policy_N=weights.policy_BT[place],
        regulariser_N=regulariser_K,
        entropy_N=entropy_K,
        algorithm=algorithm,
    )
    with torch.no_grad():
        kl = torch.zeros_like(loss) if terms.kl_N is None else (regulariser_K * terms.kl_N).sum()
        found = (
            torch.full_like(loss, len(row_K)),
            loss,
            terms.ratio_N.sum(),
            terms.is_clipped_N.sum(),
            (old_logp_K - logp_K).sum(),
            kl,
        )
        return loss, torch.stack([value.double() for value in found])


def _clip(model: Any, max_norm: float | None, step: int) -> float:
    """Clip the gradient and return its norm before; parameters without a gradient get 0, as in a dense update."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, float("inf") if max_norm is None else max_norm))
    if norm != norm or norm == float("inf"):
        raise OrchError(
            f"the gradient of step {step} is not finite",
            where="recipe.learning_rate",
            fix="lower the learning rate, or use model.dtype float32",
        )
    return norm
