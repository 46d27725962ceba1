"""A sweep fetches what it lacks: the real hub clients against a hub on loopback, real processes, real kills."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import Lab
from loopback_hub import LoopbackHub, open_hub

from eval.benchmarks import gpqa_diamond, math12k

ORCH = "import sys; from orchestrator.cli import main; sys.argv = ['orch', *sys.argv[1:]]; main()"
MODEL = "Qwen/Qwen2.5-Math-1.5B"
TINY = [
    "trainer=fake_trainer:FakeTrainer",
    "eval.engine=hf",
    "algorithm=grpo",
    "selection=full",
    "cluster=local",
    "eval.benchmarks=[gpqa_diamond]",
    "eval.num_samples=1",
    "eval.limit=3",
    "recipe.steps=2",
]
"""The flagship experiment, cut to a fake trainer; what it needs from outside stays as it is."""


@dataclass
class Site:
    """A machine: home, working folder, and the hub that it reaches."""

    hub: LoopbackHub
    home: Path
    lab: Lab
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in self.lab.environment().items() if not name.startswith(("HF_", "ORCH_"))}
        self.environment = {**kept, "HOME": str(self.home), "HF_ENDPOINT": self.hub.url, "HF_HUB_DISABLE_XET": "1"}
        self.home.mkdir()

    def orch(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            cwd=self.home,
            env={**self.environment, **environment},
            timeout=200,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", ORCH, *arguments]

    def sweep(self, *changes: str, store: str = "runs", **environment: str) -> "subprocess.CompletedProcess[str]":
        changed = {change.partition("=")[0]: change for change in (*TINY, *changes)}
        words = ["sweep", "experiments/ratio_ablation.yaml", *changed.values(), "--store", store]
        return self.orch(*words, "--no-mlflow", "--scheduler", "inline", **environment)

    def ids(self) -> list[str]:
        printed = self.orch("plan", "ratio_ablation", *TINY, "--json", HF_HUB_OFFLINE="1").stdout
        return [trial["id"] for trial in json.loads(printed)["trials"]]

    @property
    def cached_model(self) -> Path:
        return self.home / ".cache" / "huggingface" / "hub" / f"models--{MODEL.replace('/', '--')}"


def math_rows(shift: int = 0) -> bytes:
    rows = ({"problem": f"{number}+{shift}?", "answer": str(number + shift)} for number in range(12000))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def gpqa_rows() -> bytes:
    rows = (
        {"Question": f"{n}?", "Correct Answer": "right", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
        for n in range(198)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def model_files(weights: bytes) -> dict[str, bytes]:
    shards = {f"model-{number:05}-of-00002.safetensors": weights + bytes([number]) for number in (1, 2)}
    index = json.dumps({"weight_map": {f"layer{number}": name for number, name in enumerate(shards)}})
    small = {"config.json": b'{"model_type": "qwen2"}', "model.safetensors.index.json": index.encode()}
    return {**small, **shards, "README.md": b"words", "pytorch_model.bin": weights}


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    """A machine with nothing on it, and a hub that has all that the experiment needs."""
    with open_hub() as hub:
        hub.repository("datasets/hiyouga/math12k").commit({"train.jsonl": math_rows()})
        source = gpqa_diamond.DECLARATION.hub[0]
        card = b"---\nconfigs:\n- config_name: gpqa_diamond\n  data_files: gpqa_diamond.jsonl\n---\n"
        hub.repository(f"datasets/{source.repository}").commit(
            {"README.md": card, "gpqa_diamond.jsonl": gpqa_rows()}, name=source.revision
        )
        hub.repository(f"models/{MODEL}").commit(model_files(os.urandom(300_000)))
        yield Site(hub=hub, home=tmp_path / "home", lab=lab)


def test_one_command_fetches_all_under_the_ids_planned_before(site: Site) -> None:
    before = site.ids()
    assert site.hub.requests == []
    done = site.sweep()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (site.home / "runs").iterdir() if path.name in before) == sorted(before)
    assert {name for name in site.hub.fetched() if name.endswith((".jsonl", ".safetensors", ".bin"))} == {
        "train.jsonl",
        "gpqa_diamond.jsonl",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    seen = {path.stem: json.loads(path.read_text()) for path in (site.home / "runs" / "inputs").iterdir()}
    assert set(seen) == {"math12k", "gpqa_diamond", "Qwen--Qwen2.5-Math-1.5B@main"}
    for one in seen.values():
        assert f"sha256 {one['digest'][:12]}…, trusted on first use, kept in " in done.stdout
    assert f"inputs, as runs/inputs holds them: math12k {seen['math12k']['digest'][:12]}, " in done.stdout
    assert seen["math12k"]["commits"] == {
        "hiyouga/math12k": list(site.hub.repository("datasets/hiyouga/math12k").commits)[-1]
    }


@pytest.mark.slow
def test_another_runs_folder_finds_all_in_the_caches_and_no_id_changes(site: Site) -> None:
    before = site.ids()
    assert site.sweep().returncode == 0
    assert site.ids() == before
    site.hub.requests.clear()
    assert "nothing to do" in site.sweep().stdout
    other = site.sweep(store="other", HF_HUB_OFFLINE="1")
    assert other.returncode == 0, other.stdout + other.stderr
    assert site.hub.requests == [], "the second runs folder found all in the caches"


@pytest.mark.slow
def test_a_killed_fetch_goes_on_with_what_it_had_not_finished(site: Site) -> None:
    (weights,) = site.hub.repository(f"models/{MODEL}").commits.values()
    slow = dict(weights)
    slow["model-00002-of-00002.safetensors"] = os.urandom(3_000_000)
    site.hub.repository(f"models/{MODEL}").commit(slow)
    site.hub.bytes_per_s = 600_000
    words = ["sweep", "ratio_ablation", *TINY, "--no-mlflow", "--scheduler", "inline"]
    driver = subprocess.Popen(
        site.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=site.home, env=site.environment
    )
    wait_until(lambda: len([*site.cached_model.glob("snapshots/*/*-00001-*")]) == 1)
    time.sleep(random.random())
    assert not [*site.cached_model.glob("snapshots/*/*-00002-*")], "the kill comes in the middle"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_until(lambda: "orchestrator.trial.fetch" not in processes(site.home))
    first = site.hub.fetched()
    assert {"train.jsonl", "gpqa_diamond.jsonl", "model-00001-of-00002.safetensors"} <= set(first)
    site.hub.requests.clear()
    site.hub.bytes_per_s = None
    done = site.sweep()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in site.hub.fetched() if name in first] == ["model-00002-of-00002.safetensors"]


@pytest.mark.slow
def test_a_moved_main_is_not_followed_and_changed_content_is_refused(site: Site) -> None:
    assert site.sweep().returncode == 0
    for name, files in (("datasets/hiyouga/math12k", {"train.jsonl": math_rows(1)}), (f"models/{MODEL}", {})):
        site.hub.repository(name).commit(files or model_files(b"other weights" * 9000))
    shutil.rmtree(site.home / ".cache")
    more = site.sweep("seeds=[1]")
    assert more.returncode == 0, "the commits of the first use are fetched again: " + more.stdout + more.stderr

    for name in ("datasets/hiyouga/math12k", f"models/{MODEL}"):  # a hub that forgot the first commits
        commits = site.hub.repository(name).commits
        del commits[next(iter(commits))]
    shutil.rmtree(site.home / ".cache")
    gone = site.sweep("seeds=[2]")
    assert gone.returncode == 2
    assert "2 of 3 inputs cannot be had:\n  math12k could not be fetched from the hub" in gone.stderr
    assert f"cannot fetch {MODEL}@" in gone.stderr

    fetched = site.orch("data", "fetch", "math12k")
    assert fetched.returncode == 0, fetched.stderr
    changed = site.sweep("seeds=[2]")
    assert changed.returncode == 2
    assert "math12k has changed since this runs folder first used it: its digest is " in changed.stderr
    assert f"at: {Path('runs') / 'inputs' / 'math12k.json'}: digest" in changed.stderr
    assert f"remove {site.home / '.cache' / 'orch' / 'data' / math12k.DECLARATION.file}" in changed.stderr


def test_without_a_network_all_that_is_missing_is_one_list(site: Site) -> None:
    refused = site.sweep(HF_HUB_OFFLINE="1")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[:4] == [
        "error: 3 inputs of ratio_ablation are not on this machine, and HF_HUB_OFFLINE is set:",
        f"  math12k{' ' * 20}  orch data fetch math12k, or math12k.jsonl (12000 rows) in a folder given by --data-dir",
        f"  gpqa_diamond{' ' * 15}  orch data fetch gpqa_diamond, "
        "or gpqa_diamond.jsonl (198 rows) in a folder given by --data-dir",
        f"  {MODEL}@main  hf download {MODEL}",
    ]
    unreachable = site.sweep(HF_ENDPOINT="http://127.0.0.1:9")
    assert "and http://127.0.0.1:9 cannot be reached" in unreachable.stderr
    assert (unreachable.returncode, site.hub.requests, (site.home / "runs").exists()) == (2, [], False)


def test_a_machine_without_gpus_says_so_before_it_fetches_and_names_the_twin(site: Site) -> None:
    as_it_is = site.orch("sweep", "experiments/ratio_ablation.yaml", "cluster.num_gpus=64")
    refused = site.sweep("cluster=gpu", "cluster.num_gpus=99")
    assert as_it_is.returncode == 2
    assert "asks for 64 GPUs, and this machine has" in as_it_is.stderr, "its engine is not what is said first"
    dry = site.orch("sweep", "experiments/ratio_ablation.yaml", "cluster.num_gpus=64", "--dry-run")
    assert (dry.returncode, dry.stderr) == (2, as_it_is.stderr), "a dry run promises nothing that a sweep refuses"
    assert refused.returncode == 2
    assert "asks for 99 GPUs, and this machine has" in refused.stderr
    assert "fix: orch sweep experiments/gmts_table4_tiny.yaml runs the same comparison on a CPU" in refused.stderr
    assert (site.hub.requests, (site.home / "runs").exists()) == ([], False)
    twin = site.orch("plan", "experiments/gmts_table4_tiny.yaml", "--limit-rows", "0")
    assert "gmts_table4_tiny: " in twin.stdout
    assert "not on this machine yet" not in twin.stdout


def wait_until(is_so: Callable[[], bool], timeout_s: float = 90.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def processes(home: Path) -> str:
    """Command lines of the processes whose home is this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return "\n".join(found)
