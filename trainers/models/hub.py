"""Models of the Hugging Face hub: found in its cache on this machine, or fetched into it.

What is fetched is shared with everything else that uses that cache (HF_HOME). A fetch that was killed goes on with the
files that it had not finished.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from eval.background import repeated
from eval.errors import ModelError
from eval.model_folder import FolderDigests, check_folder, folder_digests

HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What of a repository is fetched, and counts for its digest: no second copy of the weights, no documents."""

OnBytes = Callable[[int, int], None]
"""Told how many bytes are here, and how many there will be."""

_POLL_S = 1.0
_LEFTOVER_S = 600.0
"""A partial file that has not grown for so long belongs to a process that was killed."""


def find_model(hub_id: str, revision: str | None) -> Path | None:
    """The folder of a model that is whole in the hub's cache, or None; asks no network.

    Args:
        hub_id: `owner/name`.
        revision: a branch, tag or commit; None is `main`, as this machine last saw it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(hub_id, revision=revision, allow_patterns=[*HUB_FILES], local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return Path(found) if _is_whole(Path(found)) else None


def fetch_model(
    hub_id: str,
    revision: str | None,
    *,
    on_progress: Callable[[str], None] = lambda line: None,
    on_bytes: OnBytes = lambda done, total: None,
) -> Path:
    """Download a model into the hub's cache and return its folder, which is named by its commit.

    Raises:
        ModelError: no such model or revision, no permission, no network, no room, or files that are no model.
    """
    import httpx
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name = model_name(hub_id, revision)
    try:
        info = HfApi().model_info(hub_id, revision=revision, files_metadata=True)
        sizes = {
            file.lfs.sha256 if file.lfs is not None else str(file.blob_id): file.size or 0
            for file in info.siblings or ()
            if any(fnmatch(file.rfilename, pattern) for pattern in HUB_FILES)
        }
        cache = Path(constants.HF_HUB_CACHE)
        blobs = cache / f"models--{hub_id.replace('/', '--')}" / "blobs"
        _remove_leftovers(blobs)
        _check_room(cache, sum(sizes.values()) - _num_bytes_here(blobs, sizes, since=time.time()), name)
        on_progress(f"fetching {name}, {sum(sizes.values()) / 1e6:,.0f} MB, into {cache}")
        with _watched(blobs, sizes, on_bytes):
            folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=[*HUB_FILES]))
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise ModelError(
            f"cannot fetch {name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
            where="model.path",
            fix="check the id, the revision, the network and HF_TOKEN, or give the path of a local folder",
        ) from error
    check_folder(folder)
    return folder


def hub_digests(folder: Path) -> FolderDigests:
    """The content digests of a model in the hub's cache, whatever else of the repository was fetched beside it."""
    return folder_digests(folder, patterns=HUB_FILES)


def model_name(hub_id: str, revision: str | None) -> str:
    """`owner/name@revision`: how messages and digests call it."""
    return f"{hub_id}@{revision or 'main'}"


def _is_whole(folder: Path) -> bool:
    """Whether no shard that the folder's index names is missing; the hub's own word is asked before."""
    try:
        check_folder(folder)
    except ModelError:
        return False
    shards = set[str]()
    for index in folder.glob("*.safetensors.index.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            shards |= set(json.loads(index.read_text())["weight_map"].values())
    return all((folder / shard).exists() for shard in shards)


def _check_room(cache: Path, num_bytes: int, name: str) -> None:
    folder = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ModelError(
            f"{name} needs {num_bytes / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free",
            where=str(cache),
            fix="free some space, or set HF_HOME to a folder on a larger disk",
        )


@contextlib.contextmanager
def _watched(blobs: Path, sizes: Mapping[str, int], on_bytes: OnBytes) -> Iterator[None]:
    """Say from a thread, once a second, how much is here; the client's own bars speak to terminals alone."""
    since, total = time.time(), sum(sizes.values())

    def watch() -> None:
        on_bytes(_num_bytes_here(blobs, sizes, since=since), total)

    with repeated(watch, every_s=_POLL_S, name="fetch"):
        yield
    on_bytes(total, total)


def _num_bytes_here(blobs: Path, sizes: Mapping[str, int], *, since: float) -> int:
    """Bytes of the wanted files in the cache, where they lie by etag; partial files count that grew since then."""
    here = dict.fromkeys(sizes, 0)
    for file in blobs.glob("*"):
        etag = file.name.partition(".")[0]
        with contextlib.suppress(OSError):  # renamed since it was listed
            status = file.stat()
            if etag in here and (file.name == etag or status.st_mtime >= since):
                here[etag] = max(here[etag], min(status.st_size, sizes[etag]))
    return sum(here.values())


def _remove_leftovers(blobs: Path) -> None:
    """Delete partial files of killed fetches: the client gives each attempt a name of its own and never comes back."""
    for file in blobs.glob("*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _LEFTOVER_S:
                file.unlink()
