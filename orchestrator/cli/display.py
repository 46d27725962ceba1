"""How a sweep looks on a terminal (a live table) and elsewhere (a line for each change of state). Reads views only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from dashboards.columns import Column, common_lines, common_values, lay_out
from eval.background import repeated
from orchestrator.errors import OrchError
from orchestrator.status.rows import SweepView, TrialRow
from orchestrator.sweep.driver import summary_line
from orchestrator.trial.stop import StopSignal

if TYPE_CHECKING:
    from orchestrator.config.blocks import Notify
    from orchestrator.status.rows import SweepView, TrialRow
    from orchestrator.sweep.notify import Deliver, Event, RowWatch

REFRESH_S = 1.0
HEARTBEAT_S = 15.0
STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "stopped": "yellow",
    "partial": "magenta",
    "paused": "blue",
    "cancelled": "bright_black",
    "waiting": "bright_black",
}
"""State → colour, by a name that rich and typer share."""
_ORDER = ("running", "failed", "interrupted", "stopped", "partial", "paused", "waiting", "cancelled", "done")


class Display(Protocol):
    """Something that shows rows and the driver's own messages as they come."""

    def show(self, rows: Sequence[TrialRow]) -> None:
        """Show the state of the sweep."""

    def say(self, line: str) -> None:
        """Show what the driver is doing."""

    def progress(self, line: str) -> None:
        """Show how far it is with it; called once a second."""


class PlainDisplay:
    """For logs and pipes: one line for each change of state, and a heartbeat while nothing changes."""

    def __init__(self, *, on_stderr: bool = False) -> None:
        """The first rows shown are the baseline."""
        self._on_stderr = on_stderr
        self._states: dict[str, tuple[str, int]] = {}
        self._message = ""
        self._last_line_s = time.monotonic()

    def show(self, rows: Sequence[TrialRow]) -> None:
        """Print what changed since the last call."""
        is_first = not self._states
        for row in rows:
            state = (row.state, row.attempts)
            if self._states.get(row.id) != state and not is_first:
                self._print(_change_line(row))
            self._states[row.id] = state
        if is_first:
            self._print(summary_line(rows))
        elif time.monotonic() - self._last_line_s >= HEARTBEAT_S:
            running = [f"{row.id} {doing(row)}" for row in rows if row.state == "running"]
            self._print(" | ".join([summary_line(rows), *(running or [self._message] * bool(self._message))]))

    def say(self, line: str) -> None:
        """Print one line at once, and repeat it as long as nothing runs."""
        self._message = line
        self._print(line)

    def progress(self, line: str) -> None:
        """Print a line now and then."""
        self._message = line
        if time.monotonic() - self._last_line_s >= HEARTBEAT_S:
            self._print(line)

    def _print(self, line: str) -> None:
        self._last_line_s = time.monotonic()
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())}Z {line}", err=self._on_stderr)


