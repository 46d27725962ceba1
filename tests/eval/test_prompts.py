"""Chats by templates as models bring them along: with a system turn, without one, and with bugs."""

from __future__ import annotations

import logging

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eval.engines import prompts
from eval.errors import ModelError

CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]
LOOP = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + ';' }}{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    letters = [*map(chr, range(32, 127)), "\n"]
    inner = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    found = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="~")
    found.chat_template = template
    return found


def text(template: str, chat: list[dict[str, str]]) -> str:
    chosen = tokenizer(template)
    return "".join(chosen.convert_ids_to_tokens(list(prompts.encode_chat(chosen, chat))))


def test_a_system_turn_is_used_where_the_template_takes_one() -> None:
    assert text(LOOP, CHAT) == "system:be brief;user:one;"


def test_without_one_its_text_goes_before_the_user_turn_and_a_line_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prompts._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert text(NO_SYSTEM + LOOP, CHAT) == "user:be brief\n\none;"
    assert caplog.text.count("System role not supported") == 1
    assert text(NO_SYSTEM + LOOP, CHAT[1:]) == "user:one;"


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "{{ messages[0].nothing.more }}", "{% if %}"])
@pytest.mark.parametrize("chat", [CHAT, CHAT[1:]])
def test_a_template_that_takes_neither_says_which_prompts_fit(template: str, chat: list[dict[str, str]]) -> None:
    with pytest.raises(ModelError, match="does not take this prompt") as caught:
        text(template, chat)
    assert "`plain`" in caught.value.fix
