"""What the processes of one verl attempt share: a file in the attempt's folder, written before any of them starts."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from trainers.api import Recipe, Resources

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

    @property
    def file(self) -> Path:
        """Where the job lies."""
        return self.attempt_folder / "verl_job.pickle"

    @property
    def stop_file(self) -> Path:
        """Its existence asks for a checkpoint and a clean end after the present step."""
        return self.attempt_folder / "verl_stop"

    @property
    def error_file(self) -> Path:
        """What a user can mend, left by the training process for its supervisor."""
        return self.attempt_folder / "verl_error.json"

    @property
    def temporary_folder(self) -> Path:
        """Ray's files; short, because the paths of sockets may not exceed 107 bytes."""
        return Path("/tmp") / f"orch-{self.token}"

    def write(self) -> None:
        """Put the job into its file."""
        self.file.write_bytes(pickle.dumps(self))

    @staticmethod
    def read(file: Path) -> VerlJob:
        """Return the job of a file that `write` made in this very attempt."""
        job = pickle.loads(file.read_bytes())
        assert isinstance(job, VerlJob)
        return job
