"""Records of a runs folder as measurements, and which pieces of a trial are already there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.errors import OrchError
from orchestrator.forecast.measured import Measurement
from orchestrator.forecast.trial_cost import Coster, CountOf, ShapeOf, evaluation_key
from orchestrator.plan.trial import PlannedTrial
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.devices import CPU_CORE, GPUS, Device
from orchestrator.store.record import RunRecord
from orchestrator.store.store import Store
from trainers.recipe import Resources


def finished_pieces(record: RunRecord | None) -> frozenset[str]:
    """Names of the pieces that a trial has behind it."""
    if record is None:
        return frozenset()
    trained = {"train"} if record.train is not None else set()
    scored = {evaluation_key(entry.settings, entry.benchmark, entry.step, entry.limit) for entry in record.scores}
    return frozenset(trained | scored)


def measurements(store: Store, *, shape_of: ShapeOf, count_of: CountOf, assumed: Assumptions) -> list[Measurement]:
    """Every finished training and evaluation of the store whose model and device are known.

    A sweep or record that does not read measures nothing; `orch status` says what is wrong with it.
    """
    found: list[Measurement] = []
    for planned, record in _finished(store):
        device = _device(planned, record)
        if device is None:
            continue
        coster = Coster(device_of=_always(device), shape_of=shape_of, count_of=count_of, assumed=assumed)
        try:
            works = coster.work(planned)
        except OrchError:  # a model of unknown shape, or a benchmark that is gone
            continue
        seconds = _seconds(record)
        found += [Measurement(work=work, seconds=seconds[name]) for name, work in works.items() if seconds.get(name)]
    return found


def _always(device: Device) -> Callable[[Resources], Device]:
    def device_of(resources: Resources) -> Device:
        return device

    return device_of


def _finished(store: Store) -> Iterator[tuple[PlannedTrial, RunRecord]]:
    seen: set[str] = set()
    for experiment in store.plans.names() if store.root.is_dir() else ():
        try:
            entries = store.plans.read(experiment).entries
            records = {one.trial.id: store.find(one.trial.id) for one in entries if one.trial.id not in seen}
        except OrchError:
            continue
        for planned in entries:
            record = records.get(planned.trial.id)
            if record is not None and planned.trial.id not in seen:
                seen.add(planned.trial.id)
                yield planned, record


def _seconds(record: RunRecord) -> dict[str, float]:
    """Piece → seconds it took, all attempts together."""
    seconds = {
        evaluation_key(entry.settings, entry.benchmark, entry.step, entry.limit): entry.elapsed_s
        for entry in reversed(record.scores)  # of one piece the first was drawn, the others graded again
    }
    if record.train is not None:
        seconds["train"] = sum(spent for phase, spent in record.phase_seconds.items() if phase != "evaluate")
    return seconds


def _device(planned: PlannedTrial, record: RunRecord) -> Device | None:
    if planned.resources.num_gpus == 0:
        return CPU_CORE
    names = [gpu for attempt in record.attempts for gpu in attempt.provenance.hardware.gpus]
    if not names:
        return None
    name = names[-1].lower()
    return next((device for key, device in GPUS.items() if "-" not in key and key in name), None)
