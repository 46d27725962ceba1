"""Chats and texts to tokens, by the model's own tokenizer: the same for every engine that has one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import TemplateError

from eval.errors import ModelError

log = logging.getLogger(__name__)

_RAW = "choose the template `plain` or `80/20`, or a model that was trained to chat"


def encode_chat(tokenizer: Any, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
    """Return the tokens of a chat with the generation prompt appended.

    Where the chat template refuses a system turn, its text stands before the first user turn, as such models were
    trained; a line says so once.

    Raises:
        ModelError: the tokenizer has no chat template, or its template takes no such chat.
    """
    if tokenizer.chat_template is None:
        raise ModelError("the tokenizer has no chat template", where="template", fix=_RAW)
    try:
        return _encoded(tokenizer, messages)
    except TemplateError as error:
        if messages[0]["role"] != "system":
            raise _unfit(error) from error
        refusal = str(error)
    try:
        found = _encoded(tokenizer, _without_system(messages))
    except TemplateError as error:
        raise _unfit(error) from error
    _say_once(refusal)
    return found


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the tokens of a raw prompt, with whatever the tokenizer puts before every text."""
    return tuple(tokenizer(text)["input_ids"])


def _encoded(tokenizer: Any, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
    return tuple(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))


def _without_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


@cache
def _say_once(refusal: str) -> None:
    log.warning("the chat template takes no system turn (%s): its text is put before the user turn", refusal)


def _unfit(error: TemplateError) -> ModelError:
    return ModelError(f"the model's chat template does not take this prompt: {error}", where="template", fix=_RAW)
