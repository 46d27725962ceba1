"""A GRPO step of our lite trainer beside TRL's GRPOTrainer: same tiny model, prompts, batch, lengths, reward, device.

TRL lives in an environment of its own, `.venv-trl`, made on the first call. The two take turns, so that a busy machine
disturbs both; sampling and the rest (scoring and update) are printed apart, as wall and as CPU seconds a step. Two
prompt lengths: the smoke sweep's bare question (12 tokens), and the same with the system turn of GMTS (87 tokens).

    .venv/bin/python benchmarks/bench_trl.py --rounds 3 --steps 4
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-trl"
REQUIREMENTS = ["torch==2.13.0", "trl>=1,<2"]
PROMPTS, GROUP, RESPONSE_TOKENS, MICRO_BATCH = 16, 16, 48, 64
LEARNING_RATE = 1e-6
TEMPLATES = ["chat", "qwen-math"]
TARGET = 2.0

Seconds = dict[str, float]
"""sample, rest, step: wall; cpu_…: process CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=["ours", "trl"], help="run one side and print its steps (used by itself)")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "orch" / "models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="measured steps a round, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--template", choices=TEMPLATES, help="both where left out")
    parser.add_argument("--kl-coef", type=float, default=0.001, help="β on both sides; 0 loads no reference")
    options = parser.parse_args()
    if options.side:
        side = run_ours if options.side == "ours" else run_trl
        print("RESULT " + json.dumps(side(options.model, options.steps + 1, options.kl_coef, options.template)[1:]))
    else:
        from trainers.models.resolve import resolve
        from trainers.recipe import Model

        model = resolve(Model(path="builtin:arithmetic-tiny"), cache_folder=options.cache_dir, on_progress=print)
        make_environment()
        for template in TEMPLATES if options.template is None else [options.template]:
            compare(model, template, options)


def compare(model: Path, template: str, options: argparse.Namespace) -> None:
    found: dict[str, list[Seconds]] = {"ours": [], "trl": []}
    for _ in range(options.rounds):
        for side, python in (("ours", Path(sys.executable)), ("trl", ENVIRONMENT / "bin" / "python")):
            found[side] += measure(side, python, model, template, options)
    print(
        f"GRPO step, template {template}, {PROMPTS} prompts × {GROUP} responses of at most {RESPONSE_TOKENS} tokens, "
        f"β = {options.kl_coef}, "
        f"micro-batch {MICRO_BATCH}, {options.threads} thread(s); median (min to max) of n = {len(found['ours'])} steps"
    )
    for part in ("sample", "rest", "step", "cpu_sample", "cpu_rest", "cpu_step"):
        ours, trl = ([step[part] for step in found[side]] for side in ("ours", "trl"))
        print(f"{part:>10}: ours {spread(ours)}   TRL {spread(trl)}   ratio {median(trl) / median(ours):.2f}×")
    ratio = median(step["cpu_step"] for step in found["trl"]) / median(step["cpu_step"] for step in found["ours"])
    print(f"{'target met' if ratio >= TARGET else 'TARGET MISSED'}: {ratio:.2f}× in CPU time, at least {TARGET}×\n")


def spread(values: list[float]) -> str:
    return f"{median(values):6.3f} s ({min(values):.3f} to {max(values):.3f})"


def make_environment() -> None:
    ready = ENVIRONMENT / ".ready"
    if ready.exists():
        return
    print(f"installing {', '.join(REQUIREMENTS)} into {ENVIRONMENT.name} (once)")
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS], check=True)
    ready.touch()


