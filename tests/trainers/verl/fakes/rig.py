"""A real sweep of one verl trial on the tiny model, in a process that tests may kill."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from orchestrator.store.store import Store
from orchestrator.trial.retry import classify
from trainers.verl.launch.job import VerlJob
from trainers.verl.processes.processes import descendants, orphan_segments

EXPERIMENT = Path(__file__).parents[4] / "experiments" / "smoke_verl.yaml"
FAKES = Path(__file__).parent
START_S, STEP_S = 420.0, 120.0


class Rig:
    """One runs folder, one driver at a time."""

    def __init__(self, root: Path, cache: Path, *overrides: str) -> None:
        self.root, self.cache = root, cache
        words = ("algorithm=grpo", "selection=full", "eval.num_samples=1", "eval.limit=4", *overrides)
        self.overrides = [*{word.partition("=")[0]: word for word in words}.values()]  # the last of a key counts
        self.store = Store(root / "runs")
        self.began_at = time.time()
        self.drivers: list[subprocess.Popen] = []
        self.seen: dict[int, float] = {}
        """Processes of this rig that were ever looked at: id → time of birth."""

    def start(self, *options: str, scheduler: str = "ray_tune", **environment: str) -> subprocess.Popen:
        command = [Path(sys.executable).with_name("orch"), "sweep", EXPERIMENT, *self.overrides]
        command += [
            "--scheduler",
            scheduler,
            "--store",
            self.store.root,
            "--cache-dir",
            self.cache,
            "--no-mlflow",
            *options,
        ]
        paths = [path for path in (str(FAKES), os.environ.get("PYTHONPATH")) if path]
        with (self.root / "driver.log").open("a") as output:
            driver = subprocess.Popen(
                command, cwd=self.root, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            )  # fmt: skip
        self.drivers.append(driver)
        return driver

    def end(self) -> None:
        """Kill the drivers; what they started ends by itself."""
        for driver in self.drivers:
            driver.kill()
            driver.wait()
        self.wait_until_gone()

    def finish(self, driver: subprocess.Popen) -> int:
        """Wait for the driver's end, and for that of all that it started."""
        while driver.poll() is None:
            self._note(driver.pid)
            time.sleep(0.5)
        self.wait_until_gone()
        return driver.returncode

    def wait_until_gone(self, timeout_s: float = 150.0) -> None:
        self._wait(lambda: not self.alive(), timeout_s, "processes are left")

    def wait_for_step(self, step: int, driver: subprocess.Popen) -> None:
        """Until the newest attempt has done a step."""

        def is_there() -> bool:
            self._note(driver.pid)
            assert driver.poll() is None, f"the driver ended with {driver.returncode}: {self.words()}"
            return bool(self.steps()) and self.steps()[-1] >= step

        self._wait(is_there, START_S + STEP_S, f"step {step} is not reached")

    def wait_for_attempt(self, number: int, driver: subprocess.Popen) -> None:
        """Until an attempt has begun."""

        def is_there() -> bool:
            self._note(driver.pid)
            return len(self.store.attempt_numbers(self.trial_id)) >= number

        self._wait(is_there, START_S, f"attempt {number} does not begin")

    @property
    def trial_id(self) -> str:
        return next(r.trial.id for r in self.store.list() if r.trial.kind == "train")

    @property
    def attempts(self) -> tuple:
        return self.store.read(self.trial_id).attempts

    @property
    def record(self):
        return self.store.read(self.trial_id)

    def failure_class(self, number: int) -> str:
        return classify(self.attempts[number - 1].failure).value

    def lines(self, attempt: int) -> dict[int, dict]:
        """Metrics of an attempt by step; a step that comes twice is an error."""
        file = self.store.attempt_folder(self.trial_id, attempt) / "metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        found = {row["step"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def steps(self) -> list[int]:
        numbers = self.store.attempt_numbers(self.trial_id) if self.store.list() and self._has_trial() else ()
        return sorted(self.lines(numbers[-1])) if numbers else []

    def job(self) -> VerlJob:
        """Of the newest attempt."""
        number = self.store.attempt_numbers(self.trial_id)[-1]
        return VerlJob.read(self.store.attempt_folder(self.trial_id, number) / "verl_job.pickle")

    def checkpoints(self) -> list[int]:
        """Steps with a manifest."""
        found = self.store.checkpoint_folder(self.trial_id).glob("global_step_*/manifest.json")
        return sorted(int(file.parent.name.rpartition("_")[2]) for file in found)

    def named(self, driver: subprocess.Popen, *parts: str) -> list[psutil.Process]:
        """Processes below the driver whose command line or title has one of the parts."""
        found = []
        for pid in descendants(driver.pid):
            try:
                process = psutil.Process(pid)
                if any(part in " ".join(process.cmdline()) for part in parts):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def alive(self) -> list[psutil.Process]:
        """Processes that were once seen below a driver of this rig and still live."""
        found = []
        for pid, birth in self.seen.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == birth and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def leftovers(self) -> list[str]:
        """What the attempts of the trial left outside of the runs folder."""
        left = []
        for number in self.store.attempt_numbers(self.trial_id):
            file = self.store.attempt_folder(self.trial_id, number) / "verl_job.pickle"
            if file.exists():
                job = VerlJob.read(file)
                left += [str(path) for path in Path("/tmp").glob(f"*{job.token}*")]
        return left + sorted(str(path) for path in orphan_segments(self.began_at))

    def words(self) -> str:
        return (self.root / "driver.log").read_text()[-3000:]

    def _has_trial(self) -> bool:
        return any(record.trial.kind == "train" for record in self.store.list())

    def _note(self, root: int) -> None:
        for pid in (root, *descendants(root)):
            try:
                self.seen.setdefault(pid, psutil.Process(pid).create_time())
            except psutil.NoSuchProcess:
                continue

    def _wait(self, condition, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.words()}"
            time.sleep(0.2)
