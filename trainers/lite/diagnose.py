"""What one policy's tokens look like to every selector: offline, on freshly sampled groups, for figures.

Costs what one training step costs, and a backward pass for each token of two responses. Nothing of the run changes.

Shapes: B sequences, T response tokens, N response tokens in a row.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from eval.benchmarks.registry import load
from eval.engines.decoding import Decoding
from eval.engines.hf import HfSampler
from eval.engines.hf_model import end_tokens, load_model
from eval.errors import OrchError
from eval.seeds import derive_seed
from trainers.batch import RolloutBatch
from trainers.head.distribution import gradient_norm_square, hidden_statistics
from trainers.head.log_probs import hidden_log_probs
from trainers.head.operators import Head, TokenStatistics
from trainers.lite.forward import needed_hidden, pass_over, passes, places
from trainers.lite.optimizer import make_optimizer
from trainers.lite.policy import Policy
from trainers.lite.rollout import RolloutSource, collect_rollouts
from trainers.lite.score import score_rollouts
from trainers.lite.update import update_policy
from trainers.methods import METHODS
from trainers.prompts import PromptOrder
from trainers.recipe import Recipe, Resources, Selection
from trainers.selection import SELECTORS, Tokens, scopes, select
from trainers.step import competitors, plan_step, select_first

_MEASURED: Final = "ict"
"""The method whose distance from the group's mean is measured: a token has one deviation in the tables, `js`."""
COMPARED: Final = tuple(
    sorted(
        (
            name
            for name in SELECTORS
            if METHODS[name].has_ratio and METHODS[name].distance in (None, METHODS[_MEASURED].distance)
        ),
        key=lambda name: not METHODS[name].reads_policy,
    )
)
"""The selectors that are set side by side, all at one ρ and scope: those that rank by what is measured, then random."""

Columns = dict[str, list[Any]]
"""Column → one value a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Tables for figures, and what they were made with."""

    tokens: Columns
    """One row a response token: uid, group, position, length, token, text, advantage, reward, entropy, purity,
    probability, js, omega, logit_gradient, and a bool `selected_<method>` for each of COMPARED."""
    gradients: Columns
    """One row a token of two responses: uid, position, advantage, entropy, omega, logp_gradient (‖∂ log π/∂θ‖₂)."""
    changes: Columns
    """One row a token that the trial's method trains on, of one update: predicted and actual change of H2, nats."""
    ratio: float
    scope: str
    method: str
    """The trial's own method, which made the update of `changes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The policy to look at and where its prompts come from."""

    recipe: Recipe
    seed: int
    policy_folder: Path
    base_folder: Path
    """The initial model: the reference of a KL term."""
    data_folder: Path | None
    num_prompts: int


def diagnose(subject: Subject, *, on_progress: Callable[[str], None] = lambda line: None) -> Diagnosis:
    """Sample, score and select, measure gradients token by token, and make one trial update on a copy.

    Args:
        subject: whom to diagnose.
        on_progress: told a line as each part begins.

    Raises:
        OrchError: the model or data cannot be loaded, or no group has a signal to learn from.
    """
    recipe = _one_batch(subject.recipe, subject.num_prompts)
    on_progress(f"sampling {subject.num_prompts} groups of {recipe.group_size}")
    policy = Policy(subject.policy_folder, recipe, Resources())
    reference = load_model(subject.base_folder, device=policy.device) if recipe.algorithm.kl_coef > 0 else None
    batch = _sample(policy, recipe, subject)
    if not bool((batch.advantage_B != 0).any()):
        raise OrchError(
            f"all responses to {subject.num_prompts} prompts earned the same: there is no gradient to look at",
            where=str(subject.policy_folder),
            fix="ask for more prompts with --prompts",
        )
    on_progress("scoring under every selector")
    ratio = recipe.selection.ratio or 0.2
    scope = recipe.selection.scope if recipe.selection.ratio else "batch"
    neutral = Selection(method=_MEASURED, ratio=ratio, scope=scope, scope_sequences=recipe.selection.scope_sequences)
    batch = score_rollouts(policy.model, reference, batch, replace(recipe, selection=neutral), micro_batch_sequences=64)
    tokens = competitors(
        batch,
        replace(recipe, selection=neutral),
        batch.scores,
        scope_B=scopes(neutral, batch.group_B, torch.zeros_like(batch.group_B)),
        draw_seed=derive_seed(subject.seed, "diagnose"),
    )
    masks = {name: select(tokens, replace(neutral, method=name), ratio=ratio) for name in COMPARED}
    on_progress("one backward pass for each token of two responses")
    gradients = _gradients(policy.model, batch, tokens, recipe)
    on_progress("one trial update on a copy")
    changes = _changes(policy.model, reference, batch, recipe, subject.seed)
    return Diagnosis(
        tokens=_token_columns(batch, tokens, masks, lambda token: policy.tokenizer.decode([token])),
        gradients=gradients,
        changes=changes,
        ratio=ratio,
        scope=scope,
        method=recipe.selection.method,
    )


def _one_batch(recipe: Recipe, num_prompts: int) -> Recipe:
    return replace(
        recipe,
        algorithm=replace(recipe.algorithm, dynamic_sampling=False),
        selection=replace(recipe.selection, order="after_filter", preset=None),
        prompts_per_step=num_prompts,
        mini_batch_prompts=num_prompts,
        ppo_epochs=1,
    )


