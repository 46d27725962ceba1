"""Trainers that train nothing: what is left is the cost of everything around them. Light, as workers import it."""

import json
import time

from trainers.api import TrainJob, TrainResult

NUM_METRICS = 50
STEP_S = 0.002


class NoopTrainer:
    """Finishes at once."""

    def train(self, job: TrainJob) -> TrainResult:
        """Do nothing, successfully."""
        return TrainResult(
            is_finished=True,
            step=job.recipe.steps,
            model_folder=job.model_folder,
            metrics={},
            phase_seconds={},
            peak_memory_mb=0.0,
            num_parameters=0,
        )


class PointsTrainer:
    """Computes for `STEP_S` of processor time a step and writes `NUM_METRICS` metrics of it."""

    def train(self, job: TrainJob) -> TrainResult:
        """Write `metrics.jsonl` as a trainer does."""
        with (job.attempt_folder / "metrics.jsonl").open("a") as file:
            for step in range(1, job.recipe.steps + 1):
                until = time.thread_time() + STEP_S
                while time.thread_time() < until:
                    pass
                metrics = {"step": step} | {f"points/{number}": step / (number + 1) for number in range(NUM_METRICS)}
                file.write(json.dumps(metrics) + "\n")
                file.flush()
                job.on_step(metrics)
        return NoopTrainer().train(job)
