import pytest

from eval.api import Problem
from eval.benchmarks.registry import load
from eval.grading.golds import accepts_nothing, judge_golds

LOCAL = (
    "aime2023", "aime2024", "aime2025", "amc23", "math500", "minerva_math", "olympiadbench", "gsm8k", "mmlu_stem",
    "math_train_part", "gsm8k_train", "arithmetic",
)  # fmt: skip


def messages(gold, kind="expression"):
    problem = Problem(id="p-0", question="?", answer=gold, kind=kind)
    return [finding.message for finding in judge_golds([problem])]


@pytest.mark.parametrize("name", LOCAL)
def test_no_gold_of_a_local_benchmark_accepts_an_answer_that_says_nothing(name, data_folder):
    problems = load(name, data_folder=data_folder).problems
    accepting = [(problem.answer, text) for problem in problems if (text := accepts_nothing(problem)) is not None]
    assert accepting == []


def test_a_gold_that_is_not_compared_as_it_stands_is_named():
    assert messages("f(x)=2x$, where $x$ is real") == ["ends in prose; compared is 'f(x)=2x'"]
    assert messages("x=x") == ["is true of everything: only the same text is right"]
    assert messages("x+1=1+x") == ["is true of everything: only the same text is right"]
    assert messages("?") == ["says nothing: no answer can be right"]
    assert messages(r"\int_0^x f") == ["is not read for certain: compared as text, then by math_verify"]
    assert messages("(C) 42") == ["begins with the label of an option; compared is '42'"]


@pytest.mark.parametrize(
    "gold", ["5", r"\frac{1}{2}", "b=0", r"575\text{ students}", r"(-\infty,2)", "f(x)=2x", "N=n", "even"]
)
def test_an_ordinary_gold_is_not_named(gold):
    assert messages(gold) == []


def test_local_golds_are_read_but_for_one_with_a_tail(data_folder):
    names = ("math500", "minerva_math", "olympiadbench", "math_train_part")
    found = [finding for name in names for finding in judge_golds(load(name, data_folder=data_folder).problems)]
    assert ["arbitrary integer" in finding.gold for finding in found] == [True]
