"""Log-probs and entropies of chosen tokens from hidden states, differentiable, without the logits of a batch.

The forward pass keeps one log-sum-exp a token (and the logits only if all of them are one chunk); the backward pass
makes each chunk of logits again, turns it into its own gradient in place, and multiplies that with hidden states and
head. With g and h the gradients of log-prob and entropy:

    ∂/∂z = g·(onehot − p) − h·p·(ln p + H),   ∂z/∂product = (1 − tanh²)/T

Shapes: N tokens, K tokens of a chunk, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainers.head.distribution import entropy_of, row_blocks
from trainers.head.operators import CHUNK, Head, Implementation, implementation_for


def hidden_log_probs(
    hidden_ND: Tensor,
    head: Head,
    token_N: Tensor,
    *,
    with_entropy: bool = False,
    max_logits: int = CHUNK,
    implementation: Implementation | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return log p(token) and, if asked, H, each (N,) in nats, with gradients for hidden states and head.

    Args:
        hidden_ND: hidden states at the positions that predict the tokens.
        head: the output layer.
        token_N: int64, the chosen tokens.
        with_entropy: whether the loss has an entropy bonus.
        max_logits: bound on the logits held at once, those of the backward pass included.
        implementation: None leaves the choice to device and type.
    """
    implementation = implementation or implementation_for(hidden_ND)
    settings = _Settings(head=head, with_entropy=with_entropy, max_logits=max_logits)
    apply = _apply_fused if implementation == "triton" else _apply_torch
    logp_N, entropy_N = apply(hidden_ND, head.weight_VD, head.bias_V, token_N, settings)
    return logp_N, entropy_N if with_entropy else None


def kept_chunks(hidden_ND: Tensor, head: Head) -> Iterator[slice]:
    """Yield slices over tokens for a caller whose loss is a sum over tokens: backward after each spares a product.

    Plain torch keeps the logits of a call that is one chunk, and makes no second product for the backward pass. The
    kernels cut the vocabulary and not the tokens: one call for all is best.
    """
    if implementation_for(hidden_ND) == "torch":
        yield from head.chunks(len(hidden_ND), CHUNK // 2)
    elif len(hidden_ND):
        yield slice(0, len(hidden_ND))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    head: Head
    with_entropy: bool
    max_logits: int


class _TorchLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, token_N: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor]:
        head = settings.head
        cuts = list(head.chunks(len(token_N), settings.max_logits // 2))  # beside a chunk stands its gradient
        dtype = torch.promote_types(hidden_ND.dtype, torch.float32)
        logp_N, lse_N, entropy_N = hidden_ND.new_zeros(3, len(token_N), dtype=dtype)
        logits_KV = None
        for cut in cuts:
            logits_KV = head.logits(hidden_ND[cut])
            lse_N[cut] = torch.logsumexp(logits_KV, dim=-1)
            logp_N[cut] = logits_KV.gather(-1, token_N[cut, None])[:, 0] - lse_N[cut]
            if settings.with_entropy:
                entropy_N[cut] = entropy_of(logits_KV, lse_N[cut])
        # Where one chunk holds them all, the logits stay for backward; else it makes each chunk's again.
        kept_NV = logits_KV if len(cuts) == 1 else None
        ctx.settings = settings
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N, kept_NV)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N, kept_NV = ctx.saved_tensors
        settings: _Settings = ctx.settings
        head = replace(settings.head, weight_VD=weight_VD, bias_V=bias_V)
        logp_gradient_N, entropy_gradient_N = gradients
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        weight_gradient_VD = bias_gradient_V = None
        for cut in head.chunks(len(token_N), settings.max_logits // 2):
            logits_KV = head.logits(hidden_ND[cut]) if kept_NV is None else kept_NV
            product_gradient_KV = _product_gradient(
                logits_KV,
                head,
                token_N[cut],
                lse_N[cut],
                logp_gradient_N[cut],
                entropy_N[cut] if settings.with_entropy else None,
                entropy_gradient_N[cut],
            ).to(hidden_ND.dtype)
            hidden_gradient_ND[cut] = product_gradient_KV @ weight_VD
            if ctx.needs_input_grad[1]:
                weight_gradient_VD = _plus(weight_gradient_VD, product_gradient_KV, hidden_ND[cut])
            if bias_V is not None and ctx.needs_input_grad[2]:
                part_V = product_gradient_KV.sum(0)
                bias_gradient_V = part_V if bias_gradient_V is None else bias_gradient_V + part_V
        return hidden_gradient_ND, weight_gradient_VD, bias_gradient_V, None, None


class _FusedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, token_N: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor]:
        from trainers.head.fused import Tuning, token_logp, token_statistics

        ctx.settings = settings
        tuning = Tuning(workspace_bytes=4 * settings.max_logits)
        if settings.with_entropy:
            found = token_statistics(hidden_ND, settings.head, token_N, tuning=tuning)
            logp_N, lse_N, entropy_N = found.logp_N, found.lse_N, found.entropy_N
        else:
            logp_N, lse_N = token_logp(hidden_ND, settings.head, token_N, tuning=tuning)
            entropy_N = torch.zeros_like(lse_N)
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N)
        return logp_N.clone(), entropy_N.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from trainers.head.fused import OutputGradients, Tuning
        from trainers.head.fused import gradients as fused_gradients

        hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N = ctx.saved_tensors
        settings: _Settings = ctx.settings
        head = replace(settings.head, weight_VD=weight_VD, bias_V=bias_V)
        outputs = OutputGradients(
            token_N=token_N,
            lse_N=lse_N,
            logp_gradient_N=gradients[0].contiguous(),
            entropy_N=entropy_N if settings.with_entropy else None,
            entropy_gradient_N=gradients[1].contiguous() if settings.with_entropy else None,
        )
        found = fused_gradients(
            hidden_ND,
            head,
            outputs,
            needs_weight=ctx.needs_input_grad[1],
            tuning=Tuning(workspace_bytes=4 * settings.max_logits),
        )
        return *found, None, None


