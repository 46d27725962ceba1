"""The model's head inside verl's engine: it answers with what is asked of each token, and never with logits.

verl hands the logits of every position on. Here the head's own forward picks the positions that predict a response,
applies `trainers/head/`'s `distribution.py`, `deviation.py` or `log_probs.py`, and returns a few numbers a token in the
place of logits. It runs inside of the model's forward: FSDP has the weight gathered then, and its hooks see the
gradient.

Shapes: N response tokens of a micro-batch, K numbers a token, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from eval.engines.vocabulary import num_tokens
from trainers.head.deviation import group_deviation
from trainers.head.distribution import hidden_statistics
from trainers.head.log_probs import hidden_log_probs
from trainers.head.operators import Head
from trainers.methods import Distance

LOG_PROB_NAMES: Final = ("log_probs",)
LOSS_NAMES: Final = ("log_probs", "entropy")
SCORE_NAMES: Final = ("log_probs", "entropy", "sum_pi_squared", "orch_deviation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the next forward pass is to say of its response tokens."""

    names: tuple[str, ...]
    """One of `LOG_PROB_NAMES`, `LOSS_NAMES`, `SCORE_NAMES`: the columns of the answer, by verl's names."""
    place_N: Tensor
    """int64, into the flattened positions: those whose hidden states predict the tokens."""
    token_N: Tensor
    temperature: float
    cell_N: Tensor | None = None
    """Labels of the tokens that are averaged, where a deviation is asked for."""
    distance: Distance | None = None
    leave_one_out: bool = False


class AskedHead:
    """Takes the place of a linear head's forward."""

    def __init__(self, layer: Any, config: Any, tokens: int) -> None:
        self._layer = layer
        self._config = config
        self._tokens = tokens
        self._question: Question | None = None
        self._cap: float | None = None

    @staticmethod
    def install(model: Any) -> AskedHead:
        """Make the head of a Hugging Face causal language model answer questions.

        Raises:
            ModelError: its logits are not what `trainers/head/operators.py` says.
        """
        Head.of(model, 1.0)
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        layer = model.get_output_embeddings()
        # Counted now: FSDP will shard the weight, and wraps the model that was marked.
        asked = AskedHead(layer, config, num_tokens(model, len(layer.weight)))
        asked._layer.forward = asked
        return asked

    def ask(self, question: Question) -> None:
        """Say what the next forward pass is wanted for."""
        self._question = question

    @contextmanager
    def without_cap(self) -> Iterator[None]:
        """Keep the model from bending the answers: it does so to what its head returns. Gemma's cap is in them."""
        self._cap = getattr(self._config, "final_logit_softcapping", None)
        if self._cap is not None:
            self._config.final_logit_softcapping = None
        try:
            yield
        finally:
            if self._cap is not None:
                self._config.final_logit_softcapping = self._cap

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return (1, N, K) in float32, in the order of the question's names."""
        question, self._question = self._question, None
        assert question is not None, "the engine asks before each pass"
        whole = Head.of_layer(self._layer, self._config, question.temperature, tokens=self._tokens)
        head = replace(whole, softcap=self._cap)
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight_VD.dtype
        # In the type that the layer itself would multiply in; what follows the product is float32 all the same.
        with torch.autocast(device, enabled=False):
            hidden_ND = hidden.flatten(0, -2)[question.place_N].to(dtype)
            bias_V = None if head.bias_V is None else head.bias_V.to(dtype)
            head = replace(head, weight_VD=head.weight_VD.to(dtype), bias_V=bias_V)
            return torch.stack(_answer(hidden_ND, head, question), dim=-1).float()[None]


def _answer(hidden_ND: Tensor, head: Head, question: Question) -> list[Tensor]:
    if question.names != SCORE_NAMES:
        found = hidden_log_probs(hidden_ND, head, question.token_N, with_entropy=question.names == LOSS_NAMES)
        return [value_N for value_N in found if value_N is not None]
    if question.distance is None or question.cell_N is None:
        statistics = hidden_statistics(hidden_ND, head, question.token_N)
        deviation_N = torch.zeros_like(statistics.entropy_N)
    else:
        deviation_N, statistics = group_deviation(
            hidden_ND.detach(),
            head,
            question.token_N,
            question.cell_N,
            distance=question.distance,
            leave_one_out=question.leave_one_out,
        )
    return [statistics.logp_N, statistics.entropy_N, statistics.purity_N, deviation_N]
