"""Something done again and again in a thread while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeated(work: Callable[[], object], *, every_s: float, name: str) -> Iterator[None]:
    """Call `work` every so many seconds until the block ends; the thread has ended then, whatever it was doing.

    Args:
        work: must not raise: nobody would hear of it.
        every_s: seconds between two calls, and before the first.
        name: of the thread.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_s):
            work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
