"""`orch eval`: avg@K of a model, a hub id or a trial on any benchmarks; stopped and started again it goes on."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import MLFLOW, RUNS, AsJson, CacheFolder, DataFolder, StoreFolder, TrackingUri

if TYPE_CHECKING:
    from eval.api import Sampler, SamplingSettings
    from eval.job import EvalJob
    from eval.progress import BenchmarkProgress, EvalProgress
    from eval.summary import Summary
    from orchestrator.evaluations.targets import Target
    from orchestrator.store.store import Store

LINE_INTERVAL_S = 15.0


def evaluate(
    model: Annotated[str, typer.Argument(help="A trial id, a model folder, a hub id, or builtin:NAME.")],
    bench: Annotated[str, typer.Option(help="Benchmarks, separated by commas; a .jsonl path is one too.")],
    k: Annotated[int, typer.Option("--k", min=1, help="Samples a question.")] = 16,
    engine: Annotated[Literal["hf", "vllm", "openai"], typer.Option(help="What draws the samples.")] = "hf",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each benchmark.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 1.0,
    top_p: Annotated[float, typer.Option(help="Above 0; 1 leaves every token in.")] = 1.0,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Default: the benchmark's.")] = None,
    template: Annotated[str | None, typer.Option(help="Prompt template. Default: the benchmark's.")] = None,
    seed: Annotated[int, typer.Option(help="Sample seeds derive from it.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: cuda where there is one.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="auto: the model's own on a GPU, float32 on a CPU."),
    ] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Sequences decoded at once.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that sample. Default: one for the GPUs of each engine.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="For --engine vllm: GPUs that hold one model.")] = 1,
    engine_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For --engine vllm: any argument of vLLM; repeatable.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="For --engine openai: the endpoint, up to /v1.")] = None,
    read_timeout: Annotated[
        float, typer.Option(min=0.1, help="For --engine openai: seconds of silence before a request is sent again.")
    ] = 600.0,
    total_timeout: Annotated[
        float, typer.Option(min=0.1, help="For --engine openai: seconds that one try may take in all.")
    ] = 3600.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set stored samples aside and draw all anew.")] = False,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    cache_dir: CacheFolder = None,
    tracking_uri: TrackingUri = MLFLOW,
    mlflow: Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Log the scores to MLflow.")] = True,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model; samples already drawn are never drawn again."""
    from eval.engines.vllm_arguments import read_arguments
    from orchestrator.cli.eval_engine import EngineOptions, choose_engine
    from orchestrator.cli.terminal import print_json
    from orchestrator.store.store import Store

    wanted = _settings(
        bench, k=k, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, template=template, seed=seed
    )
    options = EngineOptions(
        engine=engine,
        device=device,
        dtype=dtype,
        batch=batch,
        num_workers=workers,
        tensor_parallel=tensor_parallel,
        engine_args=read_arguments(engine_arg or []),
        base_url=base_url,
        read_timeout_s=read_timeout,
        total_timeout_s=total_timeout,
    )
    runs = Store(store)
    chosen = choose_engine(options, model, runs, cache_folder=cache_dir or store / "models")
    target = chosen.target
    if max_new_tokens is None:
        wanted = chosen.fitted(wanted, data_dir)
    jobs = _jobs(wanted, target, data_dir=data_dir, limit=limit, is_fresh=fresh)
    with contextlib.closing(chosen.open()) as sampler:
        keyed = _evaluate(jobs, sampler, target, runs, data_dir=data_dir)
    if mlflow and target.trial_id is None:
        _log_to_mlflow(target, keyed, tracking_uri)
    if as_json:
        print_json(list(keyed.values()))
    else:
        _print_table(target, list(keyed.values()))
        typer.echo(f"samples: {target.eval_folder}\nnext: {_next(target, model, list(keyed.values()), runs)}")


