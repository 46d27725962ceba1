"""One trial as its page shows it: what it is, how it differs from its baseline, scores, curves, samples, diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dashboards.figures.drawing import Drawing, Series
from dashboards.figures.swept import CURVES, Curve, Swept
from dashboards.report.token_view import CAPTIONS, TokenView, read_token_view
from dashboards.report.transcripts import Transcript, read_transcripts
from eval.api import Problem
from orchestrator.codec import encode
from orchestrator.plan.trial import PlannedTrial
from orchestrator.store.record import Failure, RunRecord, ScoreEntry
from orchestrator.store.scores import shown_scores
from orchestrator.store.store import Store
from trainers.methods import DENSE

ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One configuration value that differs from the baseline's."""

    key: str
    baseline: object
    own: object


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisView:
    """What `orch diagnose` left for one policy of a trial."""

    policy: str
    """`final` or `base`."""
    images: tuple[tuple[Path, str], ...]
    """Picture file and what it shows."""
    tokens: TokenView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPage:
    """Everything on one trial's page."""

    id: str
    experiment: str
    label: str
    state: str
    """done, failed, stopped, running or missing."""
    reason: str
    seed: int | None
    baseline: PlannedTrial | None
    """What `settings` compares with; None for base models and for the baseline itself."""
    settings: tuple[Setting, ...]
    config: tuple[tuple[str, object], ...]
    """The whole recipe, flat."""
    scores: tuple[ScoreEntry, ...]
    """At every checkpoint that was evaluated, in order of steps."""
    drawings: tuple[Drawing, ...]
    transcripts: tuple[Transcript, ...]
    diagnoses: tuple[DiagnosisView, ...]
    has_policy: bool
    """Whether it was trained to the end, so that there is something to diagnose."""
    failure: Failure | None
    record: RunRecord | None


@dataclass(frozen=True, kw_only=True)
class TrialPages:
    """Makes the pages of an experiment's trials."""

    swept: Swept
    store: Store
    problems: Callable[[str], Mapping[str, Problem]]
    """A benchmark's questions by id; empty where they are not at hand."""

    @cached_property
    def states(self) -> Mapping[str, tuple[str, str]]:
        """Trial id → (done, failed, stopped, running or missing; why it is not done)."""
        found: dict[str, tuple[str, str]] = {}
        for trial_id, rows in self.swept.frame.groupby("trial", sort=False):
            unscored = rows[rows["state"] != "scored"]
            reasons = "; ".join(dict.fromkeys(unscored["reason"]))
            found[str(trial_id)] = (str(unscored["state"].iloc[0]), reasons) if len(unscored) else ("done", "")
        return found

    def page(self, planned: PlannedTrial) -> TrialPage:
        """Collect one page."""
        trial = planned.trial
        record = self.swept.records.get(trial.id)
        scores = shown_scores(record, planned.evaluation)
        baseline = self._baseline(planned)
        state, reason = self.states[trial.id]
        return TrialPage(
            id=trial.id,
            experiment=self.swept.name,
            label=planned.label,
            state=state,
            reason=reason,
            seed=trial.seed,
            baseline=baseline,
            settings=_differing(planned, baseline) if baseline else (),
            config=tuple(flat(encode(trial.recipe)).items()) if trial.recipe else (),
            scores=tuple(entry for _, entry in sorted(scores.items(), key=lambda item: (item[0][1], item[0][0]))),
            drawings=_drawings(self.swept.curves.get(trial.id, {})),
            transcripts=tuple(self._transcripts(trial.id, scores)),
            diagnoses=_diagnoses(self.store.trial_folder(trial.id) / "diagnosis"),
            has_policy=record is not None and record.train is not None,
            failure=record.failure if record else None,
            record=record,
        )

    def _transcripts(self, trial_id: str, scores: Mapping[tuple[str, int], ScoreEntry]) -> Iterator[Transcript]:
        """Of the last checkpoint that was evaluated."""
        last = max((step for _, step in scores), default=0)
        for (name, step), entry in scores.items():
            if step == last:
                folder = self.store.eval_folder(trial_id, entry.key)
                yield from read_transcripts(folder, entry.benchmark, self.problems(name))

    def _baseline(self, planned: PlannedTrial) -> PlannedTrial | None:
        """The dense trial of the same family, same seed first; for a dense one, the first trained trial of the plan."""
        if planned.trial.recipe is None or self._first_trained is None:
            return None
        family = self._family.get(planned.trial.id)
        chosen = self._dense.get((family, planned.trial.seed)) or self._dense.get((family, None))
        if chosen is None or chosen.trial.id == planned.trial.id:
            chosen = self._first_trained
        return None if chosen.trial.id == planned.trial.id else chosen

    @cached_property
    def _family(self) -> Mapping[str, str]:
        return dict(zip(self.swept.frame["trial"], self.swept.frame["family"], strict=True))

    @cached_property
    def _first_trained(self) -> PlannedTrial | None:
        return next((one for one in self.swept.plan.entries if one.trial.recipe is not None), None)

    @cached_property
    def _dense(self) -> Mapping[tuple[str | None, int | None], PlannedTrial]:
        """(family, seed) → its dense trial; under seed None the first of the family."""
        found: dict[tuple[str | None, int | None], PlannedTrial] = {}
        for one in self.swept.plan.entries:
            if one.trial.recipe is not None and one.trial.recipe.selection.method == DENSE:
                family = self._family.get(one.trial.id)
                found.setdefault((family, one.trial.seed), one)
                found.setdefault((family, None), one)
        return found


def flat(value: Any, prefix: str = "") -> dict[str, object]:
    """Nested objects as dotted keys; lists are values."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: item for name, part in value.items() for key, item in flat(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def _differing(planned: PlannedTrial, baseline: PlannedTrial) -> tuple[Setting, ...]:
    own = flat(encode(planned.trial.recipe)) | {"seed": planned.trial.seed}
    other = flat(encode(baseline.trial.recipe)) | {"seed": baseline.trial.seed}
    keys = dict.fromkeys([*other, *own])
    return tuple(
        Setting(key=key, baseline=other.get(key, ABSENT), own=own.get(key, ABSENT))
        for key in keys
        if other.get(key, ABSENT) != own.get(key, ABSENT)
    )


def _drawings(curves: Mapping[str, Curve]) -> tuple[Drawing, ...]:
    return tuple(
        Drawing(
            id=name.replace("/", "_"),
            title=name,
            caption=CURVES[name],
            x_label="training step",
            y_label=name,
            series=(
                Series(name=name, x=tuple(float(step) for step, _ in curve), y=tuple(value for _, value in curve)),
            ),
        )
        for name, curve in curves.items()
    )


def _diagnoses(folder: Path) -> tuple[DiagnosisView, ...]:
    views = []
    for policy in ("final", "base"):
        images = [(folder / policy / f"{stem}.png", caption) for stem, caption in CAPTIONS.items()]
        present = tuple((file, caption) for file, caption in images if file.is_file())
        tokens = read_token_view(folder / policy)
        if present or tokens:
            views.append(DiagnosisView(policy=policy, images=present, tokens=tokens))
    return tuple(views)
