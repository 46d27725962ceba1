import os
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import pytest

from trainers.verl.job import JOB_FILE, TOKEN
from trainers.verl.processes import end_all, environment, processes_of, resident_mb


@pytest.fixture
def sleeper(make_job):
    """A process with a child that left its group, as Ray's workers do."""
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True); print(flush=True); "
    started = subprocess.Popen(
        [sys.executable, "-c", code + "sys.stdin.read()"],
        env=environment(make_job(), dict(os.environ)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    started.stdout.readline()
    yield started
    started.kill()
    started.communicate()


def test_all_processes_of_an_attempt_are_found_and_ended(make_job, sleeper):
    job = make_job()
    assert len(list(processes_of(job.token))) == 2
    assert resident_mb(job.token) > 1
    end_all(job, sleeper.pid, since=time.time())
    sleeper.wait()
    assert list(processes_of(job.token)) == []


def test_shared_memory_that_no_process_maps_is_freed_and_other_is_not(make_job, sleeper):
    since = time.time() - 1
    orphan = SharedMemory(name="verl_weights_orch_test_orphan", create=True, size=4096)
    held = SharedMemory(name="verl_weights_orch_test_held", create=True, size=4096)
    orphan.close()
    try:
        end_all(make_job(), sleeper.pid, since=since)
        assert not os.path.exists("/dev/shm/verl_weights_orch_test_orphan")
        assert os.path.exists("/dev/shm/verl_weights_orch_test_held")
    finally:
        held.close()
        held.unlink()
        from multiprocessing import resource_tracker

        resource_tracker.unregister("/verl_weights_orch_test_orphan", "shared_memory")


def test_an_outer_ray_does_not_reach_into_the_private_one(make_job):
    job = make_job()
    found = environment(job, {"RAY_ADDRESS": "1.2.3.4:6379", "CUDA_VISIBLE_DEVICES": "", "HOME": "/root"})
    assert "RAY_ADDRESS" not in found
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert (found["HOME"], found[TOKEN], found[JOB_FILE]) == ("/root", job.token, str(job.file))
    assert (found["VERL_PLATFORM"], found["OMP_NUM_THREADS"]) == ("cpu", "2")


def test_a_gpu_trial_keeps_its_devices_and_verls_own_platform(make_job):
    found = environment(make_job(resources={"num_gpus": 2}), {"CUDA_VISIBLE_DEVICES": "4,5"})
    assert found["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert "VERL_PLATFORM" not in found
