import pytest

from eval.api import Benchmark, Problem
from eval.contamination import overlapping
from eval.errors import DataError

LONG = "A train leaves the station at noon and travels north at sixty miles per hour for three hours"


def benchmark(name, *questions):
    problems = tuple(
        Problem(id=f"{name}-{number}", question=question, answer="1", kind="integer")
        for number, question in enumerate(questions)
    )
    return Benchmark(name=name, problems=problems, digest=name)


def test_a_shared_run_of_words_is_found_whatever_its_case_and_spacing():
    train = benchmark("train", "Something else entirely.", LONG.upper().replace(" ", "  ") + ". How far?")
    found = overlapping(train, benchmark("test", LONG + ", then stops.", "Nothing of the kind is asked here"))
    assert [(m.benchmark_id, m.train_id) for m in found.matches] == [("test-0", "train-1")]
    assert 0.5 < found.matches[0].share < 1
    assert (found.num_problems, found.num_identical) == (2, 0)


def test_the_same_question_is_called_identical():
    found = overlapping(benchmark("train", LONG), benchmark("test", LONG))
    assert found.num_identical == 1
    assert found.matches[0].share == 1


def test_a_short_question_is_compared_whole():
    train = benchmark("train", "Now, what is 2+2? Say it.", "2+3")
    assert len(overlapping(train, benchmark("test", "What is 2+2?")).matches) == 1
    assert overlapping(train, benchmark("test", "What is 2+4?")).matches == ()


def test_fewer_words_than_the_run_share_nothing():
    train = benchmark("train", " ".join(LONG.split()[:12]))
    assert overlapping(train, benchmark("test", LONG)).matches == ()


def test_an_empty_run_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        overlapping(benchmark("a", "x"), benchmark("b", "y"), words=0)
