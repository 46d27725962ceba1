"""Statistics of next-token distributions: chosen log-prob, entropy H, purity C, log-sum-exp.

From logits, or from hidden states and the head's weight, so that the logits of a whole batch never exist at once.
Accumulation is in float32 (float64 for float64 models) whatever the model's dtype; the temperature divides in that
dtype too. CPU and CUDA go through the same calls.

Shapes: N tokens, V vocabulary, D hidden. The distance from a group's mean distribution: `trainers/deviation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from eval.errors import ModelError

CPU_BLOCK: Final = 2**20
"""Logits worked on at a time on a CPU: a few rows that stay in its cache."""
CUDA_BLOCK: Final = 2**26
CHUNK: Final = 2**27
"""Logits held at a time, 512 MiB in float32: what bounds the memory of every function that takes hidden states."""
_NEVER: Final = -1e4
"""Below this difference of logits exp is exactly 0; it stands in for −inf where 0·(−inf) would be NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """What is kept of each token's distribution: four numbers instead of V."""

    logp_N: Tensor
    """Nats: log-probability of the chosen token."""
    entropy_N: Tensor
    """Nats: H = −Σ p ln p."""
    purity_N: Tensor
    """C = Σ p², the strategy purity; the Rényi entropy of order 2 is −ln C."""
    lse_N: Tensor
    """Log-sum-exp of the logits at the temperature."""

    @staticmethod
    def concatenate(parts: list[TokenStatistics]) -> TokenStatistics:
        """Return the statistics of several runs of tokens as one."""
        return TokenStatistics(
            logp_N=torch.cat([part.logp_N for part in parts]),
            entropy_N=torch.cat([part.entropy_N for part in parts]),
            purity_N=torch.cat([part.purity_N for part in parts]),
            lse_N=torch.cat([part.lse_N for part in parts]),
        )

    def take(self, indices_N: Tensor) -> TokenStatistics:
        """Return the statistics of the tokens at `indices_N`, in that order."""
        return TokenStatistics(
            logp_N=self.logp_N[indices_N],
            entropy_N=self.entropy_N[indices_N],
            purity_N=self.purity_N[indices_N],
            lse_N=self.lse_N[indices_N],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last linear map of a causal language model, and the temperature its logits are read at."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    temperature: float = 1.0

    @staticmethod
    def of(model: Any, temperature: float) -> Head:
        """Return the head of a Hugging Face causal language model.

        Raises:
            ModelError: its logits are not a linear map of its hidden states.
        """
        for key in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
            if getattr(model.config, key, None) not in (None, 1, 1.0):
                raise ModelError(
                    f"the model rescales its logits ({key}), which the trainer does not do",
                    where="model.path",
                    mend="use a model with plain logits, such as the Qwen, Llama or Mistral families",
                )
        head = model.get_output_embeddings()
        return Head(weight_VD=head.weight, bias_V=getattr(head, "bias", None), temperature=temperature)

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.weight_VD.shape[0]

    def raw_logits(self, hidden_ND: Tensor) -> Tensor:
        """Return z, (N, V): on a GPU the product's own float32 sums, which a cast to the model's type would round."""
        if hidden_ND.is_cuda and hidden_ND.element_size() == 2 and self.bias_V is None and not hidden_ND.requires_grad:
            return torch.mm(hidden_ND, self.weight_VD.t(), out_dtype=torch.float32)
        return functional.linear(hidden_ND, self.weight_VD, self.bias_V)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return z/T, at least float32 (N, V)."""
        return scaled(self.raw_logits(hidden_ND), self.temperature)

    def chunks(self, num_tokens: int, max_logits: int = CHUNK) -> Iterator[slice]:
        """Yield slices over tokens that cut a batch so that at most `max_logits` logits exist at once."""
        rows = max(1, max_logits // self.vocabulary)
        for start in range(0, num_tokens, rows):
            yield slice(start, min(start + rows, num_tokens))


def scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    """Return the logits over the temperature, in at least float32."""
    wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return wide_NV if temperature == 1.0 else wide_NV / temperature


@torch.no_grad()
def statistics(logits_NV: Tensor, token_N: Tensor) -> TokenStatistics:
    """Return the statistics of tokens from their logits (already at the temperature); −inf logits are allowed.

    With u = z − max z and s = Σ eᵘ: H = ln s + Σ eᵘ(−u)/s is a sum of non-negative terms, so nothing cancels; the
    usual lse − Σ p·z loses three digits at V = 151,936.

    Args:
        logits_NV: z/T, float32 or float64.
        token_N: int64, the chosen tokens.
    """
    parts = [_block_statistics(logits_NV[rows], token_N[rows]) for rows in row_blocks(logits_NV)]
    return TokenStatistics.concatenate(parts) if parts else _block_statistics(logits_NV, token_N)


@torch.no_grad()
def hidden_statistics(hidden_ND: Tensor, head: Head, token_N: Tensor, *, max_logits: int = CHUNK) -> TokenStatistics:
    """Return the statistics of tokens from their hidden states, holding at most `max_logits` logits at a time."""
    parts = [
        raw_statistics(head.raw_logits(hidden_ND[rows]), token_N[rows], temperature=head.temperature)
        for rows in head.chunks(len(token_N), max_logits)
    ]
    return TokenStatistics.concatenate(parts) if parts else statistics(head.logits(hidden_ND), token_N)


@torch.no_grad()
def raw_statistics(
    logits_NV: Tensor, token_N: Tensor, *, temperature: float, has_statistics: bool = True
) -> TokenStatistics:
    """Return the statistics of tokens from z: by one kernel on a GPU, by `statistics` elsewhere.

    Args:
        logits_NV: z, as the model gives it.
        token_N: int64, the chosen tokens.
        temperature: T.
        has_statistics: whether entropy and purity are wanted; a kernel leaves them undefined otherwise.
    """
    if not has_kernels(logits_NV):
        return statistics(scaled(logits_NV, temperature), token_N)
    from trainers.kernels import chunk_statistics

    logp_N, entropy_N, purity_N, lse_N = chunk_statistics(
        logits_NV, token_N, temperature=temperature, has_statistics=has_statistics
    )
    return TokenStatistics(logp_N=logp_N, entropy_N=entropy_N, purity_N=purity_N, lse_N=lse_N)


def has_kernels(values: Tensor) -> bool:
    """Whether Triton's kernels take these values: on an NVIDIA GPU, but for float64."""
    return values.is_cuda and values.dtype != torch.float64


@torch.no_grad()
def hidden_logp(hidden_ND: Tensor, head: Head, token_N: Tensor, *, max_logits: int = CHUNK) -> Tensor:
    """Return only the chosen log-probs (N,), in nats: all that is wanted of a reference model."""
    parts = []
    for rows in head.chunks(len(token_N), max_logits):
        logits_CV = head.raw_logits(hidden_ND[rows])
        if has_kernels(logits_CV):
            kept = raw_statistics(logits_CV, token_N[rows], temperature=head.temperature, has_statistics=False)
            parts.append(kept.logp_N)
        else:
            parts.append(chosen_logp(scaled(logits_CV, head.temperature), token_N[rows]))
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0)


