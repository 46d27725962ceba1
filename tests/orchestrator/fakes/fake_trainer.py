"""A trainer and a sampler that cost nothing, for tests of everything around them.

The policy is one number, a hash chain over (seed, step), so that any repeated, skipped or swapped step shows in the
final number, in its metrics and in its scores. Environment variables make it slow or make it fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.api import Completion, SampleRequest, SamplingSettings
from trainers.api import TrainJob, TrainResult


def chain(state: str, *parts: object) -> str:
    return hashlib.sha256(repr((state, *parts)).encode()).hexdigest()


class FakeTrainer:
    def train(self, job: TrainJob) -> TrainResult:
        step, state = self._resume(job)
        metrics: dict[str, float] = {}
        (job.checkpoint_folder).mkdir(parents=True, exist_ok=True)
        with (job.attempt_folder / "metrics.jsonl").open("a") as file:
            self._evaluate_if_due(job, step, state)
            while step < job.recipe.steps:
                if job.should_stop() and "FAKE_DEAF" not in os.environ:
                    self._checkpoint(job, step, state)
                    return self._result(job, step, metrics, is_finished=False)
                job.on_phase("sample", step)
                time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
                step, state = step + 1, chain(state, job.seed, step + 1)
                self._fail_if_asked(job, step)
                metrics = {"step": step, "reward/mean": int(state[:8], 16) / 2**32}
                file.write(json.dumps(metrics) + "\n")
                file.flush()
                job.on_step(metrics)
                if step % job.resources.checkpoint_every == 0:
                    self._checkpoint(job, step, state)
                self._evaluate_if_due(job, step, state)
        self._checkpoint(job, step, state)
        folder = job.checkpoint_folder / "policy"
        folder.mkdir(exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"state": state}))
        print(f"threads: {os.environ.get('OMP_NUM_THREADS')}, gpus: {os.environ.get('CUDA_VISIBLE_DEVICES')!r}")
        print(f"trained seed {job.seed} to {state}")
        return self._result(job, step, metrics, is_finished=True)

    def _resume(self, job: TrainJob) -> tuple[int, str]:
        path = job.checkpoint_folder / "latest.json"
        if not path.exists():
            return 0, chain("start", job.recipe.learning_rate)
        saved = json.loads(path.read_text())
        return saved["step"], saved["state"]

    def _checkpoint(self, job: TrainJob, step: int, state: str) -> None:
        temporary = job.checkpoint_folder / "latest.tmp"
        temporary.write_text(json.dumps({"step": step, "state": state}))
        temporary.replace(job.checkpoint_folder / "latest.json")

    def _evaluate_if_due(self, job: TrainJob, step: int, state: str) -> None:
        if job.evaluate and job.evaluate_every and step % job.evaluate_every == 0 and 0 < step < job.recipe.steps:
            job.evaluate(step, FakeSampler(state))

    def _fail_if_asked(self, job: TrainJob, step: int) -> None:
        if f"{job.seed}@{step}" not in os.environ.get("FAKE_FAIL", "").split(","):
            return
        if once := os.environ.get("FAKE_FAIL_ONCE"):
            if Path(once).exists():
                return
            Path(once).touch()
        raise RuntimeError(os.environ.get("FAKE_FAIL_MESSAGE", f"asked to fail at step {step}"))

    def _result(self, job: TrainJob, step: int, metrics: dict[str, float], *, is_finished: bool) -> TrainResult:
        return TrainResult(
            is_finished=is_finished,
            step=step,
            model_folder=job.checkpoint_folder / "policy",
            metrics=metrics,
            phase_seconds={"sample": 0.5},
            peak_memory_mb=1.0,
            num_parameters=1,
        )


class SelectorTrainer(FakeTrainer):
    """Its policies differ by selection, and answer rightly as often as RATES says of it."""

    def train(self, job: TrainJob) -> TrainResult:
        result = super().train(job)
        if result.is_finished:
            method, path = job.recipe.selection.method, result.model_folder / "state.json"
            state = json.loads(path.read_text())["state"]
            path.write_text(json.dumps({"state": f"{method} {chain(state, method)}"}))
        return result


RATES = {"gmts": 0.95, "ets": 0.6}
"""Selection → share of right answers; half where none is named."""


@dataclass
class FakeSampler:
    """Answers right or wrong by a hash of (policy, seed); the question carries its answer."""

    state: str
    name: str = "fake 1"
    keeps_batches: bool = False

    @property
    def model_digest(self) -> str:
        return self.state

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return self.encode_text(messages[-1]["content"])

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        for request in requests:
            time.sleep(float(os.environ.get("FAKE_SAMPLE_S", "0")))
            answer = bytes(request.prompt_tokens).decode().split()[-1]
            drawn = int(chain(self.state, request.seed)[:8], 16)
            rate = RATES.get(self.state.partition(" ")[0])
            is_right = drawn % 2 if rate is None else drawn < rate * 2**32
            yield Completion(
                problem_id=request.problem_id,
                index=request.index,
                text=f"\\boxed{{{answer if is_right else 'wrong'}}}",
                num_tokens=5,
                finish_reason="stop",
            )

    def close(self) -> None:
        return None


def open_fake_sampler(engine: str, model_folder: Path, **settings: object) -> FakeSampler:
    """Stands in for `eval.engines.open_sampler`; an initial model has no state yet."""
    path = model_folder / "state.json"
    return FakeSampler(json.loads(path.read_text())["state"] if path.exists() else "initial")