def _product_gradient(
    logits_KV: Tensor,
    head: Head,
    token_K: Tensor,
    lse_K: Tensor,
    logp_gradient_K: Tensor,
    entropy_K: Tensor | None,
    entropy_gradient_K: Tensor,
) -> Tensor:
    """Return the gradient of the products in the place of their logits, a few rows that stay in cache at a time.

    With outputs log p_y and H whose gradients are g and h: ∂/∂z = g·(onehot(y) − p) − h·p·(ln p + H); then the slope of
    the cap, 1 − tanh², and of the temperature, 1/T.
    """
    for rows in row_blocks(logits_KV):
        z_RV = logits_KV[rows]
        slope_RV = None
        if head.softcap is not None:
            slope_RV = 1 - (z_RV * (head.temperature / head.softcap)).square_()
        logp_RV = z_RV.sub_(lse_K[rows, None])
        if entropy_K is None:
            logp_RV.exp_().mul_(-logp_gradient_K[rows, None])
        else:
            # g + h·(ln p + H), where p = 0 counts nothing: ln p may be −inf there.
            p_RV = logp_RV.exp()
            logp_RV.masked_fill_(p_RV == 0, 0.0).add_(entropy_K[rows, None])
            logp_RV.mul_(entropy_gradient_K[rows, None]).add_(logp_gradient_K[rows, None]).mul_(p_RV).neg_()
        z_RV.scatter_add_(-1, token_K[rows, None], logp_gradient_K[rows, None])
        if slope_RV is not None:
            z_RV.mul_(slope_RV)
        if head.temperature != 1.0:
            z_RV.div_(head.temperature)
    return logits_KV


def _plus(sum_VD: Tensor | None, gradient_KV: Tensor, hidden_KD: Tensor) -> Tensor:
    return gradient_KV.T @ hidden_KD if sum_VD is None else sum_VD.addmm_(gradient_KV.T, hidden_KD)


_apply_torch: Callable[..., tuple[Tensor, Tensor]] = _TorchLogProbs.apply
_apply_fused: Callable[..., tuple[Tensor, Tensor]] = _FusedLogProbs.apply
