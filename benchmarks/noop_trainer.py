"""The trainer of `bench_overhead`: what is left is the cost of everything around it. Light, as workers import it."""

from trainers.api import TrainJob, TrainResult


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
