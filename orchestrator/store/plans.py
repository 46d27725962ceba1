"""The plans kept in a runs folder: `runs/sweeps/<experiment>.json`, the last one of each experiment.

A driver writes it before anything starts; workers, the mirror and every view read it, whole or by trial.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from orchestrator.codec import encode
from orchestrator.errors import StoreError
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.files import FileDamaged, decoded, read_json, stamp, write_json
from orchestrator.store.record import SCHEMA_VERSION, check_version

T = TypeVar("T")


class KeptPlans:
    """The kept plans of one runs folder. Cheap to make; holds no open files."""

    def __init__(self, runs: Path) -> None:
        """Nothing is created before something is written."""
        self.runs = runs
        self.folder = runs / "sweeps"

    def file(self, experiment: str) -> Path:
        """`runs/sweeps/<experiment>.json`."""
        return self.folder / f"{experiment}.json"

    def stamp(self, experiment: str) -> tuple[int, int]:
        """(modification time in ns, size) of a plan: changes whenever the plan does; (0, 0) without one."""
        return stamp(self.file(experiment))

    def save(self, plan: Plan) -> None:
        """Keep the plan of an experiment, replacing its last one; no one else may write to it, as drivers follow it."""
        payload = {"schema_version": SCHEMA_VERSION, "plan": encode(plan)}
        write_json(self.file(plan.experiment), payload, mode=0o644)

    def read(self, experiment: str) -> Plan:
        """The kept plan of an experiment.

        Raises:
            StoreError: there is none of that name (the message lists those there are), or it does not read.
        """
        return self._decode_plan(Plan, self._read_plan(experiment), experiment)

    def digest(self, experiment: str) -> str | None:
        """The digest of the kept plan of an experiment; None where none reads: the next sweep writes it anew."""
        try:
            payload = read_json(self.file(experiment))
        except FileDamaged:
            return None
        if payload is None:
            return None
        check_version(payload, where=str(self.file(experiment)))
        digest: str = payload["plan"]["digest"]
        return digest

    def read_planned(self, experiment: str, trial_id: str) -> PlannedTrial:
        """One trial of a kept plan, without reading the others.

        Raises:
            StoreError: no such experiment, or the trial is not in its plan.
        """
        for entry in self._read_plan(experiment)["entries"]:
            if entry["trial"]["id"] == trial_id:
                return self._decode_plan(PlannedTrial, entry, experiment)
        raise StoreError(
            f"trial {trial_id} is not in the plan of {experiment}",
            where=str(self.file(experiment)),
            fix=f"`orch status {experiment}` lists its trials",
        )

    def trial_ids(self, experiment: str) -> tuple[str, ...]:
        """Ids of the trials of a kept plan, in its order, without building them: for plans of thousands.

        Raises:
            StoreError: no such experiment.
        """
        return tuple(str(entry["trial"]["id"]) for entry in self._read_plan(experiment)["entries"])

    def names(self) -> tuple[str, ...]:
        """Names of the experiments that were started on this runs folder."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.json")))

    def experiments(self, name: str | None) -> tuple[str, ...]:
        """The experiment of that name, or all that were started here where none is named.

        Raises:
            StoreError: none was started here.
        """
        names = (name,) if name is not None else self.names()
        if not names:
            raise StoreError(
                "no experiment has been started in this runs folder",
                where=str(self.runs),
                fix="start one with `orch sweep FILE`, or name another runs folder with --store",
            )
        return names

    def _read_plan(self, experiment: str) -> Any:
        path = self.file(experiment)
        payload = read_json(path)
        if payload is None:
            raise StoreError(
                f"no experiment named {experiment} in the runs folder",
                where=str(self.runs),
                fix=f"start it with `orch sweep FILE`; here are: {', '.join(self.names()) or 'none yet'}",
            )
        check_version(payload, where=str(path))
        return payload["plan"]

    def _decode_plan(self, kind: type[T], payload: Any, experiment: str) -> T:
        fix = "run its `orch sweep` again: that writes the plan anew"
        return decoded(kind, payload, what="a kept plan", where=self.file(experiment), fix=fix)
