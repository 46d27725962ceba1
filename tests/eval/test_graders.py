"""Other graders beside ours: each by its own rules, told from ours by pairs on which those are known to differ."""

from importlib import import_module
from pathlib import Path

import pytest

from eval.api import Problem
from eval.benchmarks.registry import load
from eval.errors import DataError
from eval.graders.api import GRADERS, OURS, grader_name
from eval.graders.registry import open_grader, open_grader_of
from eval.grading import grade, grader_version

LOCAL = tuple(name for name in GRADERS if name != "judge")

# answer, gold → who takes it, of ours, math_verify, qwen and prime.
PAIRS = {
    (r"\frac{2}{4}", "0.5"): {"ours", "math_verify", "qwen", "prime"},
    ("(x+1)^2", "x^2+2x+1"): {"ours", "math_verify", "qwen", "prime"},
    ("4", "5"): set(),
    ("1=1", "x=3"): set(),
    # a relative difference of 2e-6: within 1e-4 of Qwen's and PRIME's, beyond 1e-6 of ours
    ("3.1416", r"\pi"): {"qwen", "prime"},
    ("0.333", r"\frac{1}{3}"): set(),
    # π also as 3.14
    ("6.28", r"2\pi"): {"prime"},
    # a percent sign lost, in either direction
    ("28", "0.28"): {"qwen", "prime"},
    ("1", "100"): {"qwen", "prime"},
    (r"28\%", "0.28"): {"ours", "qwen", "prime"},
    # brackets do not count for Qwen's rules, and have to be the same for PRIME's
    ("[1,2]", "(1,2)"): {"qwen"},
    ("[2,5)", "[2,5]"): {"qwen"},
    ("(2,1)", "(1,2)"): set(),
    # a base left out
    ("4343_6", "4343_7"): {"math_verify", "prime", "qwen"},
    # an equation that is a multiple of the other
    ("2y=4x", "y=2x"): {"ours", "math_verify"},
    ("2x+4y=6", "x+2y=3"): {"ours", "math_verify"},
    # an equation with its terms elsewhere: PRIME's rules have none for equations
    ("x-3=2y", "x-2y=3"): {"ours", "math_verify", "qwen"},
    # 1e33 in words of a programming language
    (r"4.5\times 10^{33}", "4.5e33"): {"ours", "qwen", "prime"},
    (r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"): {
        "ours",
        "math_verify",
        "qwen",
        "prime",
    },
    (r"5\text{ cm}", "5"): {"ours", "math_verify", "qwen", "prime"},
    ("x=5", "5"): {"ours", "math_verify", "qwen", "prime"},
}

RESPONSES = {
    ("So x is 5.", "5"): {"math_verify", "qwen", "prime"},
    (r"The answer is $\frac{1}{2}$.", "0.5"): {"math_verify", "qwen", "prime"},
    (r"First \boxed{3}, then \boxed{4}", "4"): {"ours", "qwen", "prime"},
    (r"\boxed{7", "7"): {"qwen", "prime"},
    ("I do not know", "7"): set(),
    ("", "7"): set(),
}


def problem(gold, **options):
    return Problem(**{"id": "q", "question": "?", "answer": gold, "kind": "expression", **options})


def takes(name, response, asked):
    """Whether a grader takes a response: its rules called here, as workers give up when the machine is busy."""
    if name == OURS:
        return grade(response, asked).is_correct
    module = import_module(f"eval.graders.{name}")
    question = module.prepare(response, asked)
    return question is not None and module.judge(question.answer, question.gold) == "right"


@pytest.mark.parametrize(("answer", "gold"), PAIRS.keys())
def test_each_grader_judges_by_its_own_rules(answer, gold):
    assert {name for name in LOCAL if takes(name, f"\\boxed{{{answer}}}", problem(gold))} == PAIRS[answer, gold]


@pytest.mark.parametrize(("response", "gold"), RESPONSES.keys())
def test_each_grader_finds_the_answer_by_its_own_rules(response, gold):
    assert {name for name in LOCAL if takes(name, response, problem(gold))} == RESPONSES[response, gold]


@pytest.mark.parametrize("name", LOCAL)
def test_options_are_graded_by_their_letter(name):
    asked = [
        (response, problem("B", kind="choice", choices=("1", "2", "3", "4")))
        for response in (r"\boxed{B}", r"\boxed{C}")
    ]
    assert [one.is_correct for one in open_grader(name).grade_many(asked)] == [True, False]


@pytest.mark.parametrize("name", ["math_verify", "qwen", "prime"])
def test_an_answer_that_hangs_costs_its_own_verdict_alone(name):
    first, second = open_grader(name).grade_many(
        [(r"\boxed{x+9^{9^{9}}}", problem("7")), (r"\boxed{x+1}", problem("1+x"))]
    )
    assert not first.is_correct
    assert second.is_correct


@pytest.mark.parametrize("name", ["qwen", "prime"])
@pytest.mark.parametrize("benchmark", ["minerva_math", "math500", "olympiadbench"])
def test_every_gold_is_right(name, benchmark, data_folder):
    problems = load(benchmark, data_folder=data_folder).problems
    assert [one.answer for one in problems if not takes(name, f"\\boxed{{{one.answer}}}", one)] == []


def test_words_are_units_for_qwen_but_on_minerva():
    assert takes("qwen", r"\boxed{12 dollars}", problem("12", id="math500-0001"))
    assert not takes("qwen", r"\boxed{12 dollars}", problem("12", id="minerva_math-0001"))


def test_a_version_names_its_grader():
    for name in LOCAL:
        version = open_grader(name).version
        assert grader_name(version) == name
        assert open_grader_of(version).name == name
    assert open_grader(OURS).version == grader_version()
    assert open_grader_of("0ld0ld0ld0ld") is open_grader_of("qwen:0ld0ld0ld0ld") is open_grader_of("judge:m@1") is None


def test_a_grader_that_is_none_is_refused():
    with pytest.raises(DataError, match="no grader is called 'foo'"):
        open_grader("foo")
    with pytest.raises(DataError, match="needs a model and its endpoint"):
        open_grader("judge")


def test_nothing_of_an_answer_is_run(tmp_path):
    trap = tmp_path / "trap"
    answer = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    assert not any(takes(name, f"\\boxed{{{answer}}}", problem("1")) for name in LOCAL)
    assert not Path(trap).exists()
