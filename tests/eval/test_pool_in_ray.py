import time

import pytest

from eval.api import Problem
from eval.grading.worker import HARD_LIMIT_S

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture
def cluster(monkeypatch):
    import ray

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def test_a_hang_in_a_ray_actor_is_a_timeout_and_the_actor_lives_on(cluster):
    class Grader:
        def grade(self, answer, gold):
            from eval.grading import grade

            found = grade(f"\\boxed{{{answer}}}", Problem(id="p", question="?", answer=gold, kind="expression"))
            return found.is_correct, found.status

    actor = cluster.remote(Grader).options(max_concurrency=4).remote()
    started = time.monotonic()
    hanging = actor.grade.remote("9^{9^{9}}", "7")
    assert cluster.get(actor.grade.remote(r"\sum_{k=1}^{3} k", "6")) == (True, "ok")
    assert cluster.get(hanging) == (False, "timeout")
    assert time.monotonic() - started < HARD_LIMIT_S + 30
    assert cluster.get(actor.grade.remote("x+x=2", "2x=2"))[1] == "ok"