class LiveDisplay:
    """For a terminal: a table that refreshes in place, never taller than the screen."""

    def __init__(self, console: Console, live: Live) -> None:
        """The caller starts and stops the live area."""
        self._console, self._live = console, live
        self._message = ""
        self._rows: Sequence[TrialRow] = ()

    def show(self, rows: Sequence[TrialRow]) -> None:
        """Redraw the table."""
        self._rows = rows
        self._redraw()

    def say(self, line: str) -> None:
        """Show a message under the table until the next one."""
        self._message = line
        self._redraw()

    def progress(self, line: str) -> None:
        """Show it in the place of the message."""
        self.say(line)

    def _redraw(self) -> None:
        footer = summary_line(self._rows)
        lines = self._lines_of(self._rows)
        urgent = sorted(self._rows, key=lambda row: _ORDER.index(row.state))
        num_shown, room = len(urgent), max(5, self._console.height - 4)
        while len(lines) > room and num_shown > 1:
            num_shown = max(1, min(num_shown - 1, num_shown * room // len(lines)))
            shown = {row.id for row in urgent[:num_shown]}
            lines = self._lines_of([row for row in self._rows if row.id in shown])
        if hidden := len(urgent) - num_shown:
            footer += f" ({hidden} not shown)"
        notes = [Text(footer)] + ([Text(self._message, style="dim")] if self._message else [])
        self._live.update(Group(*lines, *notes))

    def _lines_of(self, rows: Sequence[TrialRow]) -> list[Text]:
        width = self._console.width
        columns, common = table_columns(rows)
        lines = [Text(line) for line in common_lines(common, of="all trials", width=width)]
        for block in lay_out(columns, width=width):
            lines += [Text(line, style="bold", no_wrap=True) for line in block.heading]
            lines += [Text(line, style=STYLES[rows[number].state], no_wrap=True) for number, line in block.rows]
        return lines


@contextlib.contextmanager
def open_display(*, on_stderr: bool = False) -> Iterator[Display]:
    """The live table on a terminal, plain lines elsewhere; on standard error when standard output is for JSON."""
    console = Console(stderr=on_stderr)
    if not console.is_terminal:
        yield PlainDisplay(on_stderr=on_stderr)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveDisplay(console, live)


@contextlib.contextmanager
def follow(view: SweepView, display: Display, stop: StopSignal, *, interval_s: float = REFRESH_S) -> Iterator[None]:
    """Keep a display fresh from a thread while the block runs, and show the last state at its end."""
    said = ""

    def show() -> None:
        # A record that a crash garbled stops the driver with its own message, not the display.
        with contextlib.suppress(OrchError):
            display.show(view.rows())

    def refresh() -> None:
        nonlocal said
        show()
        if stop.is_requested and said != (said := _stopping_line(stop)):
            display.say(said)

    show()
    try:
        with repeated(refresh, every_s=interval_s, name="display"):
            yield
    finally:
        show()


def table_columns(rows: Sequence[TrialRow]) -> tuple[list[Column], dict[str, Hashable]]:
    """What there is to show of trials, scores in percent, and the axes on which all trained ones stand alike."""
    common = common_values(row.axes for row in rows if row.seed is not None)
    columns = [
        Column(header="trial", role="key", cells=tuple(row.id for row in rows)),
        Column(header="what", role="name", cells=tuple(_label(row, common) for row in rows)),
        Column(header="state", cells=tuple(row.state for row in rows)),
    ]
    for name in dict.fromkeys(name for row in rows for name in row.scores):
        percents = (None if name not in row.scores else 100 * row.scores[name] for row in rows)
        columns.append(Column(header=name, is_number=True, cells=tuple(_decimals(value, 1) for value in percents)))
    columns += [
        Column(header="step", is_number=True, cells=tuple(map(steps, rows))),
        Column(header="reward", is_number=True, cells=tuple(_decimals(row.reward, 3) for row in rows)),
        Column(header="ETA", is_number=True, cells=tuple(duration(row.eta_s) for row in rows)),
        Column(header="doing", cells=tuple(map(_remark, rows))),
    ]
    return columns, common


def _label(row: TrialRow, common: Mapping[str, Hashable]) -> str:
    """A trial's label without what holds for all."""
    if row.seed is None or not common:
        return row.label
    return " · ".join([*(str(value) for axis, value in row.axes.items() if axis not in common), f"seed {row.seed}"])


def _decimals(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _remark(row: TrialRow) -> str:
    guards = (f"guard {alarm}" for alarm in row.alarms)
    return "; ".join(part for part in (row.phase, row.failure, row.reason, *guards) if part)


def doing(row: TrialRow) -> str:
    """One phrase on a running trial: phase, step, reward, time left."""
    parts = [row.phase, steps(row)]
    if row.reward is not None:
        parts.append(f"reward {row.reward:.3f}")
    if row.eta_s is not None:
        parts.append(f"{duration(row.eta_s)} left")
    return " ".join(part for part in parts if part)


def steps(row: TrialRow) -> str:
    """`12/40`, with the unit where it is not training steps; empty when there is nothing to count."""
    if not row.total:
        return ""
    return f"{row.step}/{row.total}" + ("" if row.unit == "step" else f" {row.unit}s")


def duration(seconds: float | None) -> str:
    """`45s`, `3m20s`, `2h05m`; empty for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _stopping_line(stop: StopSignal) -> str:
    if stop.is_forced:
        return "killing the trials; they resume from their last checkpoint"
    return "stopping: trials write their checkpoints; Ctrl-C again kills them"


def _change_line(row: TrialRow) -> str:
    detail = ""
    if row.state == "running":
        detail = f" (attempt {row.attempts})"
    elif row.state == "failed":
        detail = f": {row.failure}"
    elif row.scores:
        detail = ": " + ", ".join(f"{name} {100 * score:.1f}" for name, score in row.scores.items())
    return f"{row.id} {row.state}{detail} · {row.label}"


class TellingDisplay:
    """Shows what another display does, and sends what is news."""

    def __init__(self, display: Display, news: RowWatch, send: Callable[[Event], None]) -> None:
        """The first rows shown are the baseline."""
        self._display, self._news, self._send = display, news, send

    def show(self, rows: Sequence[TrialRow]) -> None:
        """Show the rows and tell what has changed."""
        for event in self._news.see(rows):
            self._send(event)
        self._display.show(rows)

    def say(self, line: str) -> None:
        """Show what the driver is doing."""
        self._display.say(line)

    def progress(self, line: str) -> None:
        """Show how far it is with it."""
        self._display.progress(line)


@contextlib.contextmanager
def notifying(
    notify: Notify, outlets: Mapping[str, Deliver], experiment: str, display: Display, view: SweepView
) -> Iterator[Display]:
    """A display that tells of failures and guards while the block runs; at its end, how the sweep ended."""
    from orchestrator.store.redact import now
    from orchestrator.sweep.driver import summary_line
    from orchestrator.sweep.notify import RowWatch, open_outbox

    with open_outbox(notify, outlets) as send:
        news = RowWatch(experiment, now=now)
        try:
            yield TellingDisplay(display, news, send)
        finally:
            send(news.finished(summary_line(view.rows())))
