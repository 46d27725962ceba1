"""A store with an invented sweep in it: nothing is trained, every number is drawn from a seeded generator."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.api import SamplingSettings, Score
from eval.stats import avg_at_k
from orchestrator.codec import encode
from orchestrator.config.blocks import EvalSettings
from orchestrator.plan.identity import hash_of
from orchestrator.plan.trial import Plan, PlannedTrial, Trial
from orchestrator.store.record import (
    Attempt,
    Failure,
    Hardware,
    Outcome,
    Provenance,
    RunRecord,
    Status,
    TrainSummary,
    new_record,
    score_entry,
)
from orchestrator.store.scores import sampling_settings
from orchestrator.store.store import Store
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

AT = "2026-11-21T08:00:{:02d}.000Z"
MODEL = Model(path="builtin:arithmetic-tiny")


@dataclass
class MadeUp:
    """One experiment over `root`; arms are (algorithm, method) pairs."""

    root: Path
    arms: Sequence[tuple[str, str]] = (("grpo", "full"), ("grpo", "ets"))
    seeds: Sequence[int] = (0,)
    benchmarks: Sequence[str] = ("arithmetic",)
    num_problems: int = 20
    num_samples: int = 4
    steps: int = 8
    experiment: str = "made_up"
    published: Mapping[str, Any] | None = None
    """The block of that name."""

    def __post_init__(self) -> None:
        self.store = Store(self.root / "runs")
        self.base = self._planned(None, None)
        self.trials = [self._planned(arm, seed) for arm in self.arms for seed in self.seeds]
        entries = (self.base, *self.trials)
        self.plan = Plan(
            experiment=self.experiment,
            file="experiments/made_up.yaml",
            axes=("algorithm", "selection", "selection.ratio"),
            entries=entries,
            config={
                "name": self.experiment,
                "steps": self.steps,
                **({"published": self.published} if self.published else {}),
            },
            digest=hash_of({"entries": encode(entries)}),
        )
        self.store.plans.save(self.plan)

    def finish(self, planned: PlannedTrial, *, rate: float, benchmarks: Sequence[str] | None = None) -> RunRecord:
        """Record a trial as done; question q is answered rightly with a chance around `rate`."""
        record = self._attempted(planned, Outcome.DONE, Status.DONE)
        if planned.trial.recipe is not None:
            self._write_metrics(planned, rate)
            summary = TrainSummary(
                step=self.steps, model_folder="checkpoints/x", metrics={}, num_parameters=10, finished_at=AT.format(8)
            )
            record = replace(record, train=summary)
        for name in planned.evaluation.benchmarks if benchmarks is None else benchmarks:
            record = self.add_score(record, planned, name, self.draw(planned, name, rate))
        self.store.write(record)
        return record

    def fail(self, planned: PlannedTrial, message: str) -> None:
        """Record a trial as failed."""
        record = self._attempted(planned, Outcome.FAILED, Status.FAILED)
        failure = Failure(kind="RuntimeError", message=message, log_tail=(message,))
        attempt = replace(record.attempts[-1], failure=failure)
        self.store.write(record.with_attempt(attempt, status=Status.FAILED, at=AT.format(9)))

    def draw(self, planned: PlannedTrial, benchmark: str, rate: float) -> dict[str, tuple[int, ...]]:
        """Invented verdicts; a question is equally hard for every trial."""
        table = {}
        for number in range(self.num_problems):
            ease = random.Random(f"{benchmark} {number}").gauss(0, 1.5)
            chance = 1 / (1 + math.exp(-(ease + math.log(rate / (1 - rate)))))
            generator = random.Random(f"{planned.trial.id} {benchmark} {number}")
            table[f"q{number}"] = tuple(int(generator.random() < chance) for _ in range(self.num_samples))
        return table

    def add_score(
        self,
        record: RunRecord,
        planned: PlannedTrial,
        name: str,
        table: dict[str, tuple[int, ...]],
        *,
        second: int = 9,
        grader: str = "grader123456",
    ) -> RunRecord:
        """Write score.json and add its entry."""
        score = replace(self._score(name, table, sampling_settings(planned.evaluation)), grader_version=grader)
        step = planned.trial.recipe.steps if planned.trial.recipe else 0
        key = hash_of({"trial": planned.trial.id, "benchmark": name, "second": second})
        folder = self.store.eval_folder(planned.trial.id, key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.json").write_text(json.dumps(encode(score)))
        entry = score_entry(score, key=key, step=step, limit=planned.evaluation.limit, at=AT.format(second))
        return record.with_score(entry, at=AT.format(second))

    def _score(self, name: str, table: dict[str, tuple[int, ...]], settings: SamplingSettings) -> Score:
        average = avg_at_k(table)
        return Score(
            benchmark=name,
            benchmark_digest=hash_of({"name": name}) * 5,
            num_problems=len(table),
            num_samples=settings.num_samples,
            avg=average.mean,
            standard_error=average.standard_error,
            generation_error=average.generation_error,
            clip_rate=0.0125,
            no_box_rate=0.05,
            mean_tokens=41.5,
            per_problem=table,
            settings=settings,
            grader_version="grader123456",
            engine="hf 5.10.4",
            elapsed_s=3.0,
        )

    def _planned(self, arm: tuple[str, str] | None, seed: int | None) -> PlannedTrial:
        recipe = None if arm is None else self._recipe(*arm)
        axes: dict[str, str | int | float] = {}
        if arm is not None and recipe is not None:
            axes = {"algorithm": arm[0], "selection": arm[1]}
            if recipe.selection.ratio is not None:
                axes["selection.ratio"] = recipe.selection.ratio
        return PlannedTrial(
            trial=Trial(
                id=hash_of({"seed": seed, "recipe": recipe}),
                kind="base" if recipe is None else "train",
                model=MODEL,
                recipe=recipe,
                seed=seed,
                model_digest="a1b2c3d4",
                data_digest=None if recipe is None else "sha256:feed",
            ),
            axes=axes,
            evaluation=EvalSettings(
                benchmarks=tuple(self.benchmarks), num_samples=self.num_samples, max_new_tokens=96, template="chat"
            ),
            resources=Resources(),
        )

    def _recipe(self, algorithm: str, method: str) -> Recipe:
        return Recipe(
            algorithm=Algorithm(
                name="dapo" if algorithm == "dapo" else "grpo",
                clip_low=0.2,
                clip_high=0.28 if algorithm == "dapo" else 0.2,
                loss_mean="token" if algorithm == "dapo" else "sequence",
            ),
            selection=Selection(method=method, ratio=None if method == "full" else 0.2),
            model=MODEL,
            data=Data(name="arithmetic_train", template="chat", max_prompt_tokens=32, max_response_tokens=96),
            steps=self.steps,
            prompts_per_step=16,
            group_size=16,
            mini_batch_prompts=16,
            learning_rate=1e-4,
        )

    def _attempted(self, planned: PlannedTrial, outcome: Outcome, status: Status) -> RunRecord:
        self.store.prepare_trial(planned.trial)
        attempt = Attempt(
            number=1,
            started_at=AT.format(0),
            ended_at=AT.format(9),
            outcome=outcome,
            seed=planned.trial.seed,
            data_digest=planned.trial.data_digest,
            provenance=Provenance(
                commit="0123456789abcdef",
                is_dirty=False,
                versions={"orch": "0.1.0"},
                python="3.11.2",
                argv=("orch", "sweep", "made_up.yaml"),
                host="laptop",
                pid=1,
                hardware=Hardware(cpu="a cpu", num_cores=2, memory_gb=8.0, gpus=()),
            ),
            phase_seconds={"sample": 4.0, "update": 3.0, "evaluate": 1.5},
            peak_memory_mb=512.0,
        )
        record = new_record(planned.trial, at=AT.format(0)).with_attempt(attempt, status=status, at=AT.format(9))
        self.store.write(record)
        return record

    def _write_metrics(self, planned: PlannedTrial, rate: float) -> None:
        generator = random.Random(planned.trial.id)
        rows = []
        for step in range(1, self.steps + 1):
            done = step / self.steps
            values = {
                "reward/mean": 0.3 + (rate - 0.3) * done + generator.gauss(0, 0.02),
                "tokens/entropy": 0.6 * math.exp(-2 * done) + generator.gauss(0, 0.01),
                "loss": generator.gauss(0, 0.01),
                "select/ratio": (planned.trial.recipe and planned.trial.recipe.selection.ratio) or 1.0,
                "response/length_mean": 40 + 5 * done,
                "policy/clip_fraction": abs(generator.gauss(0, 0.002)),
                "gradient/norm": 1.0 + abs(generator.gauss(0, 0.1)),
                "time/step_s": 1.0,
            }
            rows.append(json.dumps({"step": step, **values}) + "\n")
        folder = self.store.attempt_folder(planned.trial.id, 1)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").write_text("".join(rows))
