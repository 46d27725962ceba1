"""Tests that need files which a clone does not hold are counted in one line at the end, with how to get the files.

Such a test is skipped with a reason that begins with `LACKING`; what follows names the files and the way to them.
"""

from __future__ import annotations

from collections import Counter

import pytest

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
