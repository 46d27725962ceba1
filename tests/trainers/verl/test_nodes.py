import os
import socket
import subprocess
import sys

from trainers.recipe import Resources
from trainers.verl.launch.overrides import overrides
from trainers.verl.processes.nodes import GANG, Gang, is_listening, ray_command, ray_environment


def test_a_gang_travels_through_the_environment_and_keeps_its_secret_out_of_messages():
    gang = Gang.new("10.0.0.1", 2)
    assert Gang.of({GANG: gang.to_text()}) == gang
    assert Gang.of({}) is None
    assert gang.address == f"10.0.0.1:{gang.port}"
    assert gang.secret not in repr(gang)
    assert gang.token != Gang.new("10.0.0.1", 2).token


def test_the_private_ray_knows_its_secret_and_nothing_of_an_outer_one():
    gang = Gang.new("10.0.0.1", 2)
    inherited = {"RAY_ADDRESS": "1.2.3.4:6379", "CUDA_VISIBLE_DEVICES": "4,5", "HOME": "/root", GANG: "x"}
    found = ray_environment(gang, inherited, num_gpus=2)
    assert {"RAY_ADDRESS", GANG} & set(found) == set()
    assert (found["RAY_AUTH_MODE"], found["RAY_AUTH_TOKEN"]) == ("token", gang.secret)
    assert found["VLLM_API_KEY"] == gang.secret
    assert (found["HOME"], found["CUDA_VISIBLE_DEVICES"]) == ("/root", "4,5")
    assert "CUDA_VISIBLE_DEVICES" not in ray_environment(gang, inherited, num_gpus=0)


def test_one_node_is_the_head_and_the_others_join_it():
    gang, resources = Gang.new("10.0.0.1", 2), Resources(num_gpus=8, num_cpus=32, num_nodes=2)
    head, other = (ray_command(gang, resources, is_head=is_head) for is_head in (True, False))
    assert head[head.index("--port") + 1] == str(gang.port)
    assert head[head.index("--temp-dir") + 1] == f"/tmp/orch-{gang.token}"
    assert other[other.index("--address") + 1] == gang.address
    for command in (head, other):
        assert "--block" in command
        assert command[command.index("--num-gpus") + 1] == "8"
        assert command[command.index("--min-worker-port") + 1] == "0"
        assert gang.secret not in " ".join(command)


def test_the_training_process_joins_the_head_and_its_variables_reach_every_node(make_job):
    found = dict(line.split("=", 1) for line in overrides(make_job(ray_address="10.0.0.1:7000")))
    assert found["+ray_kwargs.ray_init.address"] == "10.0.0.1:7000"
    assert "+ray_kwargs.ray_init.num_gpus" not in found, "Ray refuses it where it joins"
    assert found["+ray_kwargs.ray_init.runtime_env.env_vars.ORCH_VERL_TOKEN"] == "'0123abcd'"
    assert found["+ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS"] == "'2'"


def test_an_agent_ends_when_its_parent_does_even_if_no_head_ever_answers():
    gang = Gang.new("127.0.0.1", 2)
    assert not is_listening(gang)
    agent = subprocess.Popen(
        [sys.executable, "-m", "trainers.verl.processes.agent", "0", "1"],
        env={**os.environ, GANG: gang.to_text()},
        stdin=subprocess.PIPE,
    )
    assert agent.poll() is None
    agent.stdin.close()
    assert agent.wait(timeout=30) == 0


def test_a_head_that_listens_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        gang = Gang(token="t", secret="s", host="127.0.0.1", port=server.getsockname()[1], num_nodes=2)
        assert is_listening(gang)