def _next(target: Target, model: str, summaries: list[Summary], runs: Store) -> str:
    """A comparison with what else was evaluated alike, as a command to paste; else one to be completed."""
    from orchestrator.evaluations.sides import evaluated_alike

    scores = [summary.score for summary in summaries]
    # An endpoint's name alone may name several models, its id only one.
    first = target.owner_id if target.endpoint is not None else model
    words = ["orch", "compare", first, evaluated_alike(target, scores, runs) or "OTHER"]
    words += ["--bench", ",".join(score.benchmark for score in scores), "--store", str(runs.root)]
    return shlex.join(words)


def _settings(
    bench: str,
    *,
    k: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int | None,
    template: str | None,
    seed: int,
) -> dict[str, SamplingSettings]:
    """Return name → how it is sampled; every name is checked before a model is opened."""
    from eval.api import SamplingSettings
    from eval.benchmarks.registry import declared

    found = {}
    for name in dict.fromkeys(one for one in bench.split(",") if one):
        declaration = None if name.endswith(".jsonl") else declared(name)
        found[name] = SamplingSettings(
            num_samples=k,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens or (declaration.max_new_tokens if declaration else 4096),
            template=template or (declaration.template if declaration else "qwen-math"),
            stop=declaration.stop if declaration else (),
            seed=seed,
        )
    return found


def _jobs(
    wanted: dict[str, SamplingSettings], target: Target, *, data_dir: Path | None, limit: int | None, is_fresh: bool
) -> dict[str, EvalJob]:
    """Return the score's key → what is to be evaluated for it; refuses damaged sets before a model is opened."""
    from eval.benchmarks.registry import load
    from eval.job import EvalJob, check_jobs

    jobs = []
    for name, settings in wanted.items():
        key = target.key(load(name, data_folder=data_dir, limit=limit).digest, settings, limit)
        folder = target.eval_folder / key
        jobs.append(EvalJob(benchmark=name, settings=settings, folder=folder, limit=limit, is_fresh=is_fresh))
    check_jobs(jobs)
    return {job.folder.name: job for job in jobs}


def _evaluate(
    jobs: dict[str, EvalJob], sampler: Sampler, target: Target, runs: Store, *, data_dir: Path | None
) -> dict[str, Summary]:
    """Return key → summary, in the order asked for; each score is kept as soon as it is there."""
    from eval.benchmarks.registry import load
    from eval.runner import evaluate_all
    from eval.samples import FILE, read_samples
    from eval.summary import summarise
    from orchestrator.evaluations.targets import keep_score

    keys, found = {job: key for key, job in jobs.items()}, {}
    with _progress() as on_progress:
        for job, score in evaluate_all(list(keys), sampler, data_folder=data_dir, on_progress=on_progress):
            keep_score(target, score, key=keys[job], limit=job.limit, store=runs)
            problems = load(job.benchmark, data_folder=data_dir, limit=job.limit).problems
            found[keys[job]] = summarise(score, list(read_samples(job.folder / FILE)), problems)
    return {key: found[key] for key in jobs}


def _log_to_mlflow(target: Target, keyed: dict[str, Summary], tracking_uri: str) -> None:
    """Log what is new; a dead server costs a line on stderr, never the result."""
    from orchestrator.errors import TrackingError
    from orchestrator.tracking.evaluations import log_scores
    from orchestrator.tracking.uri import absolute_uri

    scores = {key: summary.score for key, summary in keyed.items()}
    files = {key: target.eval_folder / key / "score.json" for key in keyed}
    try:
        log_scores(target, scores, files=files, tracking_uri=absolute_uri(tracking_uri))
    except TrackingError as error:
        typer.echo(f"not logged to MLflow: {error.what}; run the same command again to log it", err=True)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[EvalProgress], None]]:
    """Show a bar for each benchmark on a terminal, a line now and then elsewhere; always on stderr."""
    if not sys.stderr.isatty():
        yield _LineProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = [bars.add_task("all", total=None, facts="")]

        def show(done: EvalProgress) -> None:
            tasks.extend(bars.add_task(part.benchmark, facts="") for part in done.parts[len(tasks) - 1 :])
            bars.update(tasks[0], total=done.num_total, completed=done.num_done, facts=_facts(done))
            for task, part in zip(tasks[1:], done.parts, strict=True):
                bars.update(task, total=part.num_total, completed=part.num_done, facts=_accuracy(part))

        yield show


