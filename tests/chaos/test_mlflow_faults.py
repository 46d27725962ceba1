"""MLflow away, slow, or failing now and then: the sweep does not notice, and nothing is missing or there twice."""

import shutil
import socket
from collections import Counter
from random import Random

import pytest
from arena import Arena, MakeArena
from faulty_server import Faults, between
from fingerprint import assert_same_points

from orchestrator.tracking.server import serve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_mlflow_down_for_the_whole_sweep_is_made_up_for_when_it_is_back(
    undisturbed: Arena, make_arena: MakeArena, tally: Counter[str]
) -> None:
    arena = make_arena()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    assert arena.sweep("--scheduler", "inline", "--tracking-uri", url) == 0, arena.tail()
    assert "MLflow does not hold all of smoke; `orch sync smoke` sends what is missing" in arena.log.read_text()
    with serve(arena.uri, host="127.0.0.1", port=port):
        for _ in range(2):
            done = arena.call("sync", "smoke", "--tracking-uri", url)
            assert done.returncode == 0, done.stderr
    assert_same_points(arena, undisturbed)
    tally["sweeps with MLflow down"] += 1


@pytest.mark.slow
def test_mlflow_answering_500_before_or_after_it_did_as_asked_gets_everything_once(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str]
) -> None:
    faults = Faults(random=dice, share_refused=0.1, share_lost=0.1)
    with serve(copied.uri, host="127.0.0.1", port=None) as url, between(url, faults) as address:
        for _ in range(60):
            done = copied.call("sync", "smoke", "--tracking-uri", address)
            if done.returncode == 0:
                break
            assert "orch sync smoke" in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
    assert_same_points(copied, undisturbed)
    assert faults.counts["done and answered 500"] > 0
    tally.update({f"requests to MLflow: {name}": number for name, number in faults.counts.items()})


@pytest.mark.slow
def test_mlflow_that_takes_five_seconds_an_answer_holds_up_nobody(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str]
) -> None:
    arena = make_arena()
    faults = Faults(random=dice, delay_s=5.0)
    with serve(arena.uri, host="127.0.0.1", port=None) as url, between(url, faults) as address:
        assert arena.sweep("--scheduler", "inline", "--tracking-uri", address) == 0, arena.tail()
        assert "MLflow is slow: left it behind" in arena.log.read_text()
        faults.delay_s = 0.0
        done = arena.call("sync", "smoke", "--tracking-uri", address)
        assert done.returncode == 0, done.stderr
    assert_same_points(arena, undisturbed)
    tally["sweeps with MLflow slow"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["gone", "cut short"])
def test_a_database_of_mlflow_that_is_gone_or_broken_is_made_anew(
    undisturbed: Arena, copied: Arena, dice: Random, tally: Counter[str], harm: str
) -> None:
    database = copied.root / "mlflow.db"
    shutil.copy(undisturbed.root / "mlflow.db", database)
    if harm == "cut short":
        database.write_bytes(database.read_bytes()[: dice.randrange(1, database.stat().st_size // 2)])
        done = copied.call("sync", "smoke", "--tracking-uri", copied.uri)
        assert done.returncode != 0
        assert "MLflow refuses" in done.stderr
    database.unlink()
    assert copied.call("sync", "smoke", "--tracking-uri", copied.uri).returncode == 0
    assert_same_points(copied, undisturbed)
    tally["MLflow databases lost"] += 1
