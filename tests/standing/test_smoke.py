"""The main job by its command, cut short: real model, trainer and Ray; killed at a random moment, then finished."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainers.models.tiny import build
from trainers.models.tiny_spec import ARITHMETIC_TINY

ROOT = Path(__file__).parents[2]
SHORT = [
    "selection=[full,gmts]",
    "algorithm=grpo",
    "recipe.steps=6",
    "recipe.lr_warmup_steps=0",
    "recipe.prompts_per_step=4",
    "recipe.mini_batch_prompts=4",
    "recipe.group_size=4",
    "eval.limit=6",
    "eval.num_samples=2",
    "cluster.checkpoint_every=2",
]


def untaught_model(folder: Path) -> str:
    build(
        replace(ARITHMETIC_TINY, stop_at=0.0, band=(0.0, 1.0), first_check=20, check_problems=1, check_samples=1),
        folder,
    )
    return str(folder)


def sweep(runs: Path, model: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(ROOT / "experiments" / "smoke.yaml"), *SHORT]
    command += [f"model.path={model}", "--store", str(runs), "--no-mlflow"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ, cwd=runs.parent)


def wait_for_steps(runs: Path, wanted: int, *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if sum(len(file.read_bytes().splitlines()) for file in runs.glob("*/attempts/*/metrics.jsonl")) >= wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {wanted} training steps within {timeout_s} s")


def results(runs: Path) -> dict[str, object]:
    """Rewards, losses and per-question verdicts of every trial: what must not depend on kills."""
    found: dict[str, object] = {}
    for record in sorted(runs.glob("*/record.json")):
        steps: dict[int, tuple[float, float]] = {}
        for file in sorted(record.parent.glob("attempts/*/metrics.jsonl")):
            for line in file.read_text().splitlines():
                row = json.loads(line)
                steps[row["step"]] = (row["reward/mean"], row.get("loss", 0.0))
        scores = [json.loads(file.read_text())["per_problem"] for file in record.parent.glob("eval/*/score.json")]
        found[record.parent.name] = (sorted(steps.items()), scores)
    return found


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_results_of_an_undisturbed_one(tmp_path: Path) -> None:
    model = untaught_model(tmp_path / "model")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert sweep(undisturbed, model).wait(timeout=200) == 0

    moment = random.Random(os.getpid()).randint(1, 11)
    driver = sweep(killed, model)
    wait_for_steps(killed, moment, timeout_s=120)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    again = sweep(killed, model)
    assert again.wait(timeout=200) == 0, (moment, again.stderr and again.stderr.read().decode())

    expected = results(undisturbed)
    assert len(expected) == 3
    assert results(killed) == expected, f"killed after {moment} steps"
