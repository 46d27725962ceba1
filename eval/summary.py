"""What the stored samples say beyond avg@K: pass@k, maj@k, lengths of right and wrong answers, repetition loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from eval.api import Problem, SamplingSettings, Score
from eval.grading.exact import compare
from eval.samples import Sample
from eval.stats import Interval, interval, pass_at_k, standard_error_of_mean

LOOP_WINDOW = 600
"""Characters at the end of a completion that are searched for a loop."""
LOOP_LONGEST_PERIOD = 120
LOOP_FEWEST_REPEATS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One benchmark's row. Rates are fractions of all completions unless said otherwise."""

    score: Score
    interval: Interval | None
    """95 % interval of avg@K; None for a single question."""
    pass_at: dict[int, float]
    """k → mean over questions of 1 − C(N−c, k)/C(N, k), N the samples drawn; powers of two up to N."""
    majority: float
    """maj@K: share of questions whose most frequent boxed answer is right; ties go to the earliest."""
    majority_error: float
    """Standard error of `majority` over questions."""
    mean_tokens_right: float | None
    mean_tokens_wrong: float | None
    loop_rate: float
    """Completions that end in at least four repeats of the same text."""
    timeout_rate: float
    """Completions whose grading was given up: counted as wrong."""
    undecided_rate: float
    """Completions that no path of the grader could tell: counted as wrong."""
    failed_rate: float = 0.0
    """Requests that an endpoint left unanswered in all tries: counted as wrong."""
    reasoning_rate: float = 0.0
    """Completions without content, whose reasoning was graded."""

    @property
    def settings(self) -> SamplingSettings:
        """How the completions were drawn."""
        return self.score.settings


def summarise(score: Score, samples: Sequence[Sample], problems: Iterable[Problem]) -> Summary:
    """Summarise one score from the samples behind it.

    Args:
        score: what `evaluate` returned.
        samples: its samples, in any order; others of the same store are ignored.
        problems: the benchmark's problems, at least those of the score.
    """
    used = _used(score, samples)
    right = [sample.completion.num_tokens for sample in used if sample.grade.is_correct]
    wrong = [sample.completion.num_tokens for sample in used if not sample.grade.is_correct]
    by_problem: dict[str, list[Sample]] = {problem.id: [] for problem in problems if problem.id in score.per_problem}
    for sample in used:
        by_problem[sample.completion.problem_id].append(sample)
    votes = [float(majority_is_right(drawn)) for drawn in by_problem.values()]
    return Summary(
        score=score,
        interval=interval(score.per_problem) if len(score.per_problem) > 1 else None,
        pass_at={k: pass_at_k(score.per_problem, k)[0] for k in _powers_of_two(score.num_samples)},
        majority=fmean(votes),
        majority_error=standard_error_of_mean(votes),
        mean_tokens_right=fmean(right) if right else None,
        mean_tokens_wrong=fmean(wrong) if wrong else None,
        loop_rate=fmean(ends_in_loop(sample.completion.text) for sample in used),
        undecided_rate=fmean(sample.grade.status == "undecided" for sample in used),
        failed_rate=fmean(sample.has_failed for sample in used),
        reasoning_rate=fmean(sample.completion.is_reasoning for sample in used),
        timeout_rate=fmean(sample.grade.status in ("timeout", "crash") for sample in used),
    )


def majority_is_right(samples: Sequence[Sample]) -> bool:
    """Whether the largest class of equal boxed answers is right; completions without an answer do not vote.

    Right answers are one class. Wrong ones are grouped by the exact path of the grader.
    """
    right = [sample for sample in samples if sample.grade.is_correct]
    classes: list[list[Sample]] = [right] if right else []
    for sample in samples:
        answer = sample.grade.answer
        if sample.grade.is_correct or answer is None:
            continue
        same = (one for one in classes if not one[0].grade.is_correct and _is_same(answer, one[0].grade.answer))
        group = next(same, None)
        if group is None:
            classes.append([sample])
        else:
            group.append(sample)
    if not classes:
        return False
    largest = max(classes, key=lambda one: (len(one), -min(sample.completion.index for sample in one)))
    return largest[0].grade.is_correct


def ends_in_loop(text: str) -> bool:
    """Whether a completion ends in at least four repeats of a piece of up to 120 characters, 40 in all."""
    tail = text[-LOOP_WINDOW:]
    for period in range(1, min(LOOP_LONGEST_PERIOD, len(tail) // LOOP_FEWEST_REPEATS) + 1):
        length = max(period * LOOP_FEWEST_REPEATS, 40)
        if length <= len(tail) and tail[-length:-period] == tail[-length + period :]:
            return True
    return False


def _is_same(answer: str, other: str | None) -> bool:
    return other is not None and (answer == other or compare(answer, other).is_correct is True)


def _used(score: Score, samples: Sequence[Sample]) -> list[Sample]:
    first: dict[tuple[str, int], Sample] = {}
    for sample in samples:
        completion = sample.completion
        if completion.problem_id in score.per_problem and completion.index < score.num_samples:
            first.setdefault((completion.problem_id, completion.index), sample)
    return [first[place] for place in sorted(first)]


def _powers_of_two(largest: int) -> list[int]:
    powers = [1]
    while powers[-1] * 2 <= largest:
        powers.append(powers[-1] * 2)
    return powers
