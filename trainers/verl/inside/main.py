"""The training process of a verl trial: `python -m trainers.verl.inside.main JOB_FILE`.

Started by `trainers.verl.launch.launch`, it leads a process group and a private local Ray, and ends both when its
parent is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from eval.errors import OrchError
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.overrides import overrides
from trainers.verl.processes.nodes import Gang, all_nodes, ray_environment, start_head
from trainers.verl.processes.prefork import warm_python


def main(job_file: Path) -> None:
    """Train the job to its end, or until its stop file appears."""
    _end_with_parent(os.getppid())
    job = VerlJob.read(job_file)
    gang = Gang.of(os.environ)
    if gang is not None:
        os.environ.update(ray_environment(gang, os.environ, num_gpus=job.resources.num_gpus))
        start_head(gang, job.resources)
    with contextlib.ExitStack() as stack:
        settings = list(overrides(job))
        if gang is None and not job.resources.num_gpus:
            python = stack.enter_context(warm_python(job.temporary_folder))
            settings.append(f"+ray_kwargs.ray_init.runtime_env.py_executable={python}")
        _train(settings, is_gang=gang is not None)


def _train(settings: list[str], *, is_gang: bool) -> None:
    """Run verl with our trainer in a private Ray."""
    import hydra
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo

    class TaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[misc]
        """verl's runner with our trainer in the place of its own."""

        def run(self, config: Any) -> None:
            from verl.trainer.ppo.v1 import trainer_base

            from trainers.verl.inside.trainer import SelectionTrainer, StopAsked

            trainer_base.TRAINER_REGISTRY["sync"] = SelectionTrainer
            job = VerlJob.read(Path(config.orch_job))
            try:
                with all_nodes(job.resources.num_nodes, on_lost=partial(_leave_at_once, job=job)):
                    super().run(config)
            except StopAsked:
                return
            except OrchError as error:
                _leave(error, job)
                raise

    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        config = hydra.compose("ppo_trainer", overrides=settings)
    runner = ray.remote(TaskRunner)
    on_head = runner.options(resources={"node:__internal_head__": 0.001}) if is_gang else runner
    run_ppo(config, task_runner_class=on_head)
    ray.shutdown()


def _leave(error: OrchError, job: VerlJob) -> None:
    """Tell the supervisor what a user can fix."""
    job.error_file.write_text(json.dumps({"what": error.what, "where": error.where, "fix": error.fix}))


def _leave_at_once(error: OrchError, job: VerlJob) -> None:
    """The same from a thread, when the training loop waits for what will never come."""
    _leave(error, job)
    os._exit(1)


def _end_with_parent(parent: int) -> None:
    """Kill this process group when the parent dies, which would otherwise leave vLLM and Ray behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
