"""A finished sweep under its true ids and digests, as custody needs it: what is hashed is what lies there."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from lab import Lab

from orchestrator.config.blocks import Schedule
from orchestrator.plan.identity import base_trial_id, trial_id
from orchestrator.plan.trial import Plan, PlannedTrial, plan_digest
from orchestrator.store.record import Status
from orchestrator.store.store import Store
from orchestrator.trial.attempt import run_trial
from trainers.manifest import sha256_of, write_hidden_manifest

EXPERIMENT = "kept"


@dataclass(frozen=True)
class Kept:
    """A store of its own, with the one sweep in it."""

    store: Store
    plan: Plan
    benchmark: Path

    def trial_folder(self, number: int) -> Path:
        """Of the plan's entry: 0 is the base model."""
        return self.store.trial_folder(self.plan.entries[number].trial.id)

    def copied_to(self, root: Path) -> "Kept":
        """The same sweep in another runs folder."""
        shutil.copytree(self.store.root, root)
        return replace(self, store=Store(root))


def sweep_and_keep(lab: Lab) -> Kept:
    """Base and two seeds, trained by the fake trainer and evaluated by the fake engine; policies get manifests."""
    entries = tuple(truly_named(lab.planned(seed)) for seed in (None, 0, 1))
    plan = replace(
        lab.plan([], experiment=EXPERIMENT),
        entries=entries,
        digest=plan_digest(EXPERIMENT, ("selection",), entries, schedule=Schedule()),
    )
    lab.store.plans.save(plan)
    for entry in entries:
        assert run_trial(entry, lab.store, context=lab.context()).status is Status.DONE
    for entry in entries[1:]:
        write_hidden_manifest(lab.store.checkpoint_folder(entry.trial.id) / "policy")
    return Kept(lab.store, plan, lab.root / "bench0.jsonl")


def truly_named(planned: PlannedTrial) -> PlannedTrial:
    """The trial under the id that its content gives."""
    trial = planned.trial
    if trial.recipe is None or trial.seed is None:
        name = base_trial_id(trial.model, model_digest=trial.model_digest)
    else:
        name = trial_id(
            trial.recipe, seed=trial.seed, data_digest=str(trial.data_digest), model_digest=trial.model_digest
        )
    return replace(planned, trial=replace(trial, id=name))


def add_checkpoint(checkpoints: Path, step: int, content: bytes = b"weights") -> Path:
    """A resumable checkpoint in the layout of `lite`."""
    folder = checkpoints / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(content)
    manifest = {"format": 1, "step": step, "sha256": sha256_of(folder / "state.pt"), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def flip(file: Path, position: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
