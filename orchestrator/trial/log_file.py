"""The log of an attempt, as a copy of what its process says through `logging`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from orchestrator.store.redact import SecretlessFormatter

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Copy the log records of this process to a file while the block runs; our own packages' from level INFO."""
    handler = logging.FileHandler(path)
    handler.setFormatter(SecretlessFormatter(LOG_FORMAT))
    ours = [logging.getLogger(name) for name in ("orchestrator", "trainers", "eval")]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)
