"""A step of `trainer: verl` beside plain `verl.trainer.main_ppo`: same model, prompts, lengths, configuration, cores.

GRPO with a KL term on the tiny model, sampled by vLLM, weights synced after every step. Three sides take turns:

    ours          trainers.verl: selection `full`, started from a warm Python
    verl, quick   verl 0.9.1, its replay buffer looking every .1 s as ours does: the peer of `at most 1.05×`
    verl          verl 0.9.1 as it is, looking every 2 s

A step is the time from one line of metrics to the next; the start is the time from the process to the first line. Then
ours runs once with every method, to print what share of a step selecting takes, and what scoring takes more.

    .venv-verl/bin/python benchmarks/bench_verl.py --rounds 2 --steps 12
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROMPTS, GROUP, RESPONSE_TOKENS = 16, 16, 48
SIDES = ("ours", "verl, quick", "verl")
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "ets": {"method": "ets", "ratio": 0.2},
    "gmts": {"method": "gmts", "ratio": 0.2},
    "ict": {"method": "ict", "ratio": 0.2, "scope": "response"},
}
OURS_ALONE = ("trainer.v1.sampler.", "+trainer.v1.sampler.", "+orch_job=", "actor_rollout_ref.rollout.agent.agent_loop")
OURS_ALONE += ("actor_rollout_ref.rollout.agent.default_agent_loop", "trainer.logger=")
PEERS = {
    "actor_rollout_ref.model.external_lib": "peer_verl_engine",
    "+actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls": "peer_verl_vllm.PlainExtension",
    "trainer.logger": '["console","file"]',
    "trainer.save_freq": "-1",
    "actor_rollout_ref.actor.clip_ratio_low": "0.2",
    "actor_rollout_ref.actor.clip_ratio_high": "0.2",
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
}
QUICK = {
    "trainer.v1.sampler.custom_sampler.path": "pkg://peer_verl_sampler",
    "trainer.v1.sampler.custom_sampler.name": "QuickBuffer",
}
TARGET = 1.05
PATIENCE_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, help="run our side in this folder (used by itself)")
    parser.add_argument("--method", choices=METHODS, default="full")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "orch" / "models")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--no-methods", action="store_true", help="leave out the share of selecting")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="a round; the first is not measured")
    options = parser.parse_args()
    if options.ours:
        run_ours(options.ours, options)
        return
    from trainers.models.resolve import resolve
    from trainers.recipe import Model

    options.model = resolve(Model(path="builtin:arithmetic-tiny"), cache_folder=options.cache_dir, on_progress=print)
    compare(options)
    if not options.no_methods:
        share_of_selection(options)


def compare(options: argparse.Namespace) -> None:
    starts: dict[str, list[float]] = {side: [] for side in options.sides}
    steps: dict[str, list[float]] = {side: [] for side in options.sides}
    for number in range(options.rounds):
        for side in options.sides[:: -1 if number % 2 else 1]:
            times = measure(side, options)
            starts[side].append(times[0])
            steps[side] += [after - before for before, after in pairwise(times[1:])]
            print(f"round {number + 1}, {side}: first step after {times[0]:.1f} s", flush=True)
    print(
        f"\nGRPO, {PROMPTS} prompts × {GROUP} responses of at most {RESPONSE_TOKENS} tokens, tiny model, float32, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; median (min to max), n = {len(steps['ours'])} steps, "
        f"{options.rounds} starts"
    )
    for side in options.sides:
        print(f"{side:>12}: step {spread(steps[side])}   first step after {spread(starts[side])}")
    for peer in [side for side in options.sides if side != "ours"]:
        print(
            f"ours / {peer}: step {median(steps['ours']) / median(steps[peer]):.3f}×, "
            f"start {median(starts['ours']) / median(starts[peer]):.3f}×"
        )
    if {"ours", "verl, quick"} <= set(options.sides):
        ratio = median(steps["ours"]) / median(steps["verl, quick"])
        print(f"{'target met' if ratio <= TARGET else 'TARGET MISSED'}: a step takes {ratio:.3f}×, at most {TARGET}×\n")


def share_of_selection(options: argparse.Namespace) -> None:
    print("share of selecting in a step of ours, and what the passes take; medians of steps, the first left out")
    for method in METHODS:
        options.method = method
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            measure_in(Path(folder), "ours", options)
            rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()][1:]
        found = {
            name: median(row[f"time/{name}_s"] for row in rows)
            for name in ("sample", "score", "update", "select", "step")
        }
        parts = ", ".join(f"{name} {value:.3f} s" for name, value in found.items())
        print(f"{method:>6}: selecting {found['select'] / found['step']:.2%} of a step ({parts})", flush=True)


def spread(values: list[float]) -> str:
    return f"{median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})"


def measure(side: str, options: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        return measure_in(Path(folder), side, options)


def measure_in(folder: Path, side: str, options: argparse.Namespace) -> list[float]:
    """Run one side, and return when each step's line of metrics was there, in seconds since the start."""
    lines = folder / "metrics.jsonl"
    temporary = None
    if side == "ours":
        command = [sys.executable, __file__, "--ours", str(folder), "--method", options.method]
        command += ["--model", str(options.model), "--steps", str(options.steps)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    else:
        command, environment = plain(folder, lines, options, is_quick="quick" in side)
        temporary = environment["TMPDIR"]
    times: list[float] = []
    started = time.perf_counter()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
        while process.poll() is None:
            count = lines.read_bytes().count(b"\n") if lines.exists() else 0
            times += [time.perf_counter() - started] * (count - len(times))
            if time.perf_counter() - started > PATIENCE_S:
                process.kill()
            time.sleep(0.02)
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
    if len(times) < options.steps:
        sys.exit(f"{side} ended with {process.returncode} after {len(times)} steps:\n{tail(folder)}")
    return times[: options.steps]


def tail(folder: Path) -> str:
    files = [folder / "output", *folder.glob("verl.log")]
    return "\n".join("\n".join(file.read_text(errors="replace").splitlines()[-40:]) for file in files)


def recipe(options: argparse.Namespace) -> Any:
    from trainers.recipe import Algorithm, Data, Model, Recipe, Selection

    return Recipe(
        trainer="verl",
        algorithm=Algorithm(name="grpo", clip_low=0.2, clip_high=0.2, kl_coef=0.001, loss_mean="sequence"),
        selection=Selection(**METHODS[options.method]),
        model=Model(path="builtin:arithmetic-tiny"),
        data=Data(name="arithmetic_train", template="chat", max_prompt_tokens=32, max_response_tokens=RESPONSE_TOKENS),
        steps=options.steps,
        prompts_per_step=PROMPTS,
        group_size=GROUP,
        mini_batch_prompts=PROMPTS,
        learning_rate=1e-6,  # so that the lengths stay what they are
        update="dense",
    )


def train_job(folder: Path, options: argparse.Namespace) -> Any:
    from trainers.api import TrainJob
    from trainers.recipe import Resources

    return TrainJob(
        recipe=recipe(options),
        seed=0,
        resources=Resources(num_cpus=2, sample_batch_sequences=256, checkpoint_every=10**6),
        model_folder=options.model,
        checkpoint_folder=folder / "checkpoints",
        attempt_folder=folder,
    )


def run_ours(folder: Path, options: argparse.Namespace) -> None:
    from trainers.verl.launch.launch import VerlTrainer

    VerlTrainer().train(train_job(folder, options))


def plain(
    folder: Path, lines: Path, options: argparse.Namespace, *, is_quick: bool
) -> tuple[list[str], dict[str, str]]:
    """Command and environment of `python -m verl.trainer.main_ppo` with our configuration but for what is ours."""
    from trainers.verl.launch.job import VerlJob
    from trainers.verl.launch.overrides import overrides
    from trainers.verl.launch.prompts import write_prompts
    from trainers.verl.processes.processes import environment

    job = train_job(folder, options)
    prepared = VerlJob(
        recipe=job.recipe,
        resources=job.resources,
        seed=0,
        token=os.urandom(4).hex(),
        model_folder=options.model,
        checkpoint_folder=folder / "checkpoints",
        attempt_folder=folder,
        data_file=folder / "prompts.parquet",
        resume_from=None,
    )
    write_prompts(job, prepared.data_file)
    prepared.temporary_folder.mkdir()
    changed = PEERS | (QUICK if is_quick else {})
    kept = [
        word
        for word in overrides(prepared)
        if not word.startswith(OURS_ALONE) and word.partition("=")[0] not in changed
    ]
    told = {
        **environment(prepared, dict(os.environ)),
        "VERL_USE_EXTERNAL_MODULES": "peer_verl",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
        "VERL_FILE_LOGGER_PATH": str(lines),
    }
    return [sys.executable, "-m", "verl.trainer.main_ppo", *kept, *(f"{k}={v}" for k, v in changed.items())], told


if __name__ == "__main__":
    main()
