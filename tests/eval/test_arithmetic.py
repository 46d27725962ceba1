from __future__ import annotations

import pytest

from eval.benchmarks.arithmetic import COUNTS, DIGESTS, Split, problems, worked_solution
from eval.benchmarks.declaration import digest_of_problems
from eval.benchmarks.registry import load
from eval.grading import grade


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_has_its_declared_count_and_digest(split: Split) -> None:
    rows = problems(split)
    assert len(rows) == COUNTS[split]
    assert digest_of_problems(rows) == DIGESTS[split]
    assert len({row.id for row in rows}) == len({row.question for row in rows}) == len(rows)


def test_no_test_sum_is_trained_on_in_either_order() -> None:
    def pair(question: str) -> frozenset[str]:
        return frozenset(question.removesuffix("=?").split("+"))

    trained = {pair(row.question) for row in problems("train")}
    assert not trained & {pair(row.question) for row in problems("test")}


def test_worked_solutions_carry_and_end_in_the_right_box() -> None:
    by_question = {row.question: row for row in problems("train")}
    assert worked_solution(by_question["73+93=?"]) == "3+3=6\n7+9=16\n\\boxed{166}"
    assert worked_solution(by_question["47+64=?"]) == "7+4=11\n4+6+1=11\n\\boxed{111}"
    for row in (*problems("test"), *problems("train")[:500]):
        first, second = row.question.removesuffix("=?").split("+")
        assert int(first) + int(second) == int(row.answer)
        assert grade(worked_solution(row), row).is_correct


def test_the_registry_serves_both_splits() -> None:
    assert load("arithmetic", data_folder=None, limit=3).problems == problems("test")[:3]
    assert load("arithmetic_train", data_folder=None).digest == DIGESTS["train"]
