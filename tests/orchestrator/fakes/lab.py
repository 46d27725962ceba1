"""What a test of sweeps needs: plans over the fake trainer, an environment for processes, a fingerprint of results."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.codec import encode
from orchestrator.config.blocks import EvalSettings
from orchestrator.plan.identity import hash_of
from orchestrator.plan.trial import Plan, PlannedTrial, Trial
from orchestrator.store.store import Store
from orchestrator.sweep.backends import SchedulerName, open_scheduler
from orchestrator.sweep.driver import SweepOutcome, SweepSettings, run_sweep
from orchestrator.trial.attempt import RunContext
from orchestrator.trial.stop import StopSignal, stop_file
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

FAKES = Path(__file__).parent


@dataclass
class Lab:
    root: Path
    steps: int = 6
    checkpoint_every: int = 2
    num_benchmarks: int = 1
    every_steps: int | None = None
    num_cpus: int = 1

    def __post_init__(self) -> None:
        self.store = Store(self.root / "runs")
        self.model = self.root / "model"
        self.model.mkdir(parents=True, exist_ok=True)
        (self.model / "config.json").write_text('{"model_type": "qwen2"}')
        (self.model / "model.safetensors").write_bytes(b"")

    def benchmark(self, number: int) -> str:
        path = self.root / f"bench{number}.jsonl"
        rows = [{"id": f"q{n}", "question": f"{number} {n}", "answer": str(n), "kind": "integer"} for n in range(5)]
        if not path.exists():  # once: a trial may be reading it by now
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def experiment(self, sweep: str, *more: str) -> Path:
        """An experiment file over the fake trainer, this laboratory's model and its benchmark.

        Args:
            sweep: its sweep block, as in `{seeds: [0, 1]}`.
            more: further lines.
        """
        path = self.root / "tiny.yaml"
        lines = [
            "defaults: [{algorithm: grpo}, {selection: full}, {model: tiny}, {data: arithmetic}, {recipe: tiny},",
            "  {eval: arithmetic}, {cluster: local}]",
            "trainer: fake_trainer:FakeTrainer",
            f"model: {{path: {self.model}}}",
            "recipe: {steps: 6}",
            f"eval: {{benchmarks: [{self.benchmark(0)}], num_samples: 2, template: plain}}",
            "cluster: {scheduler: inline, checkpoint_every: 2}",
            *more,
            f"sweep: {sweep}",
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def recipe(self) -> Recipe:
        return Recipe(
            trainer="fake_trainer:FakeTrainer",
            algorithm=Algorithm(name="grpo", clip_low=0.2, clip_high=0.2, loss_mean="sequence"),
            selection=Selection(method="full"),
            model=Model(path=str(self.model)),
            data=Data(name="arithmetic_train", template="chat", max_prompt_tokens=32, max_response_tokens=32),
            steps=self.steps,
            prompts_per_step=4,
            group_size=4,
            mini_batch_prompts=4,
            learning_rate=1e-3,
        )

    def planned(self, seed: int | None) -> PlannedTrial:
        """The trial of a seed; None is the base model."""
        recipe = None if seed is None else self.recipe()
        return PlannedTrial(
            trial=Trial(
                id=hash_of({"seed": seed, "recipe": recipe}),
                kind="base" if recipe is None else "train",
                model=Model(path=str(self.model)),
                recipe=recipe,
                seed=seed,
                model_digest="model-digest",
                data_digest=None if recipe is None else "data-digest",
            ),
            axes={} if recipe is None else {"selection": "full"},
            evaluation=EvalSettings(
                benchmarks=tuple(self.benchmark(number) for number in range(self.num_benchmarks)),
                num_samples=2,
                max_new_tokens=16,
                template="plain",
                every_steps=self.every_steps,
            ),
            resources=Resources(num_cpus=self.num_cpus, checkpoint_every=self.checkpoint_every),
        )

    def plan(self, seeds: Sequence[int | None], *, experiment: str = "test") -> Plan:
        entries = tuple(self.planned(seed) for seed in seeds)
        return Plan(
            experiment=experiment,
            file="test.yaml",
            axes=("selection",),
            entries=entries,
            config={},
            digest=hash_of({"entries": encode(entries)}),
        )

    def context(self, *, should_stop: Callable[[], bool] = lambda: False) -> RunContext:
        return RunContext(cache_folder=self.root / "models", should_stop=should_stop, argv=("orch", "test"))

    def sweep(
        self,
        plan: Plan,
        *,
        scheduler: SchedulerName = "inline",
        address: str | None = None,
        stop: StopSignal | None = None,
    ) -> SweepOutcome:
        return run_sweep(
            plan,
            self.store,
            settings=SweepSettings(
                cache_folder=self.root / "models",
                data_folder=None,
                argv=("orch", "test"),
                python_path=self.environment()["PYTHONPATH"],
                first_retry_wait_s=0.0,
            ),
            open_scheduler=lambda: open_scheduler(scheduler, address=address),
            stop=stop or StopSignal(stop_file(self.store.root, plan.experiment)),
            on_event=lambda line: print("event:", line),
        )

    def environment(self, **more: str) -> dict[str, str]:
        """For processes: the fakes importable, the engine replaced."""
        paths = [path for path in (os.environ.get("PYTHONPATH"), str(FAKES)) if path]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}

    def driver_command(self, plan: Plan, scheduler: SchedulerName) -> list[str]:
        """A process that drives the plan, to be killed: `python drive.py RUNS EXPERIMENT SCHEDULER`."""
        self.store.plans.save(plan)
        return [sys.executable, str(FAKES / "drive.py"), str(self.store.root), plan.experiment, scheduler]

    def results(self) -> dict[str, Any]:
        """All that must not depend on interruptions: per trial, the policy, the metrics and the scores."""
        return {
            record.trial.id: {
                "status": record.status,
                "train": record.train and (record.train.step, record.train.metrics, self._policy(record.trial.id)),
                "metrics": self.store.metrics(record.trial.id),
                "scores": sorted({(entry.step, entry.benchmark, entry.avg) for entry in record.scores}),
            }
            for record in self.store.list()
        }

    def _policy(self, trial_id: str) -> str:
        return (self.store.checkpoint_folder(trial_id) / "policy" / "state.json").read_text()
