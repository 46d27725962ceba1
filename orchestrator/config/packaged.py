"""The experiments that come with orch: where they are, how a name leads to one, and what each says of itself.

`experiments/` stands at the top of a checkout; a wheel holds it as `orchestrator/experiments` (see setup.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from eval.errors import did_you_mean
from orchestrator.errors import SpecError

NAME = "experiments"


def _packaged() -> Path:
    package = Path(str(files("orchestrator")))
    inside = package / NAME
    return inside if inside.is_dir() else package.parent / NAME


PACKAGED = _packaged()
"""The folder of the experiments and groups that come with orch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One experiment file, as far as it can be read without composing it."""

    name: str
    file: Path
    title: str
    """The comment that it begins with."""
    groups: dict[str, str]
    """Group → choice, as its `defaults:` states them."""
    tables: tuple[str, ...]
    """Printed tables that its numbers are put beside."""


def find_experiment(file: Path) -> Path:
    """The file itself; else, for `NAME` and `NAME.yaml`, that of `experiments/` here, else the one of orch's own.

    A folder of the user's own hides the packaged one for a path into it: what it lacks is missing.
    """
    is_bare = file.parent == Path()
    if file.is_file() or not (is_bare or (file.parent == Path(NAME) and not file.parent.is_dir())):
        return file
    name = file.with_suffix(".yaml").name
    found = (one for one in (Path(name), Path(NAME) / name, PACKAGED / name) if one.is_file())
    return next(found, file) if file.suffix in ("", ".yaml") else file


def described(folder: Path) -> list[Described]:
    """The experiments of a folder, by name; files that do not read as one are left out."""
    return [one for file in sorted(folder.glob("*.yaml")) if (one := _describe(file)) is not None]


def find_twin(file: Path, tables: Sequence[str]) -> Path | None:
    """What compares the same arms without a GPU: `NAME_tiny`, else an experiment beside the same printed tables.

    The user's own folder is looked through first; None where there is neither.
    """
    folders = dict.fromkeys(folder for folder in (file.resolve().parent, PACKAGED) if folder.is_dir())
    tiny = f"{file.stem.removesuffix('_small')}_tiny.yaml"
    by_name = (one for folder in folders if (one := _describe(folder / tiny)) is not None)
    by_tables = (one for folder in folders for one in described(folder) if tables and one.tables == tuple(tables))
    return next((one.file for one in chain(by_name, by_tables) if not _needs_gpu(one)), None)


def shown_path(file: Path) -> str:
    """A file as a user types it here: relative where it lies below, `experiments/<name>.yaml` where that finds it."""
    if file.resolve().is_relative_to(Path.cwd()):
        return str(file.resolve().relative_to(Path.cwd()))
    for name in (Path(NAME) / file.name, Path(file.name)):
        if find_experiment(name).resolve() == file.resolve():
            return str(name)
    return str(file)


def choices(folder: Path) -> dict[str, tuple[str, ...]]:
    """Group → its choices, of a folder of experiments."""
    groups = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {group.name: tuple(sorted(file.stem for file in group.glob("*.yaml"))) for group in groups}
    return {group: names for group, names in found.items() if names}


def copy_experiments(folder: Path, names: Sequence[str]) -> list[Path]:
    """Copy experiments, with all groups, into a new folder, and return the experiment files there.

    Args:
        folder: made here; it may be there and empty.
        names: which experiments; all without any.

    Raises:
        SpecError: the folder holds something, or an experiment is unknown.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(
            f"{folder} is there and not empty", where=str(folder), fix="name a new folder: nothing is overwritten"
        )
    chosen = list(_with_bases(names or [one.name for one in described(PACKAGED)]))
    folder.mkdir(parents=True, exist_ok=True)
    for group in choices(PACKAGED):
        shutil.copytree(PACKAGED / group, folder / group)
    return [Path(shutil.copyfile(PACKAGED / f"{name}.yaml", folder / f"{name}.yaml")) for name in chosen]


def _with_bases(names: Sequence[str]) -> Iterator[str]:
    """The names, each once, and the experiments that theirs build on."""
    known = {one.name: one for one in described(PACKAGED)}
    left, seen = list(names), set[str]()
    while left:
        name = left.pop(0).removesuffix(".yaml")
        if name not in known:
            raise SpecError(
                f"no experiment {name} comes with orch",
                where="orch init",
                fix=f"{did_you_mean(name, known)}`orch experiments` lists them",
            )
        if name not in seen:
            seen.add(name)
            yield name
            bases = _read(known[name].file).get("defaults") or []
            left += [base for base in bases if isinstance(base, str) and base in known]


def _describe(file: Path) -> Described | None:
    content = _read(file)
    if not content:
        return None
    defaults = [entry for entry in content.get("defaults") or [] if isinstance(entry, dict)]
    published = content.get("published")
    return Described(
        name=str(content.get("name", file.stem)),
        file=file,
        title=_first_comment(file.read_text()),
        groups={str(group).removeprefix("override "): str(name) for entry in defaults for group, name in entry.items()},
        tables=tuple(published.get("tables") or ()) if isinstance(published, dict) else (),
    )


def _needs_gpu(one: Described) -> bool:
    places = [folder / "cluster" / f"{one.groups.get('cluster')}.yaml" for folder in (one.file.parent, PACKAGED)]
    group = next((_read(place) for place in places if place.is_file()), {})
    own = _read(one.file).get("cluster")
    return bool({**group, **(own if isinstance(own, dict) else {})}.get("num_gpus"))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _first_comment(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
