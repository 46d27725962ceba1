"""What `orch sweep` tells others while it runs, as `notify:` asks: found in the rows that the display shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cli.display import Display
    from orchestrator.notify import Deliver, Event, Notify, RowWatch
    from orchestrator.view import SweepView, TrialRow


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
def telling(
    notify: Notify, ways_out: Mapping[str, Deliver], experiment: str, display: Display, view: SweepView
) -> Iterator[Display]:
    """A display that tells of failures and guards while the block runs; at its end, how the sweep ended."""
    from orchestrator.notify import RowWatch, open_outbox
    from orchestrator.provenance import now
    from orchestrator.sweep import summary_line

    with open_outbox(notify, ways_out) as send:
        news = RowWatch(experiment, now=now)
        try:
            yield TellingDisplay(display, news, send)
        finally:
            send(news.finished(summary_line(view.rows())))
