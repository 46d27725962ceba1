"""What trials need from outside: training sets, benchmarks and models. Which are here, and making them so.

    planned trials ─ inputs_of ─▶ Input… ─ make_ready ─▶ on disk, and as this runs folder first saw it

Sets are looked for in the data folder and in the cache of fetched sets, models in the hub's cache; both caches serve
all runs folders of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks import registry
from eval.benchmarks.declaration import verify
from eval.benchmarks.registry import NAMES, declared, find_file
from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.inputs import SeenInput, SeenInputs
from trainers.models.resolve import checked_hub_id, is_of_hub, resolve
from trainers.recipe import Model

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One set or model."""

    name: str
    """Of a set; for a model its path, with the revision where it comes from a hub."""
    model: Model | None = None
    """None: a set."""

    @property
    def is_of_hub(self) -> bool:
        """Whether its content lies behind a name: not made here, and no folder or file that the plan has read."""
        return self.model is None or is_of_hub(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Callbacks on the preparation of inputs."""

    on_line: Callable[[str], None] = lambda line: None
    on_bytes: OnBytes = lambda done, total: None
    """Bytes of the present input that are here, and bytes that are wanted."""


SILENT = Progress()
"""Reports to no one."""


def inputs_of(trials: Sequence[PlannedTrial]) -> tuple[Input, ...]:
    """The sets and models of some trials, each once, sets first; a user's own files and folders are none."""
    sets = [planned.trial.recipe.data.name for planned in trials if planned.trial.recipe is not None]
    sets += [name for evaluation in dict.fromkeys(one.evaluation for one in trials) for name in evaluation.benchmarks]
    models = dict.fromkeys(planned.trial.model for planned in trials)
    return (
        *(Input(name=name) for name in dict.fromkeys(sets) if name in NAMES and declared(name).file),
        *{one.name: one for model in models if (one := _input_of(model)) is not None}.values(),
    )


def missing_inputs(inputs: Sequence[Input], seen: SeenInputs, *, data_folder: Path | None) -> tuple[Input, ...]:
    """Those that would have to be fetched; no network is asked."""
    return tuple(one for one in inputs if one.is_of_hub and not _is_here(one, seen, data_folder))


def check_reachable(missing: Sequence[Input], *, why_no_hub: Callable[[], str], experiment: str) -> None:
    """Refuse to begin where something has to be fetched and the hub cannot be asked; all of it in one list.

    Raises:
        OrchError: what is missing, each with the command that fetches it and what to give instead.
    """
    reason = why_no_hub() if missing else ""
    if not reason:
        return
    width = max(len(one.name) for one in missing)
    lines = [f"  {one.name:<{width}}  {how_to_bring(one)}" for one in missing]
    raise OrchError(
        f"{len(missing)} inputs of {experiment} are not on this machine, and {reason}:\n" + "\n".join(lines),
        where=experiment,
        fix="run these commands where there is a network and bring ~/.cache/orch/data and ~/.cache/huggingface here "
        "(HF_HOME), or give the files by --data-dir; then run the same command again",
    )


def how_to_bring(one: Input) -> str:
    """The command that fetches an input on a machine with a network, or the file to give."""
    if one.model is not None:
        revision = f" --revision {one.model.revision}" if one.model.revision else ""
        return f"hf download {one.model.path}{revision}"
    declaration = declared(one.name)
    own = f"{declaration.file} ({declaration.count} rows) in a folder given by --data-dir"
    return f"orch data fetch {one.name}, or {own}" if declaration.hub else own


def make_ready(
    one: Input,
    seen: SeenInputs,
    *,
    data_folder: Path | None,
    cache_folder: Path,
    progress: Progress = SILENT,
) -> Path:
    """Make sure that an input is on this machine and what this runs folder first saw of it; its file or folder.

    Raises:
        OrchError: it cannot be fetched or built, or its content is another than declared or seen.
    """
    if one.model is None:
        return _ready_set(one.name, seen, data_folder, progress)
    return _ready_model(one.name, one.model, seen, cache_folder, progress)


def input_of_model(model: Model) -> Input:
    """A model as an input; a folder of the user's is one that is never missing."""
    return _input_of(model) or Input(name=model.path, model=model)


def _ready_set(name: str, seen: SeenInputs, data_folder: Path | None, progress: Progress) -> Path:
    declaration = declared(name)
    file, commits = find_file(declaration, data_folder), dict[str, str]()
    if file is None:
        from eval.benchmarks.hub import commits_of, fetch

        commits = {**seen.commits(name)} or commits_of(declaration)
        progress.on_line(f"fetching {name} from {declaration.origin or 'nowhere'}")
        file = fetch(declaration, registry.cache_folder(), commits=commits)
    digest = verify(declaration, registry.read_problems(declaration, file), where=str(file))
    found = SeenInput(name=name, kind="set", digest=digest, commits=commits)
    if seen.check(found, place=file):
        origin = "as declared" if declaration.digest else f"trusted on first use, kept in {seen.file(name)}"
        progress.on_line(f"{name}: {declaration.count} rows, sha256 {digest[:12]}…, {origin}")
    return file


def _ready_model(name: str, model: Model, seen: SeenInputs, cache: Path, progress: Progress) -> Path:
    if not is_of_hub(model):
        return resolve(model, cache_folder=cache, on_progress=progress.on_line)
    from trainers.models.hub import hub_digests

    hub_id = checked_hub_id(model.path)
    folder = resolve(
        model,
        cache_folder=cache,
        commit=seen.commits(name).get(hub_id),
        on_progress=progress.on_line,
        on_bytes=progress.on_bytes,
    )
    digests, commit = hub_digests(folder), folder.name
    digest = digests.digest
    found = SeenInput(name=name, kind="model", digest=digest, commits={hub_id: commit})
    if seen.check(found, place=folder.parents[1], former=digests.former):
        kept = f"trusted on first use, kept in {seen.file(name)}"
        progress.on_line(f"{name}: commit {commit[:12]}, sha256 {digest[:12]}…, {kept}")
    return folder


def _input_of(model: Model) -> Input | None:
    if not is_of_hub(model):
        return Input(name=model.path, model=model) if not Path(model.path).is_dir() else None
    return Input(name=f"{checked_hub_id(model.path)}@{model.revision or 'main'}", model=model)


def _is_here(one: Input, seen: SeenInputs, data_folder: Path | None) -> bool:
    if one.model is None:
        return find_file(declared(one.name), data_folder) is not None
    from trainers.models.hub import find_model

    commit = seen.commits(one.name).get(one.model.path)
    return find_model(one.model.path, commit or one.model.revision) is not None
