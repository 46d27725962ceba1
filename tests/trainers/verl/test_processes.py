import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from trainers.verl.launch.job import JOB_FILE, TOKEN
from trainers.verl.processes.processes import (
    descendants,
    end_leftovers,
    environment,
    free_memory_and_files,
    resident_mb,
)

KEEPER = """
import sys
from pathlib import Path
from trainers.verl.launch.job import VerlJob
from trainers.verl.processes.keeper import keep
file = Path(sys.argv[1])
sys.exit(keep([sys.executable, "-c", sys.argv[2]], VerlJob.read(file), since=file.stat().st_mtime))
"""
TRAINING = """
import subprocess, sys, time
orphan = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
subprocess.run([sys.executable, "-c", orphan])
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(make_job, tmp_path):
    """An attempt that no other test has."""
    made = replace(make_job(), attempt_folder=tmp_path, token=secrets.token_hex(4))
    made.write()
    made.temporary_folder.mkdir()
    yield made
    end_leftovers(made)


@pytest.fixture
def keeper(job):
    """The keeper of a training process whose grandchild lost its parent and left its group, as Ray's and vLLM's do."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(job.file), TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def wait_until_dead(pids):
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_lost_its_parent_stays_below_the_keeper(keeper):
    assert len(descendants(keeper.pid)) == 2
    assert resident_mb(keeper.pid) > 3


@pytest.mark.parametrize("death", ["input closed", "leader killed"])
def test_the_keeper_leaves_no_process_and_no_file_whoever_dies(job, keeper, death):
    below = descendants(keeper.pid)
    if death == "input closed":
        keeper.stdin.close()
    else:
        os.kill(min(below), signal.SIGKILL)
    assert keeper.wait(20) == 128 + signal.SIGKILL
    wait_until_dead(below)
    assert not job.temporary_folder.exists()


def test_a_stopped_process_is_ended_as_well(keeper):
    below = descendants(keeper.pid)
    os.kill(max(below), signal.SIGSTOP)
    keeper.stdin.close()
    keeper.wait(20)
    wait_until_dead(below)


def test_what_a_killed_keeper_left_is_found_by_its_open_files(job):
    log = job.temporary_folder / "worker.out"
    with log.open("w") as output:
        left = subprocess.Popen(["sleep", "60"], stdout=output, start_new_session=True)
    end_leftovers(job)
    assert left.wait(10) == -signal.SIGKILL
    assert not job.temporary_folder.exists()
    end_leftovers(job)


def test_shared_memory_that_no_process_maps_is_freed_and_other_is_not(job):
    since = time.time() - 1
    orphan = SharedMemory(name=f"verl_weights_{job.token}_orphan", create=True, size=4096)
    held = SharedMemory(name=f"verl_weights_{job.token}_held", create=True, size=4096)
    orphan.close()
    try:
        free_memory_and_files(job, since=since)
        assert not Path("/dev/shm", orphan.name).exists()
        assert Path("/dev/shm", held.name).exists()
    finally:
        held.close()
        held.unlink()
        resource_tracker.unregister(f"/{orphan.name}", "shared_memory")


def test_an_outer_ray_does_not_reach_into_the_private_one(make_job):
    job = make_job()
    found = environment(job, {"RAY_ADDRESS": "1.2.3.4:6379", "CUDA_VISIBLE_DEVICES": "", "HOME": "/root"})
    assert "RAY_ADDRESS" not in found
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert (found["HOME"], found[TOKEN], found[JOB_FILE]) == ("/root", job.token, str(job.file))
    assert (found["VERL_PLATFORM"], found["OMP_NUM_THREADS"]) == ("cpu", "2")
    assert found["TMPDIR"] == str(job.temporary_folder)


def test_nobody_without_the_attempts_secret_gets_into_its_ray_or_its_server(make_job):
    job = make_job()
    first, second = environment(job, {}), environment(job, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "known"})
    assert first["RAY_AUTH_MODE"] == second["RAY_AUTH_MODE"] == "token"
    assert first["RAY_AUTH_TOKEN"] == first["VLLM_API_KEY"]
    assert len({first["RAY_AUTH_TOKEN"], second["RAY_AUTH_TOKEN"], "known"}) == 3, "each attempt has its own"
    assert first["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "false"
    joined = environment(replace(job, ray_address="10.0.0.1:6379"), {})
    assert "RAY_AUTH_TOKEN" not in joined, "a gang has the secret that all its nodes know"
    assert joined["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "false"


def test_a_gpu_trial_keeps_its_devices_and_verls_own_platform(make_job):
    found = environment(make_job(resources={"num_gpus": 2}), {"CUDA_VISIBLE_DEVICES": "4,5"})
    assert found["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert "VERL_PLATFORM" not in found


def test_processes_share_bytecode_where_the_image_forbids_to_leave_any(make_job):
    job = make_job(resources={"num_gpus": 1})
    found = environment(job, {"PYTHONDONTWRITEBYTECODE": "1"})
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert Path(found["PYTHONPYCACHEPREFIX"]).parent == job.temporary_folder
    assert "PYTHONPYCACHEPREFIX" not in environment(job, {})
