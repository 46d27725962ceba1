"""50 trials that do nothing, through orch and through plain Ray Tune, in one Ray session with the same concurrency.

Plain Tune runs the no-op inside its actors, with its defaults (a fresh actor a trial) and with reused actors. Ours
gives every trial a process of its own, a record, provenance and a lock, all of them on disk; its one score lies there
beforehand, so that no engine is opened.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import ray
from ray import tune

from eval.api import Score
from orchestrator.codec import encode
from orchestrator.config.blocks import EvalSettings
from orchestrator.plan.identity import hash_of
from orchestrator.plan.trial import Plan, PlannedTrial, Trial
from orchestrator.store.record import Status
from orchestrator.store.scores import required_scores
from orchestrator.store.store import Store
from orchestrator.sweep.queue import QueueSettings, TrialQueue
from orchestrator.sweep.ray_tune import ENVIRONMENT, RayTuneScheduler
from orchestrator.trial.stop import StopSignal, stop_file
from orchestrator.trial.supervisor import WorkerSettings
from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

CONCURRENCY = 2
HERE = Path(__file__).parent


def planned(seed: int, model: Path) -> PlannedTrial:
    recipe = Recipe(
        trainer="noop_trainer:NoopTrainer",
        algorithm=Algorithm(name="grpo", clip_low=0.2, clip_high=0.2, loss_mean="sequence"),
        selection=Selection(method="full"),
        model=Model(path=str(model)),
        data=Data(name="arithmetic_train", template="chat", max_prompt_tokens=32, max_response_tokens=32),
        steps=1,
        prompts_per_step=1,
        group_size=2,
        mini_batch_prompts=1,
        learning_rate=1e-3,
    )
    trial = Trial(
        id=hash_of({"seed": seed}),
        kind="train",
        model=recipe.model,
        recipe=recipe,
        seed=seed,
        model_digest="-",
        data_digest="-",
    )
    evaluation = EvalSettings(benchmarks=("arithmetic",), num_samples=1, max_new_tokens=1, template="plain")
    return PlannedTrial(trial=trial, axes={}, evaluation=evaluation, resources=Resources())


def give_score(entry: PlannedTrial, store: Store, *, step: int = 1) -> None:
    (wanted,) = required_scores(entry, step=step, data_folder=None)
    score = Score(
        benchmark=wanted.benchmark,
        benchmark_digest="-",
        num_problems=1,
        num_samples=1,
        avg=0.0,
        standard_error=0.0,
        generation_error=None,
        clip_rate=0.0,
        no_box_rate=0.0,
        mean_tokens=1.0,
        per_problem={"0": (0,)},
        settings=wanted.settings,
        grader_version="-",
        engine="-",
        elapsed_s=0.0,
    )
    path = store.eval_folder(entry.trial.id, wanted.key) / "score.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(encode(score)))


def empty_model(root: Path) -> Path:
    model = root / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "qwen2"}')
    (model / "model.safetensors").write_bytes(b"")
    return model


def lay_out(root: Path, *entries: PlannedTrial, step: int = 1) -> tuple[Plan, Store, WorkerSettings]:
    """A runs folder with the plan of these trials and their scores, and what their workers share."""
    store = Store(root / "runs")
    plan = Plan(experiment="bench", file="", axes=(), entries=entries, config={}, digest="-")
    store.plans.save(plan)
    for entry in entries:
        give_score(entry, store, step=step)
    settings = WorkerSettings(
        store_root=store.root,
        experiment="bench",
        cache_folder=root / "models",
        data_folder=None,
        argv=("bench",),
        stop_file=StopSignal(stop_file(store.root, "bench")).path,
        working_folder=root,
        python_path=os.pathsep.join([str(HERE.parent), str(HERE)]),  # this orch, and where workers find NoopTrainer
    )
    return plan, store, settings


def time_orch(num_trials: int, root: Path) -> float:
    model = empty_model(root)
    plan, store, settings = lay_out(root, *(planned(seed, model) for seed in range(num_trials)))
    stop = StopSignal(settings.stop_file)
    started = time.perf_counter()
    RayTuneScheduler(address=None).run(TrialQueue(plan, store, QueueSettings(max_running=CONCURRENCY)), settings, stop)
    elapsed_s = time.perf_counter() - started
    assert [record.status for record in store.list()] == [Status.DONE] * num_trials
    return elapsed_s


def time_tune(num_trials: int, storage: Path, *, reuse_actors: bool) -> float:
    def noop(config: dict[str, int]) -> dict[str, int]:
        return {"seed": config["seed"]}

    started = time.perf_counter()
    results = tune.Tuner(
        tune.with_resources(noop, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(num_trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=CONCURRENCY, reuse_actors=reuse_actors),
        run_config=tune.RunConfig(storage_path=str(storage), verbose=0),
    ).fit()
    assert len(results) == num_trials
    assert results.num_errors == 0
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    num_trials = parser.parse_args().trials
    os.environ.update(ENVIRONMENT)
    ray.init(num_cpus=CONCURRENCY, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        fresh = time_tune(num_trials, Path(folder) / "fresh", reuse_actors=False)
        reused = time_tune(num_trials, Path(folder) / "reused", reuse_actors=True)
        ours = time_orch(num_trials, Path(folder))
    ray.shutdown()
    for name, elapsed_s in (("orch", ours), ("plain Ray Tune", fresh), ("Ray Tune, reused actors", reused)):
        print(f"{name:<26}{elapsed_s:7.2f} s  {elapsed_s / num_trials:6.3f} s a trial")
    print(f"orch / plain Ray Tune: {ours / fresh:.2f} (at most 1.20)   orch / reused actors: {ours / reused:.2f}")


if __name__ == "__main__":
    main()