class _LineProgress:
    """A line at the start, every quarter of a minute, and at the end."""

    def __init__(self) -> None:
        self._last_s, self._last_done = 0.0, -1

    def __call__(self, done: EvalProgress) -> None:
        is_last = done.num_done == done.num_total and done.num_done != self._last_done
        self._last_done = done.num_done
        if is_last or time.monotonic() - self._last_s > LINE_INTERVAL_S:
            self._last_s = time.monotonic()
            parts = "; ".join(
                f"{part.benchmark} {part.num_done}/{part.num_total} {_accuracy(part)}" for part in done.parts
            )
            typer.echo(f"{_facts(done)}  ({parts})", err=True)


def _facts(done: EvalProgress) -> str:
    reused = f", {done.num_reused} from the store" if done.num_reused else ""
    eta = f", {done.eta_s:.0f} s left" if done.eta_s else ""
    return f"{done.num_done}/{done.num_total} samples{reused}, {done.samples_per_s:.1f}/s{eta}"


def _accuracy(part: BenchmarkProgress) -> str:
    return f"{part.num_correct / part.num_done:.1%} right" if part.num_done else "–"


_COLUMNS = (
    "benchmark",
    "n×K",
    "avg@K ± SE (gen.)",
    "95 %",
    "pass@K",
    "maj@K",
    "clip",
    "no box",
    "tokens ✓/✗",
    "loops",
)


def _print_table(target: Target, summaries: list[Summary]) -> None:
    from orchestrator.cli.terminal import print_rows

    print_rows(_COLUMNS, [_cells(summary) for summary in summaries], above=[f"{target.label} (percent)"])
    for summary in summaries:
        score, settings = summary.score, summary.settings
        typer.secho(
            f"{score.benchmark}: T={settings.temperature:g}, top-p {settings.top_p:g}, template {settings.template}, "
            f"≤{settings.max_new_tokens} tokens, data {score.benchmark_digest[:12]}, grader {score.grader_version}, "
            f"{score.engine}, {score.elapsed_s:.0f} s",
            dim=True,
        )
        if doubts := _doubts(summary):
            typer.secho(f"{score.benchmark}: {doubts}, counted as wrong", fg="yellow")
        if summary.reasoning_rate:
            share = f"{100 * summary.reasoning_rate:.1f} % of the completions"
            typer.secho(f"{score.benchmark}: {share} had no content: their reasoning was graded", fg="yellow")
        if settings.temperature == 0 and score.num_samples > 1:
            typer.secho(
                f"{score.benchmark}: T=0, so each question was drawn once and counts {score.num_samples} times",
                dim=True,
            )


def _doubts(summary: Summary) -> str:
    """Shares of completions that came to no verdict; empty where all did."""
    found = (
        ("of the gradings given up for time or memory", summary.timeout_rate),
        ("of the gradings left undecided", summary.undecided_rate),
        ("of the requests left unanswered by the endpoint", summary.failed_rate),
    )
    return ", ".join(f"{100 * share:.1f} % {what}" for what, share in found if share)


def _cells(summary: Summary) -> tuple[str, ...]:
    score = summary.score
    generation = f" ({100 * score.generation_error:.1f})" if score.generation_error is not None else ""
    bounds = f"{100 * summary.interval.low:.1f}–{100 * summary.interval.high:.1f}" if summary.interval else "–"
    lengths = "/".join("–" if v is None else f"{v:.0f}" for v in (summary.mean_tokens_right, summary.mean_tokens_wrong))
    return (
        score.benchmark,
        f"{score.num_problems}×{score.num_samples}",
        f"{100 * score.avg:.1f} ± {100 * score.standard_error:.1f}{generation}",
        bounds,
        " ".join(f"{k}:{100 * value:.1f}" for k, value in summary.pass_at.items() if k > 1) or "–",
        f"{100 * summary.majority:.1f}",
        f"{100 * score.clip_rate:.1f}",
        f"{100 * score.no_box_rate:.1f}",
        lengths,
        f"{100 * summary.loop_rate:.1f}",
    )
