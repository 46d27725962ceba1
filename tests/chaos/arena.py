"""A sweep of real, short trials that a test may kill, starve and corrupt: its folder, its commands, its processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TWELVE: tuple[str, ...] = ("algorithm=[grpo,dapo]", "selection=[full,ets,gmts]", "selection.ratio=[0.5]", "seeds=[0,1]")
"""Twelve trainings and their base model."""
SIX: tuple[str, ...] = (*TWELVE[:-1], "seeds=[0]")
"""Those of the first seed and the base model, under the same ids."""
TWO: tuple[str, ...] = ("algorithm=[grpo]", "selection=[full,gmts]", "selection.ratio=[0.5]", "seeds=[0]")
"""Two of the twelve and the base model, under the same ids."""
NUM_STEPS = 6
_SHORT = (
    f"recipe.steps={NUM_STEPS}",
    "recipe.lr_warmup_steps=0",
    "recipe.prompts_per_step=2",
    "recipe.mini_batch_prompts=2",
    "recipe.group_size=4",
    "eval.limit=4",
    "eval.num_samples=2",
    "cluster.checkpoint_every=2",
)
PATIENCE_S = 300.0
"""Longer than anything here takes on a busy machine: what lasts longer hangs."""


MakeArena = Callable[..., "Arena"]
"""The fixture that makes one: `make_arena()` or `make_arena(TWELVE)`."""


def wait_until(is_so: Callable[[], bool], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """One runs folder with its own MLflow database and temporary folder."""

    root: Path
    """Short, as Ray's socket paths below it may have 107 bytes."""
    model: Path
    axes: tuple[str, ...]
    started: set[int]
    """Processes that the test itself waits for."""

    def __post_init__(self) -> None:
        self.temporary.mkdir(parents=True, exist_ok=True)

    @property
    def num_trials(self) -> int:
        return {TWELVE: 13, SIX: 7, TWO: 3}[self.axes]

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def temporary(self) -> Path:
        return self.root / "t"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def log(self) -> Path:
        return self.root / "driver.log"

    def environment(self, **more: str) -> dict[str, str]:
        """Ours, without what would send the sweep elsewhere."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "ORCH_"))}
        return {**kept, "TMPDIR": str(self.temporary), "COLUMNS": "160", "OMP_NUM_THREADS": "1", **more}

    def orch(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *arguments, "--store", str(self.runs)]

    def sweep_command(self, *options: str) -> list[str]:
        plan = [str(ROOT / "experiments" / "smoke.yaml"), *self.axes, *_SHORT, f"model.path={self.model}"]
        tracking = [] if "--tracking-uri" in options else ["--tracking-uri", self.uri]
        return [*self.orch("sweep", *plan), *tracking, *options]

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `orch sweep` in a session of its own; what it prints goes to the log."""
        with self.log.open("ab") as log:
            driver = subprocess.Popen(
                self.sweep_command(*options),
                env=self.environment(**environment),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.add(driver.pid)
        return driver

    def sweep(self, *options: str, **environment: str) -> int:
        """Run `orch sweep` to its end; its exit status."""
        return self.end(self.start(*options, **environment))

    def end(self, driver: subprocess.Popen[bytes], *, timeout_s: float = PATIENCE_S) -> int:
        """Wait for a driver; one that hangs is killed and fails the test."""
        try:
            return driver.wait(timeout_s)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            raise AssertionError(f"the driver did not end within {timeout_s:.0f} s:\n{self.tail()}") from None

    def finish(self, *options: str, at_most: int = 6) -> int:
        """Issue the same command until it says that all is done; how often that took."""
        for count in range(1, at_most + 1):
            if self.sweep(*options) == 0:
                return count
        raise AssertionError(f"not finished by {at_most} re-issues:\n{self.tail()}")

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another command on the same runs folder."""
        return subprocess.run(
            self.orch(*arguments),
            env=self.environment(**environment),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def num_steps(self) -> int:
        """Training steps on disk, those done twice counted twice."""
        return sum(file.read_bytes().count(b"\n") for file in self.runs.glob("*/attempts/*/metrics.jsonl"))

    def wait_for_steps(self, number: int) -> None:
        """Wait until so many more steps are on disk."""
        wanted = self.num_steps() + number
        wait_until(lambda: self.num_steps() >= wanted, f"{number} steps; log:\n{self.tail()}")

    def records(self) -> dict[str, dict[str, Any]]:
        """Trial id → record, as JSON."""
        return {path.parent.name: json.loads(path.read_text()) for path in sorted(self.runs.glob("*/record.json"))}

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-100:]) if self.log.exists() else ""
