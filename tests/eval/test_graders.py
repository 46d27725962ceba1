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
    # a relative difference of 2e-6: beyond 1e-6 of ours, within 1e-4 of PRIME's; π is a variable for Qwen's
    ("3.1416", r"\pi"): {"prime"},
    ("0.333", r"\frac{1}{3}"): set(),
    (r"28\%", "0.28"): {"ours", "qwen", "prime"},
    # a base left out
    ("4343_6", "4343_7"): {"math_verify", "prime", "qwen"},
    # an equation that is a multiple of the other, or has its terms elsewhere
    ("2y=4x", "y=2x"): {"ours", "math_verify"},
    ("x-3=2y", "x-2y=3"): {"ours", "math_verify"},
    # 1e33 in words of a programming language
    (r"4.5\times 10^{33}", "4.5e33"): {"ours", "prime"},
    (r"5\text{ cm}", "5"): {"ours", "math_verify", "qwen", "prime"},
    ("x=5", "5"): {"ours", "math_verify", "qwen", "prime"},
}

# answer, gold, whether Qwen's rules and whether PRIME's take it: as their own code does (docs/evaluation.md).
RULES = [
    # percent lost, in either direction
    ("28", "0.28", True, True),
    ("1", "100", True, True),
    ("0", "0.00001", False, False),
    # brackets
    ("[1,2]", "(1,2)", True, False),
    ("[2,5)", "[2,5]", True, True),
    ("(1,2]", "(1,2)", True, True),
    ("(1,2)", "1,2", True, True),
    ("(2,1)", "(1,2)", False, False),
    ("(0.5,2)", r"(\frac{1}{2},2)", True, True),
    (r"\{1,2\}", r"\{2,1\}", True, False),
    (r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True, True),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&3\end{pmatrix}", False, False),
    # a formula is read up to where it is one, a colon divides, and division by zero is no number
    ("x,2", "x,3", True, False),
    ("12:00", "1:00", False, False),
    ("1,2", "12", True, True),
    ("1,2", "2,1", False, False),
    (r"1\,000", "1000", True, True),
    # functions
    ("x(x+1)", "x^2+x", False, True),
    ("(x+1)x", "x^2+x", True, True),
    (r"\tan^{-1}x", r"\arctan x", False, True),
    (r"\sin(x)+y+z+w", r"w+\sin(x)+y+z", True, True),
    ("10!", "3628800", True, True),
    ("|x|", "x", False, False),
    # words for units and numbers
    ("three", "3", True, False),
    ("twenty-one apples", "21", True, False),
    ("5 dollars", "5", False, False),
    ("5 m", "5", True, False),
    ("m", "5", False, False),
    ("5 cm", "5", True, True),
    (r"\text{5 apples}", "5", True, False),
    (r"90^\circ", "90", True, True),
    ("3 million", "3000000", False, False),
    (r"\text{east}", r"\text{west}", True, False),
    # letters
    (r"\text{(B) }7", "B", True, False),
    ("3j", "3i", True, False),
    # names and indices
    ("abc=5", "5", False, True),
    (r"x \in [1,2]", "[1,2]", True, False),
    ("12_8", "12", False, True),
    ("a_2", "a_1", False, False),
    ("2x+4y=6", "x+2y=3", False, False),
    # powers, π as 3.14, mixed numbers, fractions
    ("2**3", "8", False, True),
    ("2^3", "8", True, False),
    ("6.28", r"2\pi", False, True),
    (r"\frac{3.14}{2}", r"\frac{\pi}{2}", False, True),
    ("7 3/4", "7.75", False, True),
    (r"7 \frac{3}{4}", r"\frac{31}{4}", False, True),
    ("2/4", r"\frac{1}{2}", True, True),
    (r"\frac12", "0.5", True, True),
    (r"\sqrt{8}", r"2\sqrt{2}", True, True),
]

RESPONSES = {
    ("So x is 5.", "5"): {"math_verify", "qwen", "prime"},
    (r"The answer is $\frac{1}{2}$.", "0.5"): {"math_verify", "qwen", "prime"},
    (r"First \boxed{3}, then \boxed{4}", "4"): {"ours", "qwen", "prime"},
    (r"\boxed{7", "7"): {"qwen", "prime"},
    ("I do not know", "7"): set(),
    ("", "7"): set(),
}

# The same for whole responses.
FOUND = [
    ("The answer is 12.", "12", True, True),
    ("The answer is 12. Check: 1 + 1 = 2.", "12", False, True),
    (r"\boxed{3}. The final answer is $12$. I hope so.", "12", True, True),
    ("So 12 is the answer.", "12", True, False),
    ("Answer: 12", "12", True, True),
    ("the sum is 1,200", "1200", True, True),
    ("答案是 12", "12", True, False),
    (r"\fbox{12}", "12", True, True),
    (r"\boxed{4}. The answer is 5.", "5", False, True),
    (r"\boxed{4}. The answer is 5.", "4", True, False),
    (r"\boxed{5} since 7 is odd", "5", True, True),
    (r"x = \boxed{5. But 6}", "5", False, True),
]


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


@pytest.mark.parametrize(
    ("response", "gold", "by_qwen", "by_prime"),
    [*((f"\\boxed{{{answer}}}", *rest) for answer, *rest in RULES), *FOUND],
)
def test_restated_rules_judge_as_the_originals(response, gold, by_qwen, by_prime):
    assert takes("qwen", response, problem(gold)) == by_qwen
    assert takes("prime", response, problem(gold)) == by_prime


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


# Golds that the original code refuses as answers to themselves, for instance `f(x)=2 x`, of which PRIME's keeps `2 x`.
REFUSED_GOLDS = {
    ("qwen", "minerva_math"): 1,
    ("qwen", "math500"): 1,
    ("qwen", "olympiadbench"): 0,
    ("prime", "minerva_math"): 11,
    ("prime", "math500"): 1,
    ("prime", "olympiadbench"): 23,
}


@pytest.mark.parametrize(("name", "benchmark"), REFUSED_GOLDS)
def test_a_gold_is_right_but_where_the_original_refuses_it(name, benchmark, data_folder):
    problems = load(benchmark, data_folder=data_folder).problems
    refused = [one.answer for one in problems if not takes(name, f"\\boxed{{{one.answer}}}", one)]
    assert len(refused) == REFUSED_GOLDS[name, benchmark]


def test_words_are_units_for_qwen_but_on_minerva():
    assert takes("qwen", r"\boxed{12 apples}", problem("12", id="math500-0001"))
    assert not takes("qwen", r"\boxed{12 apples}", problem("12", id="minerva_math-0001"))


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
    call = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    for answer, gold in ((call, "1"), (f"1+{call}", "1"), (f"({call},1)", "(1,1)"), (f"x={call}", "x=1"), ("1", call)):
        for name in LOCAL:
            takes(name, f"\\boxed{{{answer}}}", problem(gold))
    assert not takes("qwen", f"\\boxed{{{call}}}", problem("1"))
    assert not Path(trap).exists()