def measure(side: str, python: Path, model: Path, template: str, options: argparse.Namespace) -> list[Seconds]:
    command = [str(python), __file__, "--side", side, "--model", str(model), "--steps", str(options.steps)]
    command += ["--kl-coef", str(options.kl_coef), "--template", template]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not results:
        sys.exit(f"the {side} side failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    steps: list[Seconds] = json.loads(results[-1].removeprefix("RESULT "))
    return steps


class Stopwatch:
    """Wall and CPU seconds of steps, and of the sampling inside them."""

    def __init__(self) -> None:
        self.steps: list[Seconds] = []
        self.sampling = [0.0, 0.0]
        self.started = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        """Return the wall and the CPU clock."""
        return time.perf_counter(), time.process_time()

    def timed(self, sample: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose time counts as sampling."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = self.now()
            result = sample(*args, **kwargs)
            for place, (end, start) in enumerate(zip(self.now(), before, strict=True)):
                self.sampling[place] += end - start
            return result

        return wrapped

    def end_step(self) -> None:
        """Close a step and begin the next."""
        step = [end - start for end, start in zip(self.now(), self.started, strict=True)]
        self.steps.append(
            {
                "sample": self.sampling[0],
                "rest": step[0] - self.sampling[0],
                "step": step[0],
                "cpu_sample": self.sampling[1],
                "cpu_rest": step[1] - self.sampling[1],
                "cpu_step": step[1],
            }
        )
        self.sampling = [0.0, 0.0]
        self.started = self.now()


def run_ours(model: Path, num_steps: int, kl_coef: float, template: str) -> list[Seconds]:
    from trainers.api import TrainJob
    from trainers.lite import rollout
    from trainers.lite.trainer import LiteTrainer
    from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

    watch = Stopwatch()
    generate = rollout.generate
    rollout.generate = watch.timed(lambda *args, **kwargs: list(generate(*args, **kwargs)))
    recipe = Recipe(
        algorithm=Algorithm(name="grpo", clip_low=0.2, clip_high=0.2, loss_mean="sequence", kl_coef=kl_coef),
        selection=Selection(method="full"),
        model=Model(path=str(model)),
        data=Data(
            name="arithmetic_train", template=template, max_prompt_tokens=128, max_response_tokens=RESPONSE_TOKENS
        ),
        steps=num_steps,
        prompts_per_step=PROMPTS,
        group_size=GROUP,
        mini_batch_prompts=PROMPTS,
        learning_rate=LEARNING_RATE,
    )
    with tempfile.TemporaryDirectory() as folder:
        job = TrainJob(
            recipe=recipe,
            seed=0,
            resources=Resources(
                num_cpus=int(os.environ["OMP_NUM_THREADS"]),
                micro_batch_sequences=MICRO_BATCH,
                checkpoint_every=num_steps,
            ),
            model_folder=model,
            checkpoint_folder=Path(folder) / "checkpoints",
            attempt_folder=Path(folder) / "attempt",
            on_step=lambda metrics: watch.end_step(),
        )
        LiteTrainer().train(job)
    return watch.steps


def run_trl(model: Path, num_steps: int, kl_coef: float, template: str) -> list[Seconds]:
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from eval.benchmarks.arithmetic import problems
    from eval.grading import grade_many
    from eval.templates import messages

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    watch = Stopwatch()
    by_id = {problem.id: problem for problem in problems("train")[:512]}
    rows = [{"prompt": messages(template, problem.question), "problem": name} for name, problem in by_id.items()]

    def reward(completions: list[Any], problem: list[str], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return [
            float(g.is_correct) for g in grade_many((t, by_id[name]) for t, name in zip(texts, problem, strict=True))
        ]

    class EndOfStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            """Close the stopwatch's step."""
            watch.end_step()

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=str(model),
            reward_funcs=reward,
            train_dataset=Dataset.from_list(rows),
            callbacks=[EndOfStep()],
            args=GRPOConfig(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=MICRO_BATCH,
                gradient_accumulation_steps=PROMPTS * GROUP // MICRO_BATCH,
                num_generations=GROUP,
                max_completion_length=RESPONSE_TOKENS,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                beta=kl_coef,
                loss_type="grpo",
                temperature=1.0,
                top_k=0,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                model_init_kwargs={"dtype": "float32"},
            ),
        )
        trainer._generate_single_turn = watch.timed(trainer._generate_single_turn)
        trainer.train()
    return watch.steps


if __name__ == "__main__":
    main()
