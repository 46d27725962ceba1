"""The head of a causal language model: hidden states in, logits out, one bounded chunk at a time.

z = cap·tanh((hidden·weightᵀ + bias)/cap)/T, in at least float32 after the product. Every function of
`distribution.py`, `deviation.py` and `log_probs.py` takes hidden states and a Head, holds at most `WORKSPACE_BYTES` of
logits at a time, and has two implementations of one contract: plain torch, the reference and what a CPU uses, and the
kernels of `kernels.py` on CUDA.

Shapes: N tokens, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from eval.engines.vocabulary import num_tokens
from eval.errors import ModelError

WORKSPACE_BYTES: Final = 2**29
"""Logits held at a time: what bounds the memory of every function that takes hidden states."""
NEVER: Final = -1e4
"""Below this difference of logits exp is exactly 0; it stands in for −inf where 0·(−inf) would be NaN."""
CHUNK: Final = WORKSPACE_BYTES // 4
"""The same as a number of float32 logits."""

Implementation = Literal["torch", "triton"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last linear map of a causal language model, and how its logits are read."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    temperature: float = 1.0
    softcap: float | None = None
    """Logits are bent into (−cap, cap) before the temperature (Gemma 2)."""

    @staticmethod
    def of(model: Any, temperature: float) -> Head:
        """Return the head of a Hugging Face causal language model.

        Rows of the weight that are padding get no probability: see `eval.engines.vocabulary`.

        Raises:
            ModelError: its logits are not what this module's docstring says.
        """
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        for key in ("logit_scale", "logits_scaling"):
            if getattr(config, key, None) not in (None, 1, 1.0):
                raise ModelError(
                    f"the model rescales its logits ({key}), which the trainer does not do",
                    where="model.path",
                    fix="use a model with plain or capped logits, such as the Qwen, Llama, Mistral or Gemma families",
                )
        layer = model.get_output_embeddings()
        return Head.of_layer(layer, config, temperature, tokens=num_tokens(model, len(layer.weight)))

    @staticmethod
    def of_layer(layer: Any, config: Any, temperature: float, *, tokens: int) -> Head:
        """Return the head that the first `tokens` rows of a linear layer are, by the text model's configuration."""
        weight_VD, bias_V = layer.weight, getattr(layer, "bias", None)
        if tokens < len(weight_VD):
            weight_VD, bias_V = weight_VD[:tokens], None if bias_V is None else bias_V[:tokens]
        return Head(
            weight_VD=weight_VD,
            bias_V=bias_V,
            temperature=temperature,
            softcap=getattr(config, "final_logit_softcapping", None),
        )

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.weight_VD.shape[0]

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return z, at least float32 (N, V)."""
        product_NV = functional.linear(hidden_ND, self.weight_VD, self.bias_V)
        if self.softcap is not None:
            product_NV = torch.tanh(scaled(product_NV, self.softcap)) * self.softcap
        return scaled(product_NV, self.temperature)

    def chunks(self, num_tokens: int, max_logits: int = CHUNK) -> Iterator[slice]:
        """Yield slices over tokens that cut a batch so that at most `max_logits` logits exist at once."""
        rows = max(1, max_logits // self.vocabulary)
        for start in range(0, num_tokens, rows):
            yield slice(start, min(start + rows, num_tokens))


def scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    """Return the logits over the temperature, in at least float32."""
    wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return wide_NV if temperature == 1.0 else wide_NV / temperature


def implementation_for(hidden_ND: Tensor) -> Implementation:
    """Return which implementation a tensor's device and type ask for."""
    return "triton" if hidden_ND.is_cuda and hidden_ND.dtype != torch.float64 and _has_triton() else "torch"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


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
