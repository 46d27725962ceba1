"""Log-probs (and entropies) from hidden states, with gradients, and no logits beyond a bounded chunk at a time.

Forward keeps one number a token; backward makes each chunk of logits again, turns it into its gradient in place, and
multiplies that with the head and with the hidden states. A third product instead of N × V numbers kept.

Shapes: N tokens, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainers.distribution import CHUNK, Head, has_kernels, raw_statistics


def head_logp(hidden_ND: Tensor, head: Head, token_N: Tensor, *, max_logits: int = CHUNK // 2) -> tuple[Tensor, Tensor]:
    """Return log p(token) and the entropy in nats, (N,) each, differentiable in the hidden states and the head.

    Args:
        hidden_ND: hidden states at the positions that predict the tokens.
        head: the output layer; its temperature applies.
        token_N: int64, the chosen tokens.
        max_logits: logits held at once; a second block of as many holds their gradient.
    """
    return _apply(hidden_ND, head.weight_VD, head.bias_V, token_N, head.temperature, max_logits)


class _HeadLogp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        token_N: Tensor,
        temperature: float,
        max_logits: int,
    ) -> tuple[Tensor, Tensor]:
        head = Head(weight_VD=weight_VD, bias_V=bias_V, temperature=temperature)
        parts = [
            raw_statistics(head.raw_logits(hidden_ND[rows]), token_N[rows], temperature=temperature)
            for rows in head.chunks(len(token_N), max_logits)
        ]
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        logp_N, entropy_N, lse_N = (
            torch.cat([getattr(part, name) for part in parts]) if parts else hidden_ND.new_zeros(0, dtype=wide)
            for name in ("logp_N", "entropy_N", "lse_N")
        )
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N)
        ctx.temperature, ctx.max_logits = temperature, max_logits
        ctx.set_materialize_grads(False)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, token_N, lse_N, entropy_N = ctx.saved_tensors
        logp_gradient_N, entropy_gradient_N = gradients
        if logp_gradient_N is None:
            logp_gradient_N = torch.zeros_like(lse_N)
        head = Head(weight_VD=weight_VD, bias_V=bias_V, temperature=ctx.temperature)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wide = lse_N.dtype
        hidden_gradient_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        weight_gradient_VD = torch.zeros_like(weight_VD, dtype=wide) if wants_weight else None
        bias_gradient_V = torch.zeros_like(bias_V, dtype=wide) if wants_bias else None
        for rows in head.chunks(len(token_N), ctx.max_logits):
            gradient_CV = _logits_gradient(
                head.raw_logits(hidden_ND[rows]),
                token_N[rows],
                lse_N[rows],
                logp_gradient_N[rows],
                entropy_N[rows],
                None if entropy_gradient_N is None else entropy_gradient_N[rows],
                temperature=ctx.temperature,
                dtype=hidden_ND.dtype,
            )
            if hidden_gradient_ND is not None:
                torch.mm(gradient_CV, weight_VD, out=hidden_gradient_ND[rows])
            if weight_gradient_VD is not None:
                _add_product(weight_gradient_VD, gradient_CV, hidden_ND[rows])
            if bias_gradient_V is not None:
                bias_gradient_V += gradient_CV.sum(0, dtype=wide)
        return (
            hidden_gradient_ND,
            None if weight_gradient_VD is None else weight_gradient_VD.to(weight_VD.dtype),
            None if bias_gradient_V is None else bias_gradient_V.to(bias_V.dtype),
            None,
            None,
            None,
        )


def _logits_gradient(
    logits_CV: Tensor,
    token_C: Tensor,
    lse_C: Tensor,
    logp_gradient_C: Tensor,
    entropy_C: Tensor,
    entropy_gradient_C: Tensor | None,
    *,
    temperature: float,
    dtype: torch.dtype,
) -> Tensor:
    """Return ∂/∂z of Σ g·log p_y + Σ h·H: (g·(1[y] − p) − h·p·(ln p + H))/T, in the type of the products to come."""
    if has_kernels(logits_CV):
        from trainers.kernels import chunk_gradient

        out_CV = logits_CV if logits_CV.dtype == dtype else torch.empty_like(logits_CV, dtype=dtype)
        return chunk_gradient(
            logits_CV,
            token_C,
            lse_C,
            logp_gradient_C,
            temperature=temperature,
            entropy_N=entropy_C,
            entropy_gradient_N=entropy_gradient_C,
            out_NV=out_CV,
        )
    logp_CV = logits_CV.to(lse_C.dtype).div_(temperature).sub_(lse_C[:, None])
    p_CV = logp_CV.exp()
    gradient_CV = p_CV * -logp_gradient_C[:, None]
    gradient_CV.scatter_add_(1, token_C[:, None], logp_gradient_C[:, None])
    if entropy_gradient_C is not None:
        terms_CV = torch.where(p_CV > 0, p_CV * (logp_CV + entropy_C[:, None]), 0.0)
        gradient_CV -= terms_CV.mul_(entropy_gradient_C[:, None])
    return gradient_CV.div_(temperature).to(dtype)


def _add_product(sum_VD: Tensor, gradient_CV: Tensor, hidden_CD: Tensor) -> None:
    """Add gradientᵀ·hidden in the sum's own type: chunks of half precision would round at each."""
    if sum_VD.dtype == gradient_CV.dtype:
        sum_VD.addmm_(gradient_CV.t(), hidden_CD)
    elif sum_VD.is_cuda:
        torch.ops.aten.addmm.dtype_out(sum_VD, gradient_CV.t(), hidden_CD, sum_VD.dtype, out=sum_VD)
    else:
        sum_VD.addmm_(gradient_CV.t().to(sum_VD.dtype), hidden_CD.to(sum_VD.dtype))


_apply: Callable[..., tuple[Tensor, Tensor]] = _HeadLogp.apply
