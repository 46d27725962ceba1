"""`orch diagnose`: what a trial's policy looks like to every selector, as figures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import RUNS, AsJson, CacheFolder, DataFolder, StoreFolder
from orchestrator.cli.terminal import print_json

if TYPE_CHECKING:
    from orchestrator.store.store import Store
    from trainers.lite.diagnose import Subject


def diagnose(
    trial: Annotated[str, typer.Argument(help="Trial id, or the beginning of one.")],
    at: Annotated[Literal["final", "base"], typer.Option(help="The trained policy, or the model it began from.")] = (
        "final"
    ),
    prompts: Annotated[int, typer.Option(min=1, help="Training prompts to sample a group for.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; STORE/TRIAL/diagnosis/AT without it.")
    ] = None,
    store: StoreFolder = RUNS,
    data_dir: DataFolder = None,
    cache_dir: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Draw what each selector picks of a trial's tokens: overlaps, places, signs, gradients, highlights."""
    import torch

    from orchestrator.store.store import Store

    runs = Store(store)
    trial_id = runs.complete_id(trial)
    torch.set_num_threads(threads)
    files = diagnose_trial(
        runs,
        trial_id,
        at=at,
        num_prompts=prompts,
        data_folder=data_dir,
        cache_folder=cache_dir or store / "models",
        output=output,
    )
    if as_json:
        print_json(files)
        return
    for file in files:
        typer.echo(file)


def diagnose_trial(
    store: Store,
    trial_id: str,
    *,
    at: Literal["final", "base"] = "final",
    num_prompts: int = 8,
    data_folder: Path | None,
    cache_folder: Path,
    output: Path | None = None,
) -> list[Path]:
    """Measure one policy and write its figures, to the trial's own folder by default; progress goes to stderr."""
    from dashboards.figures.diagnosis import write_figures
    from trainers.lite.diagnose import diagnose as measure

    subject = _subject(
        store, trial_id, at=at, num_prompts=num_prompts, data_folder=data_folder, cache_folder=cache_folder
    )
    found = measure(subject, on_progress=lambda line: typer.echo(line, err=True))
    folder = output or store.trial_folder(trial_id) / "diagnosis" / at
    return write_figures(found, folder, title=f"{trial_id} ({found.method}), {at} policy")


def _subject(
    store: Store, trial_id: str, *, at: str, num_prompts: int, data_folder: Path | None, cache_folder: Path
) -> Subject:
    from orchestrator.errors import OrchError
    from orchestrator.evaluations.targets import resolve_target
    from trainers.lite.diagnose import Subject
    from trainers.models.resolve import resolve

    trial = store.read(trial_id).trial
    if trial.recipe is None or trial.seed is None:
        raise OrchError(
            f"trial {trial_id} is a base model: it has no recipe to diagnose",
            where=str(store.trial_folder(trial_id)),
            fix="name a trained trial, with --at base for the model it began from; `orch status` lists them",
        )
    base_folder = resolve(trial.model, cache_folder=cache_folder, on_progress=lambda line: typer.echo(line, err=True))
    policy_folder = base_folder
    if at == "final":
        policy_folder = resolve_target(trial_id, store, cache_folder=cache_folder).open_model()
    return Subject(
        recipe=trial.recipe,
        seed=trial.seed,
        policy_folder=policy_folder,
        base_folder=base_folder,
        data_folder=data_folder,
        num_prompts=num_prompts,
    )
