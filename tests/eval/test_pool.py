import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from eval.api import Problem
from eval.grading import grade, grade_many
from eval.grading.pool import WorkerPool, default_num_workers
from eval.grading.worker import HARD_LIMIT_S, SOFT_LIMIT_S

ROOT = Path(__file__).parents[2]
SEVEN = Problem(id="p-0", question="?", answer="7", kind="expression")
MARGIN_S = 3.0
"""For a machine that is busy with other tests."""


@pytest.fixture
def pool():
    workers = WorkerPool(num_workers=2)
    yield workers
    workers.close()


def gone(process_id):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process_id) or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("answer", ["9^{9^{9}}", r"(((((10!)!)!)!)!)", "7^{-9^{99}}"])
def test_an_expression_that_hangs_is_a_timeout_within_the_limit(answer):
    started = time.monotonic()
    found = grade(f"\\boxed{{{answer}}}", SEVEN)
    assert (found.is_correct, found.status) == (False, "timeout")
    assert time.monotonic() - started < HARD_LIMIT_S + MARGIN_S


def test_a_hang_does_not_hold_up_other_answers(pool):
    pool.check_many([("x+x", "2x"), ("y+y", "2y")])  # start both workers
    hanging = pool.submit("9^{9^{9}}+1", "7")
    started = time.monotonic()
    verdicts = pool.check_many([(f"x+{n}", f"{n}+x") for n in range(1, 6)])
    assert all(verdict.is_correct for verdict in verdicts)
    assert not hanging.done() or time.monotonic() - started > SOFT_LIMIT_S
    assert hanging.result().status == "timeout"


def test_a_killed_worker_costs_one_verdict_and_is_replaced(pool):
    assert pool.check_many([("x+x", "2x")])[0].is_correct
    hanging = pool.submit("9^{9^{9}}+2", "7")
    time.sleep(0.5)
    for process_id in pool.worker_process_ids():
        os.kill(process_id, 9)
    assert hanging.result().status == "crash"
    assert pool.check_many([("y+y", "2y")])[0].is_correct


def test_a_memory_bomb_is_refused(pool):
    verdict = pool.submit(r"\binom{10^{9}}{5 \cdot 10^{8}}", "7").result()
    assert not verdict.is_correct
    assert pool.submit("z+z", "2z").result().is_correct


def test_an_answer_is_never_run(tmp_path):
    mark = tmp_path / "mark"
    for payload in (
        f"__import__('os').system('touch {mark}')",
        f"exec(\"open('{mark}', 'w')\")",
        f"\\text{{__import__('os').system('touch {mark}')}}",
        f"f(lambda: open('{mark}', 'w'))",
        f"\\input{{|touch {mark}}}",
    ):
        assert not grade(f"\\boxed{{{payload}}}", SEVEN).is_correct
    assert not mark.exists()


@pytest.mark.parametrize(
    "response",
    [
        "",
        "x" * 1_000_000,
        "\\boxed{" * 50_000,
        "\\boxed{" + "{" * 20_000 + "}" * 20_000 + "}",
        "\\boxed{" + "{" * 20_000,
        "\\boxed{" + "7" * 100_000 + "}",
        "\\boxed{" + "\\frac{1}{" * 300 + "2" + "}" * 300 + "}",
        "\\boxed{\udcff\x00}",
        "\\boxed{\N{FULLWIDTH DIGIT SEVEN}x}",
        "\\boxed{7" + "\\boxed{7} " * 5_000,
        "\\boxed{" + "7," * 3_000 + "}",
        "\\boxed{" + "(" * 1_900 + ")" * 1_900 + "}",
    ],
    ids=range(12),
)
def test_odd_responses_are_graded_in_bounded_time(response):
    started = time.monotonic()
    found = grade(response, SEVEN)
    assert found.is_correct == ("\\boxed{7} " in response)
    assert time.monotonic() - started < HARD_LIMIT_S + MARGIN_S


def test_equal_pairs_are_asked_once(pool):
    (first,) = pool.check_many([("x+x", "2x")])
    assert first.is_correct
    assert all(verdict is first for verdict in pool.check_many([("x+x", "2x")] * 5000))


def test_the_pool_works_from_many_threads():
    results = {}

    def work(number):
        pairs = [
            (f"\\boxed{{x+{number}}}", Problem(id="p", question="?", answer=f"{number}+x", kind="expression")),
            (f"\\boxed{{x-{number}}}", Problem(id="p", question="?", answer=f"{number}+x", kind="expression")),
        ]
        results[number] = [found.is_correct for found in grade_many(pairs)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [True, False] for number in range(1, 9)}


def test_a_forked_process_gets_workers_of_its_own():
    code = """
        import os
        from eval.grading.pool import shared_pool
        assert shared_pool().submit("x+x", "2x").result().is_correct
        child = os.fork()
        if child == 0:
            os._exit(0 if shared_pool().submit("y+y", "2y").result().is_correct else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "0"


@pytest.mark.parametrize("is_busy", [False, True])
def test_workers_never_outlive_a_killed_parent(is_busy):
    code = """
        import sys, time
        from eval.grading.pool import shared_pool
        pool = shared_pool()
        pool.submit("x+x", "2x").result()
        if sys.argv[1] == "busy":
            pool.submit("9^{9^{9}}+3", "7")
            time.sleep(0.3)
        print(*pool.worker_process_ids(), flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), "busy" if is_busy else "idle"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    assert workers
    assert all(gone(process_id) for process_id in workers)


def test_workers_end_with_an_ordinary_exit():
    code = """
        from eval.grading.pool import shared_pool
        pool = shared_pool()
        pool.submit("x+x", "2x").result()
        print(*pool.worker_process_ids())
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stderr == ""
    assert all(gone(int(word)) for word in result.stdout.split())


def test_two_workers_at_least():
    assert default_num_workers() >= 2