def chosen_logp(logits_NV: Tensor, token_N: Tensor) -> Tensor:
    """Return log p(token), (N,), differentiable; the backward pass recomputes p and allocates one (N, V) block."""
    return _apply_chosen_logp(logits_NV, token_N)


def entropy(logits_NV: Tensor) -> Tensor:
    """Return H in nats, (N,), differentiable: for an entropy bonus. `statistics` is the cheap one."""
    logp_NV = torch.log_softmax(logits_NV, dim=-1).clamp(min=_NEVER)
    return -(logp_NV.exp() * logp_NV).sum(-1)


def gradient_norm_square(logp_N: Tensor, purity_N: Tensor) -> Tensor:
    """Return ‖∂ log p_y/∂z‖² = 1 − 2·p_y + C, (N,): the exact form of what GMTS approximates by the entropy.

    Source: GMTS eq. (2) with the L2 norm; docs/methods.md#gnorm.
    """
    return (1 - 2 * logp_N.exp() + purity_N).clamp(min=0.0)


def row_blocks(values_NV: Tensor) -> Iterator[slice]:
    """Yield slices of rows so small that elementwise work on them stays in cache."""
    limit = CUDA_BLOCK if values_NV.is_cuda else CPU_BLOCK
    rows = max(1, limit // values_NV.shape[1])
    for start in range(0, values_NV.shape[0], rows):
        yield slice(start, start + rows)


class _ChosenLogp(torch.autograd.Function):
    """log_softmax(z)[token] that saves z and lse; its gradient is g·(onehot − p)."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, token_N: Tensor) -> Tensor:
        lse_N = torch.logsumexp(logits_NV, dim=-1)
        ctx.save_for_backward(logits_NV, token_N, lse_N)
        return logits_NV.gather(-1, token_N[:, None])[:, 0] - lse_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits_NV, token_N, lse_N = ctx.saved_tensors
        gradient_N = gradients[0]
        result_NV = (logits_NV - lse_N[:, None]).exp_().mul_(-gradient_N[:, None])
        result_NV.scatter_add_(-1, token_N[:, None], gradient_N[:, None])
        return result_NV, None


def _block_statistics(logits_NV: Tensor, token_N: Tensor) -> TokenStatistics:
    peak_N1 = logits_NV.amax(-1, keepdim=True)
    u_NV = logits_NV - peak_N1
    chosen_N = u_NV.gather(-1, token_N[:, None])[:, 0]
    e_NV = u_NV.exp()
    sum_N = e_NV.sum(-1)
    log_N = sum_N.log()
    spread_N = u_NV.clamp_(min=_NEVER).mul_(e_NV).sum(-1)
    return TokenStatistics(
        logp_N=chosen_N - log_N,
        entropy_N=log_N - spread_N / sum_N,
        purity_N=e_NV.square_().sum(-1) / sum_N.square(),
        lse_N=peak_N1[:, 0] + log_N,
    )


_apply_chosen_logp: Callable[[Tensor, Tensor], Tensor] = _ChosenLogp.apply
