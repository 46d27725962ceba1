"""The screen of `orch watch`: trials, curves and log of the chosen one, and keys for the requests of `orch ctl`.

A thread takes the snapshots, so that a slow disk does not stop the keys; only cells that changed are drawn again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Log, Static

from orchestrator.cli.display import STYLES, duration, steps
from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.status.curves import Snapshot, SweepWatch, TrialWatch, bars, steps_per_s
from orchestrator.status.rows import TrialRow
from orchestrator.store.requests import Requests
from orchestrator.store.store import Store
from orchestrator.sweep.driver import summary_line

COLUMNS = ("trial", "arm", "seed", "state", "step", "reward", "steps/min", "ETA", "doing")
Filter = Literal["all", "unfinished", "running"]
FILTERS: tuple[Filter, ...] = ("all", "unfinished", "running")
_CURVE_LINES = 5


class Confirm(ModalScreen[bool]):
    """Asks before what is not easily undone."""

    CSS = "Confirm { align: center middle; } Confirm Label { border: round $warning; padding: 1 2; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        """The question is put with its two answers."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """One box."""
        yield Label(f"{self._question}\n\n[b]y[/b] yes   [b]n[/b] no")


class WatchApp(App[None]):
    """Shows some trials until its user quits; quitting it stops no trial."""

    CSS = """
    #summary { height: 2; padding: 0 1; }
    #trials { height: 1fr; }
    #below { height: 14; border-top: solid $primary; }
    #curves { width: 44; padding: 0 1; }
    #log { width: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause"),
        Binding("r", "resume", "resume"),
        Binding("c", "cancel", "cancel"),
        Binding("a", "requeue", "run again"),
        Binding("plus", "priority(1)", "first", key_display="+"),
        Binding("minus", "priority(-1)", "later", key_display="-"),
        Binding("d", "drain", "drain"),
        Binding("f", "filter", "filter"),
        Binding("q", "quit", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        experiments: Sequence[str],
        store: Store,
        *,
        watch: SweepWatch,
        requests: Requests,
        interval_s: float = 1.0,
    ) -> None:
        """Nothing is read before the screen is up.

        Args:
            experiments: names of what is watched.
            store: the runs folder.
            watch: takes the snapshots.
            requests: takes the requests of the keys.
            interval_s: between snapshots.
        """
        super().__init__()
        self._experiments, self._store, self._watch, self._requests = tuple(experiments), store, watch, requests
        self._trials: dict[str, PlannedTrial] = {}
        self._interval_s = interval_s
        self._rows: dict[str, TrialRow] = {}
        self._cells: dict[str, tuple[str, ...]] = {}
        self._chosen: TrialWatch | None = None
        self._filter: Filter = "all"
        self._is_reading = False
        # Held, not looked up: what was read in a thread may arrive when the screen is already being taken down.
        self._summary_pane = Static(id="summary")
        self._table = DataTable[Text](id="trials", cursor_type="row", zebra_stripes=False)
        self._log_pane = Log(id="log", max_lines=2000)
        self._curve_panes = {title: Static(id=title) for title in ("reward", "entropy")}

    def compose(self) -> ComposeResult:
        """Summary, trials, then curves beside the log."""
        yield self._summary_pane
        yield self._table
        with Horizontal(id="below"):
            with Vertical(id="curves"):
                yield from self._curve_panes.values()
            yield self._log_pane
        yield Footer()

    async def on_mount(self) -> None:
        """Draw once, then at every interval."""
        self.title = f"orch watch {' '.join(self._experiments)}"
        table = self._table
        for name in COLUMNS:
            table.add_column(name, key=name)
        await self.refresh_sweep()
        table.focus()
        self.set_interval(self._interval_s, self.refresh_sweep)

    async def refresh_sweep(self) -> None:
        """Take a snapshot and draw what has changed; an unreadable record is reported, and the rest stays."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            snapshot = await asyncio.to_thread(self._watch.snapshot)
        except OrchError as error:
            self._summary_pane.update(Text(str(error), style="red"))
        else:
            self._trials = {planned.trial.id: planned for planned in snapshot.trials}
            self._summary_pane.update(self._summary(snapshot))
            self._draw_rows(snapshot.rows)
            await self._read_chosen()
        finally:
            self._is_reading = False

    async def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the curves and the log of the trial under the cursor."""
        trial_id = event.row_key.value if event.row_key is not None else None
        if trial_id is None or (self._chosen is not None and self._chosen.trial_id == trial_id):
            return
        self._chosen = TrialWatch(self._store, trial_id)
        self._log_pane.clear()
        self._draw_curves()
        await self._read_chosen()

    def action_pause(self) -> None:
        """Let the chosen trial write its checkpoint and wait."""
        self._order("pause", self._requests.pause)

    def action_resume(self) -> None:
        """Lift the pause of the chosen trial."""
        self._order("resume", self._requests.resume)

    def action_requeue(self) -> None:
        """Run the chosen trial again."""
        row = self._chosen_row()
        attempts = row.attempts if row is not None else 0
        self._order("run again", lambda trial_id: self._requests.requeue(trial_id, num_attempts=attempts))

    def action_priority(self, change: int) -> None:
        """Let the chosen trial start before or after others."""

        def set_priority(trial_id: str) -> None:
            self._requests.set_priority(trial_id, (self._requests.of(trial_id).priority or 0) + change)

        self._order(f"priority {change:+d}", set_priority)

    def action_cancel(self) -> None:
        """Stop the chosen trial for good, if that is confirmed."""
        row = self._chosen_row()
        if row is not None:
            self._confirmed(
                f"Cancel {row.id} ({row.label})? It stops and is not started until it is run again.",
                lambda: self._order("cancel", self._requests.cancel, row.id),
            )

    def action_drain(self) -> None:
        """Let the sweeps finish what runs and start nothing new, if that is confirmed."""
        names = ", ".join(self._experiments)
        self._confirmed(f"Drain {names}? What runs is finished, and nothing new is started.", self._drain)

    async def action_filter(self) -> None:
        """Show all trials, those that are not done, or those that run."""
        self._filter = FILTERS[(FILTERS.index(self._filter) + 1) % len(FILTERS)]
        self._draw_rows(tuple(self._rows.values()))
        await self.refresh_sweep()

    def _chosen_row(self) -> TrialRow | None:
        """The row under the cursor: not the one whose log is shown, which may be a moment behind."""
        table = self._table
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        return self._rows.get(str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value))

    def _order(self, verb: str, give: Callable[[str], None], trial_id: str | None = None) -> None:
        row = self._chosen_row() if trial_id is None else self._rows[trial_id]
        if row is None:
            return
        try:
            give(row.id)
        except OrchError as error:
            self.notify(str(error), severity="error")
        else:
            self.notify(f"{verb}: {row.id}")

    def _drain(self) -> None:
        try:
            for name in self._experiments:
                self._requests.drain(name)
        except OrchError as error:
            self.notify(str(error), severity="error")
        else:
            self.notify(f"drain: {', '.join(self._experiments)}")

    def _confirmed(self, question: str, do: Callable[[], None]) -> None:
        def answered(is_yes: bool | None) -> None:
            if is_yes:
                do()

        self.push_screen(Confirm(question), answered)

    def _draw_rows(self, rows: Sequence[TrialRow]) -> None:
        """Change the cells that differ; build the table anew where other trials are to be shown."""
        self._rows = {row.id: row for row in rows}
        shown = [row for row in rows if _is_shown(row, self._filter)]
        table = self._table
        if [row.id for row in shown] != [*self._cells]:
            self._build_table(shown)
            return
        for row in shown:
            cells, known = self._row_cells(row), self._cells[row.id]
            for name, cell, before in zip(COLUMNS, cells, known, strict=True):
                if cell != before or row.state != known[COLUMNS.index("state")]:
                    table.update_cell(row.id, name, _styled(cell, row), update_width=len(cell) > len(before))
            self._cells[row.id] = cells

    def _build_table(self, shown: Sequence[TrialRow]) -> None:
        table, chosen = self._table, self._chosen
        table.clear()
        self._cells = {row.id: self._row_cells(row) for row in shown}
        for row in shown:
            table.add_row(*(_styled(cell, row) for cell in self._cells[row.id]), key=row.id)
        if chosen is not None and chosen.trial_id in self._cells:
            table.move_cursor(row=table.get_row_index(chosen.trial_id))

    def _row_cells(self, row: TrialRow) -> tuple[str, ...]:
        planned = self._trials[row.id]
        seed = "" if planned.trial.seed is None else str(planned.trial.seed)
        reward = "" if row.reward is None else f"{row.reward:.3f}"
        pace = steps_per_s(row)
        rate = "" if pace is None else f"{60 * pace:.1f}"
        doing = " · ".join(filter(None, (row.phase, row.reason, row.failure, *(f"guard {one}" for one in row.alarms))))
        return row.id, planned.arm_label, seed, row.state, steps(row), reward, rate, duration(row.eta_s), doing

    def _summary(self, snapshot: Snapshot) -> Text:
        names = " ".join(self._experiments)
        used = f"in use: {snapshot.num_gpus} GPUs, {snapshot.num_cpus} CPUs"
        mine = [report for report in snapshot.drivers if report.experiment in self._experiments]
        draining = " (draining)" if any(report.is_draining for report in mine) else ""
        driver = ", ".join(f"{report.host}:{report.pid}" for report in mine) or "none"
        left = f" · {duration(snapshot.eta_s)} left at this pace" if snapshot.eta_s is not None else ""
        shown = "" if self._filter == "all" else f" · {self._filter} only"
        done, total = snapshot.steps_done, snapshot.steps_total
        full = round(24 * done / total) if total else 0
        return Text(
            f"{names}  {summary_line(snapshot.rows)}{shown}\n"
            f"{'━' * full}{'─' * (24 - full)} {done}/{total} steps{left} · {used} · driver: {driver}{draining}",
            no_wrap=True,
        )

    async def _read_chosen(self) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        has_grown, lines = await asyncio.to_thread(chosen.read)
        if chosen is not self._chosen:
            return
        if has_grown:
            self._draw_curves()
        if lines and self._log_pane.is_attached:
            self._log_pane.write_lines(lines)

    def _draw_curves(self) -> None:
        curves = self._chosen.curves if self._chosen is not None else {}
        for title, by_step in curves.items():
            self._curve_panes[title].update(_curve(title, by_step))


def _curve(title: str, by_step: dict[int, float]) -> Text:
    values = [by_step[step] for step in sorted(by_step)]
    if not values:
        return Text(f"{title}: nothing yet", style="dim")
    heading = f"{title} {values[-1]:.3g}  ({min(values):.3g} – {max(values):.3g}, step {max(by_step)})"
    return Text("\n".join([heading, *bars(values, width=40, height=_CURVE_LINES)]), no_wrap=True)


def _styled(cell: str, row: TrialRow) -> Text:
    return Text(cell, style=STYLES[row.state], no_wrap=True)


def _is_shown(row: TrialRow, wanted: Filter) -> bool:
    return wanted == "all" or (row.state == "running" if wanted == "running" else row.state != "done")
