"""Whether the Ray that a driver started for itself still lives, and the end of the driver when it does not.

A raylet or a control process (GCS) that dies, by kill -9 or for want of memory, tells nobody in the driver: Tune waits
for a node that cannot come, or inside a call that gets no answer. So a thread looks at the two processes and asks for
the nodes. A loss ends Tune's loop at its next turn and becomes `SweepIncomplete`. Where the main thread hangs inside
Ray, the process is ended as if by kill -9, after which the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from eval.background import repeated
from orchestrator.errors import SweepIncomplete
from orchestrator.store.progress import process_exists

_SERVERS = ("gcs_server", "raylet")
"""The processes without which a local Ray can start nothing."""
_LOOK_S = 1.0
_ASK_S = 5.0
"""Between questions for the nodes, which take a call to GCS."""
_NO_NODE_S = 10.0
"""Without a living node for so long, none comes any more: Ray takes nobody back whom it has marked dead."""
END_S = 30.0
"""Time for Tune and Ray to end after a loss. Ray itself aborts the process after 60 s without GCS, with a message that
says nothing of the sweep."""


class RayWatch:
    """Looks after the local Ray of one sweep."""

    def __init__(
        self,
        *,
        count_nodes: Callable[[], int],
        say: Callable[[str], None],
        end_process: Callable[[int], object] = os._exit,
        end_s: float = END_S,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            count_nodes: how many nodes Ray takes to be alive; may hang.
            say: told of a loss in one line.
            end_process: ends this process with an exit status, without running any handler: Ray's own may hang.
            end_s: how long the guarded block may take to end after a loss.
        """
        self.lost = ""
        """Why Ray is lost; empty while it is not."""
        self._count_nodes, self._say, self._end_process, self._end_s = count_nodes, say, end_process, end_s
        self._servers: dict[int, str] = {}
        self._is_over = threading.Event()
        self._asked_s = 0.0
        self._no_node_since_s: float | None = None

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Put around all that asks Ray for something, its shutdown included.

        Raises:
            SweepIncomplete: Ray was lost meanwhile, whatever came of that in the block.
        """
        try:
            yield
        except Exception as error:
            if self.lost:
                raise self._error() from error
            raise
        finally:
            self._is_over.set()
        if self.lost:
            raise self._error()

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look after the Ray that this process has started, while the block runs; to be left before its shutdown."""
        self._servers = _servers_below(os.getpid())
        if not self._servers:  # somebody else started it, and will end it
            yield
            return
        self._asked_s = time.monotonic()
        with repeated(self._look, every_s=_LOOK_S, name="ray-watch"):
            yield

    def _look(self) -> None:
        if self.lost:
            return
        ended = [
            f"its {name} (process {pid}) has ended" for pid, name in self._servers.items() if not process_exists(pid)
        ]
        self.lost = ended[0] if ended else self._ask_for_nodes()
        if self.lost:
            self._say(f"the local Ray of this sweep is lost: {self.lost}; the sweep ends")
            threading.Thread(target=self._end_hung, name="ray-watch-end", daemon=True).start()

    def _ask_for_nodes(self) -> str:
        """Ask, now and then; why Ray is lost, or empty."""
        moment_s = time.monotonic()
        if moment_s - self._asked_s < _ASK_S:
            return ""
        self._asked_s = moment_s
        if self._count_nodes():
            self._no_node_since_s = None
            return ""
        if self._no_node_since_s is None:
            self._no_node_since_s = moment_s
        is_gone = moment_s - self._no_node_since_s >= _NO_NODE_S
        return "its node missed too many health checks and is marked dead" if is_gone else ""

    def _end_hung(self) -> None:
        if not self._is_over.wait(self._end_s):
            error = self._error()
            self._say(f"error: {error}")
            self._end_process(error.exit_code)

    def _error(self) -> SweepIncomplete:
        return SweepIncomplete(
            f"the local Ray of this sweep is lost: {self.lost}",
            where=f"the driver, process {os.getpid()}",
            fix="run the same command again: what is done stays, the rest goes on from its checkpoints; if it comes "
            "again, look for want of memory (`dmesg | grep -i oom`), or do without Ray: --scheduler inline",
        )


def _servers_below(parent: int) -> dict[int, str]:
    """Process id → name of the children of a process that are a Ray's servers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            if name in _SERVERS and int(rest.split()[1]) == parent:
                found[int(folder.name)] = name
    return found
