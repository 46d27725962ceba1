"""A real verl trial of two workers, one on each node of a Ray cluster on this machine, beside the same trial of one.

Minutes: `.venv-verl/bin/python -m pytest -m slow tests/trainers/verl/test_two_nodes.py`.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from rig import Rig

from orchestrator.store.record import Status
from trainers.verl.processes.processes import descendants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(find_spec("verl") is None, reason="needs .venv-verl: make verl"),
]
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=2)
print(json.dumps(cluster.address), flush=True)
sys.stdin.read()
"""
SAMPLED = ("reward/mean", "response/length_mean", "sampling/groups_kept")
"""What is the same to the last bit: the samples are those of one worker."""
LEARNED = ("tokens/entropy", "select/ratio", "loss", "gradient/norm")


@contextlib.contextmanager
def cluster_of_two():
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield (
            json.loads(process.stdout.readline()),
            {name: value for name, value in environment.items() if name.startswith("RAY_AUTH")},
        )
    finally:
        left = descendants(process.pid)
        process.stdin.close()
        process.kill()
        process.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_two_workers_on_two_nodes_learn_what_one_learns(tmp_path, tmp_path_factory):
    cache = Path(os.environ.get("ORCH_CACHE_DIR") or tmp_path_factory.getbasetemp() / "models")
    recipe = ["selection=ict", "selection.ratio=0.2", "selection.warmup_steps=1", "recipe.steps=3"]
    recipe += ["recipe.mini_batch_prompts=4", "selection.scope=response"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = Rig(tmp_path / "one", cache, *recipe)
    two = Rig(tmp_path / "two", cache, *recipe, "cluster.num_nodes=2")
    try:
        assert one.finish(one.start(scheduler="inline")) == 0, one.words()
        with cluster_of_two() as (address, token):
            assert two.finish(two.start("--ray-address", address, **token)) == 0, two.words()
    finally:
        one.end()
        two.end()
    assert [rig.record.status for rig in (one, two)] == [Status.DONE, Status.DONE]
    assert one.trial_id == two.trial_id, "how many workers train is no part of what is trained"
    assert two.leftovers() == []
    assert two.job().resources.num_nodes == 2
    ours, theirs = one.lines(1), two.lines(1)
    assert sorted(ours) == sorted(theirs) == [1, 2, 3]
    for name in SAMPLED:
        if name in ours[1]:
            assert theirs[1][name] == ours[1][name], name
    for step in (1, 2):
        for name in LEARNED:
            print(f"step {step} {name}: one worker {ours[step][name]}, two workers {theirs[step][name]}")
            assert theirs[step][name] == pytest.approx(ours[step][name], rel=2e-3, abs=1e-6), (step, name)
