"""The model's head inside verl's engine: it answers with what is asked of each token, and never with logits.

verl hands the logits of every position on. Here the head's own forward picks the positions that predict a response,
applies `trainers/head/`'s `distribution.py`, `deviation.py` or `log_probs.py`, and returns a few numbers a token in the
place of logits. It runs inside of the model's forward: FSDP has the weight gathered then, and its hooks see the
gradient.

Where a method averages over a group whose members run in several passes, the head keeps hidden states, not logits, and
answers for all of them in the pass of the last member.

Shapes: N response tokens of a micro-batch, M those whose groups are complete, K numbers a token, D hidden.
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
    """Labels of the tokens that are averaged, where a deviation is asked for; those of one call of the engine agree."""
    group_N: Tensor | None = None
    """int64: the group of each token, where groups may go on in a later pass; None: no group does."""
    complete_G: Tensor | None = None
    """int64: the groups whose last member this pass has."""
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
        self._waiting: list[_Waiting] = []
        self._answers: list[Tensor] = []

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

    @contextmanager
    def over_passes(self) -> Iterator[list[Tensor]]:
        """Yield the answers to questions about groups, (N, K) of each pass; they are whole after the last pass."""
        self._answers = []
        try:
            yield self._answers
        finally:
            self._waiting, self._answers = [], []

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return (1, N, K) in float32, in the order of the question's names; 0 for tokens of groups that go on."""
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
            if question.group_N is None:
                return torch.stack(_answer(hidden_ND, head, question), dim=-1).float()[None]
            return self._answer_for_groups(hidden_ND.detach(), head, question)[None]

    def _answer_for_groups(self, hidden_ND: Tensor, head: Head, question: Question) -> Tensor:
        """Answer for every group that is complete now, those of earlier passes first, and keep the rest."""
        assert question.cell_N is not None
        assert question.group_N is not None
        assert question.complete_G is not None
        answer_NK = torch.zeros(len(hidden_ND), len(SCORE_NAMES), device=hidden_ND.device)
        new = _Waiting(
            hidden_ND=hidden_ND,
            token_N=question.token_N,
            cell_N=question.cell_N,
            group_N=question.group_N,
            answer_NK=answer_NK,
            place_N=torch.arange(len(hidden_ND), device=hidden_ND.device),
        )
        parts = [*self._waiting, new]
        is_ready = [torch.isin(part.group_N, question.complete_G) for part in parts]
        ready = [part.take(mask_N) for part, mask_N in zip(parts, is_ready, strict=True)]
        left = [part.take(~mask_N) for part, mask_N in zip(parts, is_ready, strict=True)]
        self._waiting = [part for part in left if len(part.token_N)]
        if len(question.complete_G):
            asked = replace(
                question,
                token_N=torch.cat([part.token_N for part in ready]),
                cell_N=torch.cat([part.cell_N for part in ready]),
            )
            found = _answer(torch.cat([part.hidden_ND for part in ready]), head, asked)
            found_MK = torch.stack(found, dim=-1).float()
            sizes = [len(part.token_N) for part in ready]
            for part, rows_NK in zip(ready, torch.split(found_MK, sizes), strict=True):
                part.answer_NK[part.place_N] = rows_NK
        self._answers.append(answer_NK)
        return answer_NK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """Tokens of one pass whose groups may go on, and where the answer for them belongs."""

    hidden_ND: Tensor
    token_N: Tensor
    cell_N: Tensor
    group_N: Tensor
    answer_NK: Tensor
    """Of the whole pass."""
    place_N: Tensor
    """int64, into `answer_NK`."""

    def take(self, mask_N: Tensor) -> _Waiting:
        """Return those of some tokens, in their order; all of them without a copy."""
        if bool(mask_N.all()):
            return self
        return _Waiting(
            hidden_ND=self.hidden_ND[mask_N],
            token_N=self.token_N[mask_N],
            cell_N=self.cell_N[mask_N],
            group_N=self.group_N[mask_N],
            answer_NK=self.answer_NK,
            place_N=self.place_N[mask_N],
        )


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