def _sample(policy: Policy, recipe: Recipe, subject: Subject) -> RolloutBatch:
    data, tokenizer = recipe.data, policy.tokenizer
    seed = derive_seed(subject.seed, "diagnose")
    encoder = HfSampler(policy.sampled, tokenizer, model_digest="", batch_sequences=1)
    source = RolloutSource(
        prompts=PromptOrder(
            load(data.name, data_folder=subject.data_folder, limit=data.limit).problems,
            template=data.template,
            encoder=encoder,
            max_tokens=data.max_prompt_tokens,
            seed=seed,
        ),
        model=policy.sampled,
        decoding=Decoding(
            max_new_tokens=data.max_response_tokens,
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            end_tokens=end_tokens(policy.model, tokenizer),
            pad_token=tokenizer.pad_token_id,
            batch_sequences=256,
        ),
        decode=encoder.decode,
        seed=seed,
    )
    return collect_rollouts(source, recipe, position=0).batch.to(policy.device)


def _token_columns(
    batch: RolloutBatch, tokens: Tokens, masks: dict[str, Tensor], decode: Callable[[int], str]
) -> Columns:
    row_N, position_N = tokens.mask_BT.nonzero(as_tuple=True)
    assert tokens.deviation_BT is not None
    token = batch.response_BT[row_N, position_N].tolist()
    at = (row_N, position_N)
    return {
        "uid": batch.uid_B[row_N].tolist(),
        "group": batch.group_B[row_N].tolist(),
        "position": position_N.tolist(),
        "length": batch.response_length_B[row_N].tolist(),
        "token": token,
        "text": [decode(value) for value in token],
        "advantage": batch.advantage_B[row_N].tolist(),
        "reward": batch.reward_B[row_N].tolist(),
        "entropy": tokens.entropy_BT[at].tolist(),
        "purity": tokens.purity_BT[at].tolist(),
        "probability": tokens.logp_BT[at].exp().tolist(),
        "js": tokens.deviation_BT[at].tolist(),
        "omega": tokens.weight_BT[at].tolist(),
        "logit_gradient": gradient_norm_square(tokens.logp_BT[at], tokens.purity_BT[at]).sqrt().tolist(),
        **{f"selected_{name}": mask_BT[at].tolist() for name, mask_BT in masks.items()},
    }


def _gradients(model: Any, batch: RolloutBatch, tokens: Tokens, recipe: Recipe) -> Columns:
    """Measure ‖∂ log π/∂θ‖ of the tokens of the group's best and worst response, in the first group with a signal."""
    group = batch.group_B[(batch.advantage_B != 0).nonzero()[0, 0]]
    rows = (batch.group_B == group).nonzero()[:, 0]
    advantage = batch.advantage_B[rows]
    head = Head.of(model, recipe.temperature)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    columns: Columns = {name: [] for name in ("uid", "position", "advantage", "entropy", "omega", "logp_gradient")}
    for row in (rows[advantage.argmax()], rows[advantage.argmin()]):
        length = int(batch.response_length_B[row])
        whole = int(batch.prompt_length_B[row]) + length - 1
        part = pass_over(batch, tokens.mask_BT, row[None], whole)
        hidden_TD = needed_hidden(model, part)
        for position in range(length):
            token = slice(position, position + 1)
            logp_1, _ = hidden_log_probs(hidden_TD[token], head, batch.response_BT[row, token])
            gradient = torch.autograd.grad(logp_1, parameters, retain_graph=position < length - 1)
            columns["logp_gradient"].append(_norm(gradient))
        columns["position"] += range(length)
        columns["uid"] += [int(batch.uid_B[row])] * length
        columns["advantage"] += [float(batch.advantage_B[row])] * length
        columns["entropy"] += tokens.entropy_BT[row, :length].tolist()
        columns["omega"] += tokens.weight_BT[row, :length].tolist()
    return columns


def _changes(model: Any, reference: Any | None, batch: RolloutBatch, recipe: Recipe, seed: int) -> Columns:
    """Compare ΔH2 ≈ −2·δz_y·p_y(p_y − C)/C with what an AdamW step really does, at the tokens it was made for.

    Source: ICT eq. (6) and A.3.5. δz_y is the change of the token's own logit, at the temperature.
    """
    batch = score_rollouts(model, reference, batch, recipe, micro_batch_sequences=64)
    before = _statistics(model, batch, recipe.temperature)
    trained = copy.deepcopy(model)
    update_policy(
        trained, make_optimizer(trained.parameters(), recipe), batch, recipe,
        step=recipe.steps, seed=seed, micro_batch_sequences=64,
    )  # fmt: skip
    after = _statistics(trained, batch, recipe.temperature)
    moved_N = (after.logp_N + after.lse_N) - (before.logp_N + before.lse_N)
    p_N, c_N = before.logp_N.exp(), before.purity_N
    plan = plan_step(batch, recipe, step=recipe.steps, seed=seed)  # as the update above had it
    chosen_BT = select_first(batch, plan).selected_BT & (batch.advantage_B != 0)[:, None]
    chosen_N = chosen_BT[places(list(passes(batch, batch.response_mask_BT, 64)))]
    return {
        "predicted": (-2 * moved_N * p_N * (p_N - c_N) / c_N)[chosen_N].tolist(),
        "actual": (before.purity_N.log() - after.purity_N.log())[chosen_N].tolist(),
    }


@torch.no_grad()
def _statistics(model: Any, batch: RolloutBatch, temperature: float) -> TokenStatistics:
    parts = list(passes(batch, batch.response_mask_BT, 64))
    row_N, position_N = places(parts)
    hidden_ND = torch.cat([needed_hidden(model, part) for part in parts])
    return hidden_statistics(hidden_ND, Head.of(model, temperature), batch.response_BT[row_N, position_N])


def _norm(gradient: Sequence[Tensor]) -> float:
    return float(torch.stack([value.square().sum() for value in gradient]).sum().sqrt())
