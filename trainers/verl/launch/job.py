"""What the processes of one verl attempt share: a file in the attempt's folder, written before any of them starts."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from trainers.recipe import Recipe, Resources

TOKEN = "ORCH_VERL_TOKEN"
"""Environment variable that names the attempt: in socket names, and in every process to be found at the end."""
JOB_FILE = "ORCH_VERL_JOB"
"""Environment variable with the path of the job's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerlJob:
    """One attempt, as its processes read it."""

    recipe: Recipe
    resources: Resources
    seed: int
    token: str
    """Eight hex digits that no other attempt on this machine has."""
    model_folder: Path
    checkpoint_folder: Path
    attempt_folder: Path
    data_file: Path
    """Prompts in training order, parquet."""
    resume_from: Path | None
    """A verified checkpoint folder, or None to start anew."""
    evaluate_every: int | None = None
    """Steps between policies that are left to be evaluated."""
    ray_address: str | None = None
    """Where the head of a Ray over several nodes listens; None where the trial has one node."""

    @property
    def file(self) -> Path:
        """Where the job lies."""
        return self.attempt_folder / "verl_job.pickle"

    @property
    def stop_file(self) -> Path:
        """Its existence asks for a checkpoint and a clean end after the present step."""
        return self.attempt_folder / "verl_stop"

    @property
    def pulse_file(self) -> Path:
        """Signs of life from within a step: `trainers/verl/launch/pulse.py`."""
        return self.attempt_folder / "verl_pulse.json"

    @property
    def error_file(self) -> Path:
        """What a user can fix, left by the training process for its supervisor."""
        return self.attempt_folder / "verl_error.json"

    @property
    def temporary_folder(self) -> Path:
        """Ray's files; short, because the paths of sockets may not exceed 107 bytes."""
        return ray_folder(self.token)

    def write(self) -> None:
        """Put the job into its file."""
        self.file.write_bytes(pickle.dumps(self))

    @staticmethod
    def read(file: Path) -> VerlJob:
        """Return the job of a file that `write` made in this very attempt."""
        job = pickle.loads(file.read_bytes())
        assert isinstance(job, VerlJob)
        return job


def ray_folder(token: str) -> Path:
    """The files of an attempt's Ray, on each of its nodes."""
    return Path("/tmp") / f"orch-{token}"


def ray_cpus(resources: Resources) -> int:
    """Logical cores of a node's Ray: verl's actors ask for a core each, and most of them wait.

    With fewer than its placement group books, three a GPU, verl would wait for ever.
    """
    return max(8 + 3 * resources.num_gpus, resources.num_cpus)


def object_store_bytes(resources: Resources) -> int:
    """Memory of a node's object store: batches and weights pass through it."""
    return 2**33 if resources.num_gpus else 2**28
