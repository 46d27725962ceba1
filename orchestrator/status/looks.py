"""What the store says of a plan whose seeds are to be decided: each contrast's looks, and the seeds that they ask for.

A look at S seeds needs the first S seeds of both arms, trained and scored on every benchmark by one grader. So the same
records always give the same looks, verdicts and plan, whoever asks and however often a sweep was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.comparison import Arm, compare_on_all
from eval.seed_model import FEWEST_SEEDS
from eval.sequential.judge import Judgement, Seen, judge
from eval.stats import PerProblem
from orchestrator.config.blocks import UntilDecided
from orchestrator.plan.arm import arm_of
from orchestrator.plan.contrasts import Contrast, primary_contrasts
from orchestrator.plan.growth import with_num_seeds
from orchestrator.plan.trial import Plan, PlannedTrial
from orchestrator.store.scores import final_step, is_shown_whole, shown_scores
from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastLooks:
    """A contrast and what its looks say."""

    contrast: Contrast
    judgement: Judgement
    num_looks: int
    """Most that there can be."""
    num_seeds: int
    """At the last look; 0 before the first."""
    num_wanted: int
    """Seeds an arm that it asks for: one more than at the last look while it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A trial that is trained and scored."""

    answers: tuple[PerProblem, ...]
    """One a benchmark, in the plan's order."""
    graders: frozenset[str]


class SeedLooks:
    """Looks at one runs folder again and again; scores are read once."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store
        self._scored: dict[tuple[str, str], _Scored] = {}
        """(trial, how it is evaluated) → its scores."""

    def of(self, plan: Plan) -> tuple[ContrastLooks, ...]:
        """Every contrast of the plan; none where seeds are listed.

        Raises:
            StoreError: a record or a score does not read.
        """
        if plan.until is None:
            return ()
        contrasts = primary_contrasts(plan)
        largest = with_num_seeds(plan, dict.fromkeys(_arms(contrasts), plan.until.design.at_most))
        seeds: dict[str, list[PlannedTrial]] = {}
        for planned in sorted(largest.entries, key=lambda one: one.trial.seed or 0):
            seeds.setdefault(arm_of(planned), []).append(planned)
        return tuple(
            self._looks(one, plan.until, seeds[one.first], seeds[one.second], len(contrasts)) for one in contrasts
        )

    def grown(self, plan: Plan) -> Plan:
        """The plan with the seeds that its contrasts ask for by now; the same plan where that is none.

        Raises:
            StoreError: a record or a score does not read.
        """
        if plan.until is None:
            return plan
        wanted: dict[str, int] = {}
        for one in self.of(plan):
            for arm in (one.contrast.first, one.contrast.second):
                wanted[arm] = max(wanted.get(arm, 0), one.num_wanted)
        return with_num_seeds(plan, wanted)

    def _looks(
        self,
        contrast: Contrast,
        until: UntilDecided,
        first: Sequence[PlannedTrial],
        second: Sequence[PlannedTrial],
        num_contrasts: int,
    ) -> ContrastLooks:
        design = until.design.shared_by(num_contrasts)
        pairs: list[tuple[_Scored, _Scored]] = []
        for ours, theirs in zip(first, second, strict=True):
            pair = self._find(ours), self._find(theirs)
            if pair[0] is None or pair[1] is None or len(pair[0].graders | pair[1].graders) > 1:
                break
            pairs.append((pair[0], pair[1]))
        judgement = judge([_seen(pairs[:count]) for count in range(design.at_least, len(pairs) + 1)], design)
        num_seeds = design.at_least + judgement.look - 1 if judgement.look else 0
        is_open = judgement.verdict == "open"
        return ContrastLooks(
            contrast=contrast,
            judgement=judgement,
            num_looks=len(design.times),
            num_seeds=num_seeds,
            num_wanted=design.at_least + judgement.look if is_open else num_seeds,
        )

    def _find(self, planned: PlannedTrial) -> _Scored | None:
        key = (planned.trial.id, repr(planned.evaluation))
        if key not in self._scored:
            found = self._read(planned)
            if found is None:
                return None
            self._scored[key] = found
        return self._scored[key]

    def _read(self, planned: PlannedTrial) -> _Scored | None:
        trial_id = planned.trial.id
        record = self._store.find(trial_id)
        if record is None or not is_shown_whole(record, planned):
            return None
        shown = shown_scores(record, planned.evaluation)
        entries = [shown[name, final_step(planned)] for name in planned.evaluation.benchmarks]
        scores = [self._store.read_score(trial_id, entry.key) for entry in entries]
        present = [score.per_problem for score in scores if score is not None]
        if len(present) < len(entries):
            return None
        return _Scored(answers=tuple(present), graders=frozenset(entry.grader_version for entry in entries))


def _arms(contrasts: Sequence[Contrast]) -> list[str]:
    return [arm for one in contrasts for arm in (one.first, one.second)]


def _seen(pairs: Sequence[tuple[_Scored, _Scored]]) -> Seen:
    """The difference of the averages over the benchmarks, seeds paired."""
    assert len(pairs) >= FEWEST_SEEDS
    sides = [
        [
            Arm(runs={seed: pair[side].answers[place] for seed, pair in enumerate(pairs)})
            for place in range(len(pairs[0][0].answers))
        ]
        for side in (0, 1)
    ]
    found = compare_on_all(*sides)
    return Seen(value=found.delta, minimum_detectable=found.minimum_detectable, p_value=found.p_method)
