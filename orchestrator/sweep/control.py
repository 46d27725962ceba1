"""The verbs of `orch ctl`: which trials are meant, and what is asked of each.

A verb writes a request (`store/requests.py`) and nothing else. Drivers and supervisors follow it within seconds;
where none runs, the next one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from orchestrator.config.blocks import Where
from orchestrator.errors import OrchError
from orchestrator.plan.trial import PlannedTrial
from orchestrator.plan.where import check_where, matches
from orchestrator.status.rows import SweepView, TrialRow
from orchestrator.store.requests import Requests
from orchestrator.store.store import Store

Verb = Literal["pause", "resume", "cancel", "requeue", "priority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb did about one trial."""

    id: str
    label: str
    is_changed: bool
    what: str
    """For example `pausing: writes its checkpoint and stops`, or why nothing was to be done."""


def read_where(texts: Sequence[str]) -> Where:
    """`selection=ets,gmts` and the like, as `--where` takes them; the same trait twice means either.

    Raises:
        OrchError: not of that form.
    """
    where: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, is_given, values = text.partition("=")
        if not (name and is_given and values):
            raise OrchError(f"{text!r} chooses nothing", where="--where", fix="write TRAIT=VALUE, as in selection=ets")
        where[name] = (*where.get(name, ()), *values.split(","))
    return where


def choose(
    store: Store, *, names: Sequence[str] = (), where: Where | None = None, experiment: str | None = None
) -> tuple[PlannedTrial, ...]:
    """The trials of the kept plans that are meant, each once.

    Args:
        store: the runs folder.
        names: trial ids, or beginnings of them.
        where: what the trials have; see `traits`.
        experiment: look at this one only.

    Raises:
        OrchError: nothing is called that, or has that.
    """
    experiments = (experiment,) if experiment is not None else store.plans.names()
    known = {one.trial.id: one for name in experiments for one in store.plans.read(name).entries}
    if not names and not where:
        fix = "name trials by their ids (`orch status`), or by what they have: --where selection=ets"
        raise OrchError("no trial is named", where="orch ctl", fix=fix)
    chosen = [known[_complete(name, known)] for name in names]
    if where:
        check_where(where, tuple(known.values()), key="--where")
        chosen += [planned for planned in known.values() if matches(planned, where)]
    return tuple({planned.trial.id: planned for planned in chosen}.values())


def ask(
    verb: Verb, trials: Sequence[PlannedTrial], store: Store, requests: Requests, *, priority: int = 0
) -> tuple[Answer, ...]:
    """Ask something of trials; what would change nothing is not asked.

    Raises:
        StoreError: a request cannot be written.
    """
    view = SweepView(store, trials, data_folder=None)
    answers = []
    for planned, row in zip(trials, view.rows(), strict=True):
        is_changed, what = _ask(verb, row, requests, priority)
        answers.append(Answer(id=row.id, label=planned.label, is_changed=is_changed, what=what))
    return tuple(answers)


def _ask(verb: Verb, row: TrialRow, requests: Requests, priority: int) -> tuple[bool, str]:
    request, is_running = requests.of(row.id), row.state == "running"
    if row.state == "done":
        return False, "is done"
    if verb == "priority":
        requests.set_priority(row.id, priority)
        return True, f"has priority {priority}"
    if verb == "resume":
        if request.hold != "paused":
            return False, "is cancelled: orch ctl requeue takes it back" if request.hold else "is not paused"
        requests.resume(row.id)
        return True, "goes on from its last checkpoint"
    if verb == "requeue":
        if is_running and request.hold is None:
            return False, "is running"
        requests.requeue(row.id, num_attempts=row.attempts)
        return True, "runs again"
    wanted = "paused" if verb == "pause" else "cancelled"
    if request.hold in (wanted, "cancelled"):
        return False, f"is {request.hold} already"
    (requests.pause if verb == "pause" else requests.cancel)(row.id)
    return True, f"{wanted}: writes its checkpoint and stops" if is_running else wanted


def _complete(name: str, known: Mapping[str, PlannedTrial]) -> str:
    found = [trial_id for trial_id in known if trial_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise OrchError(f"{len(found)} trials begin with {name}", where="orch ctl", fix=f"one of: {', '.join(found)}")
    near = get_close_matches(name, [trial_id[: max(len(name), 4)] for trial_id in known], n=3, cutoff=0.5)
    ids = [trial_id for beginning in near for trial_id in known if trial_id.startswith(beginning)]
    guess = f"did you mean {', '.join(dict.fromkeys(ids))}? " if ids else ""
    raise OrchError(f"no trial {name} is planned", where="orch ctl", fix=f"{guess}`orch status EXPERIMENT` lists them")
