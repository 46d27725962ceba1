"""Names of models to folders: `builtin:…` is built here, a folder is taken as it is, a hub id is fetched.

Light at import: planning asks for digests of thousands of trials.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from eval.errors import ModelError, did_you_mean
from eval.model_folder import FolderDigests, OnBytes, check_folder, folder_digests
from trainers.models.tiny_spec import ARITHMETIC_TINY, TinySpec
from trainers.recipe import Model

_BUILTIN = "builtin:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

BUILTINS: dict[str, TinySpec] = {"builtin:arithmetic-tiny": ARITHMETIC_TINY}


def model_digest(model: Model) -> str:
    """Return what identifies a model's content: its build specification, its files, or `id@revision`.

    A hub id without a revision counts as `id@main`: pin `model.revision` where the repository may move.

    Raises:
        ModelError: unknown builtin, missing or incomplete folder, or neither a folder nor a hub id.
    """
    return model_digests(model).digest


def model_digests(model: Model, *, on_bytes: OnBytes = lambda done, total: None) -> FolderDigests:
    """Return `model_digest`, and what earlier versions called the same model.

    Args:
        model: what the recipe names.
        on_bytes: told of progress while a folder is read for the first time.

    Raises:
        ModelError: as `model_digest`.
    """
    if Path(model.path).is_dir() and not model.path.startswith(_BUILTIN):
        return folder_digests(Path(model.path), on_bytes=on_bytes)
    if model.path.startswith(_BUILTIN):
        named = _builtin(model.path).digest
    else:
        _check_no_folder_meant(model)
        named = f"{checked_hub_id(model.path)}@{model.revision or 'main'}"
    return FolderDigests(digest=named, former=named)


def is_of_hub(model: Model) -> bool:
    """Whether a model is neither built here nor a folder of this machine."""
    return not model.path.startswith(_BUILTIN) and not Path(model.path).is_dir()


def resolve(
    model: Model,
    *,
    cache_folder: Path,
    commit: str | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Return the model as a Hugging Face folder, building or fetching it once.

    Args:
        model: what the recipe names.
        cache_folder: where built models are kept; hub models go to the hub's own cache.
        commit: of a hub model, exactly this commit instead of what its revision stands for now.
        on_progress: told a line at a time while work is done; silent where everything is there.
        on_bytes: told of bytes that are here and bytes that are wanted while a hub model comes.

    Raises:
        ModelError: it cannot be found, built or fetched.
    """
    if model.path.startswith(_BUILTIN):
        from trainers.models.tiny import build_once

        return build_once(_builtin(model.path), cache_folder=cache_folder, on_progress=on_progress)
    if Path(model.path).is_dir():
        check_folder(Path(model.path))
        return Path(model.path)
    from trainers.models.hub import fetch_model, find_model

    hub_id, revision = checked_hub_id(model.path), commit or model.revision
    return find_model(hub_id, revision) or fetch_model(hub_id, revision, on_progress=on_progress, on_bytes=on_bytes)


def _builtin(path: str) -> TinySpec:
    if path not in BUILTINS:
        hint = did_you_mean(path, BUILTINS)
        raise ModelError(
            f"unknown built-in model {path!r}", where="model.path", fix=f"{hint}known: {', '.join(BUILTINS)}"
        )
    return BUILTINS[path]


def _check_no_folder_meant(model: Model) -> None:
    """Raise ModelError for `models/mine` where `models/` has no `mine`; a revision says that a hub is meant."""
    path = Path(model.path)
    if model.revision is None and path.parent != Path() and path.parent.is_dir():
        raise ModelError(
            f"there is no folder {model.path}, though there is {path.parent}",
            where="model.path",
            fix="correct the path; if the hub's model of that name is meant, say model.revision=main",
        )


def checked_hub_id(path: str) -> str:
    """The path, if it has the form `owner/name`.

    Raises:
        ModelError: it has not.
    """
    if _HUB_ID.fullmatch(path):
        return path
    raise ModelError(
        f"{path!r} is neither a folder nor the id of a model on the Hugging Face hub",
        where="model.path",
        fix=did_you_mean(path, BUILTINS).strip() or "correct the path, or write the id as owner/name",
    )
