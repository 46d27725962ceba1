"""Which rows of a model's head are tokens: sampling and training know the same ones, on every backend.

Many models round their vocabulary up: Qwen2.5 has 151,936 rows for 151,665 tokens. A row without a token has a logit
like any other, so it could be drawn, and it takes its share of every softmax. verl keeps vLLM from drawing one; a
trainer that gave them probability would then train another distribution than the one that was sampled. So everywhere
rows from `len(tokenizer)` on have probability 0: `generate` and `trainers.head.operators.Head` cut them off, and vLLM
gets −∞ in their place, from verl in training and from `eval.engines.vllm` in evaluation.
"""

from __future__ import annotations

from typing import Any, Final

_MARK: Final = "orch_num_tokens"
"""On the model and not in its config, which would be saved with it."""


def mark_tokens(model: Any, tokenizer: Any) -> None:
    """Tell a model how many rows of its head are tokens; who samples from it or trains it asks `num_tokens`."""
    setattr(model, _MARK, len(tokenizer))


def num_tokens(model: Any, rows: int) -> int:
    """Return how many of a head's `rows` are tokens: all that are not padding, as config and tokenizer say.

    Args:
        model: a Hugging Face causal language model; one that nobody marked goes by its config alone.
        rows: of its head's weight, or the width of its logits.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    known = (getattr(config, "vocab_size", None), getattr(model, _MARK, None))
    return min(count for count in (rows, *known) if count is not None)
