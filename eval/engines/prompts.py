"""Chats and texts to tokens, by the model's own tokenizer: the same for every engine that has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.errors import ModelError


def encode_chat(tokenizer: Any, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
    """Return the tokens of a chat with the generation prompt appended.

    Raises:
        ModelError: the tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        raise ModelError(
            "the tokenizer has no chat template",
            where="template",
            fix="choose the template `plain` or `80/20`, or a model that was trained to chat",
        )
    return tuple(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the tokens of a raw prompt, with whatever the tokenizer puts before every text."""
    return tuple(tokenizer(text)["input_ids"])
