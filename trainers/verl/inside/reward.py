"""The reward inside verl's reward workers: the verdict of evaluation, as in every backend."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from eval.api import Problem
from trainers.rewards import rewards


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, float]:
    """Return the reward of a response; the names are verl's, `ground_truth` is what `problem_json` wrote."""
    (reward,) = rewards([(solution_str, read_problem(ground_truth))])
    return {"score": reward.value, "acc": reward.value, "has_answer": float(reward.has_answer)}


def problem_json(problem: Problem) -> str:
    """A problem as a cell of the prompt file."""
    return json.dumps(asdict(problem), ensure_ascii=False)


def read_problem(text: str) -> Problem:
    """The problem of a cell that `problem_json` wrote."""
    values = json.loads(text)
    return Problem(**{**values, "choices": tuple(values["choices"])})
