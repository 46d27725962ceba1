"""What holds for all tests.

Without a GPU Triton's kernels run in its interpreter (`tests/trainers/test_fused.py`), which must be said before
anything imports Triton. Tests that need files which a clone does not hold are counted in one line at the end, with
how to get the files: such a test is skipped with a reason that begins with `LACKING`; what follows names the files.
Each process of the tests, and each that it starts, computes on one thread: as many of them run as there are cores, and
threads that wait for one another burn more time than they save at these sizes; and one thread repeats its bits. No
property test has a deadline: that would assert a machine's speed.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
torch.set_num_threads(1)

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

LACKING = "lacking files: "
CATEGORY = "without their files"


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Keep these tests out of the list of skipped ones."""
    return (CATEGORY, "-", "LACKS FILES") if _files(report) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = Counter(map(_files, terminalreporter.stats.get(CATEGORY, [])))
    for files, count in sorted(counts.items()):
        terminalreporter.write_line(f"{count} tests were left out, as they need {files}", yellow=True)


def _files(report: pytest.TestReport) -> str:
    """Return what a skipped test lacks; nothing for other reports."""
    if not (report.skipped and isinstance(report.longrepr, tuple)):
        return ""
    _, found, files = str(report.longrepr[2]).partition(LACKING)
    return files if found else ""
