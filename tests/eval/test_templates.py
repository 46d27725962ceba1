import pytest

from eval.api import Problem
from eval.errors import DataError
from eval.templates import INSTRUCTION, messages, render


class CharacterEncoder:
    """One token a character; chat turns are joined visibly."""

    def encode(self, messages):
        return self.encode_text("".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>")

    def encode_text(self, text):
        return tuple(ord(character) for character in text)


def rendered(template, **fields):
    problem = Problem(**({"id": "p-0", "question": "What is {x}?", "answer": "1", "kind": "integer"} | fields))
    return "".join(map(chr, render(template, problem, CharacterEncoder())))


def test_each_template_is_what_its_paper_states():
    assert rendered("chat") == "<user>What is {x}?<assistant>"
    assert rendered("plain") == "What is {x}?\n"
    assert rendered("qwen-math") == f"<system>{INSTRUCTION}<user>What is {{x}}?<assistant>"
    assert rendered("ict") == f"<user>What is {{x}}? {INSTRUCTION}<assistant>"
    assert rendered("80/20") == f"User:\nWhat is {{x}}?\n{INSTRUCTION}\n\nAssistant:\n"
    assert rendered("eighty-twenty") == rendered("80/20")
    assert INSTRUCTION == r"Please reason step by step, and put your final answer within \boxed{}."


def test_options_are_lettered():
    assert "What is {x}?\n(A) one\n(B) two\n" in rendered("chat", kind="choice", answer="A", choices=("one", "two"))


def test_messages_need_no_tokenizer():
    assert messages("ict", "q") == [{"role": "user", "content": f"q {INSTRUCTION}"}]


def test_an_unknown_template_proposes_the_nearest():
    with pytest.raises(DataError, match="did you mean qwen-math"):
        messages("qwen-maths", "q")
