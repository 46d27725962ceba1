"""The right to work on what a lock file stands for: a lock of the operating system, and a lease beside it.

The lock ends with its process, and is quick; the lease (`lease`) holds where the lock does not reach.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.store.files import explained
from orchestrator.store.lease import Beat, Lease, Observer, take, this_process


class Locks:
    """What one process claims, and what it has seen of the claims of others."""

    def __init__(self) -> None:
        """Nothing is claimed."""
        self._observers: dict[Path, Observer] = {}

    @contextlib.contextmanager
    def held(
        self, path: Path, *, timeout_s: float = 0.0, on_lost: Callable[[], None] = lambda: None
    ) -> Iterator[Lease | Beat | None]:
        """Yield the lease, or the beat of who has it; None where the lock itself was not to be had.

        Args:
            path: the lock file; folders are made as needed.
            timeout_s: how long to wait for a process that holds it.
            on_lost: called from a thread when another process took over.

        Raises:
            StoreError: the files cannot be written.
        """
        with _locked(path, timeout_s) as is_held:
            if not is_held:
                yield None
                return
            with explained(path):
                lease = take(self._observer(path), timeout_s=timeout_s)
            with lease.kept(on_lost=on_lost) if isinstance(lease, Lease) else contextlib.nullcontext(lease) as held:
                yield held

    def is_held(self, path: Path) -> bool:
        """Whether some process holds it now; of another machine's, whether its lease stands."""
        generation, beat = self._observer(path).look()
        if generation:
            return beat is not None
        with _locked(path, 0.0) as is_held:
            return not is_held

    def _observer(self, path: Path) -> Observer:
        folder = path.with_name(path.name.removesuffix(".lock") + ".leases")
        return self._observers.setdefault(folder, Observer(folder=folder, here=this_process()))


@contextlib.contextmanager
def _locked(path: Path, timeout_s: float) -> Iterator[bool]:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=timeout_s)
        except Timeout:
            is_held = False
        else:
            is_held = True
    try:
        yield is_held
    finally:
        if is_held:
            guard.release()
