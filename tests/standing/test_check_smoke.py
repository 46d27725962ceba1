"""The check of the smoke sweep accepts the tables that were seen, and refuses one that shows no learning."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from check_smoke import faults

SELECTIONS = ("full", "ets", "gmts", "ict")
SEEN = {
    "seed 0, Xeon": (22.6, 13.0, 18.6, -5.2, 23.8, 22.4, 19.9, -11.2),
    "seed 1, Xeon": (11.1, 5.2, 14.5, -25.8, 15.7, 17.5, 22.3, -18.4),
    "seed 2, Xeon": (11.7, 6.6, 17.3, -18.3, 19.9, 19.0, 15.8, -13.7),
}
"""Differences from base in points, with errors of about 3: grpo, then dapo, in the order of the selections."""


def table(deltas: tuple[float, ...]) -> dict:
    rows = [{"labels": ["base", "–", "–"], "average": {"avg": 0.373, "delta_base": None, "note": ""}}]
    for number, delta in enumerate(deltas):
        selection = SELECTIONS[number % 4]
        rows.append(row(("grpo", "dapo")[number // 4], selection, "–" if selection == "full" else "0.2", delta=delta))
    rows += [row(algorithm, "random", "0.2", delta=10.0) for algorithm in ("grpo", "dapo")]  # nothing is asked of them
    return {"rows": rows}


def row(*labels: str, delta: float) -> dict:
    difference = {"delta": delta / 100, "standard_error": 0.03}
    return {"labels": [*labels], "average": {"avg": 0.373 + delta / 100, "delta_base": difference, "note": ""}}


@pytest.mark.parametrize("deltas", SEEN.values(), ids=SEEN)
def test_what_was_seen_passes(deltas: tuple[float, ...]) -> None:
    assert faults(table(deltas)) == []


def test_an_arm_on_all_tokens_that_is_not_surely_better_is_told() -> None:
    assert faults(table((5.9, *SEEN["seed 0, Xeon"][1:]))) == ["grpo full does not beat base: +5.9 ± 3.0"]


def test_a_row_without_a_number_and_a_missing_row_are_told() -> None:
    shown = table(SEEN["seed 0, Xeon"])
    shown["rows"][2]["average"] = {"avg": None, "delta_base": None, "note": "failed"}
    assert faults(shown) == ["grpo ets 0.2 has no number: failed"]
    del shown["rows"][5]
    assert faults(shown) == [
        "10 rows instead of 11",
        "grpo ets 0.2 has no number: failed",
        "1 arms on all tokens instead of 2",
    ]


def test_a_p_about_a_method_from_one_seed_is_told() -> None:
    shown = table(SEEN["seed 0, Xeon"])
    average = shown["rows"][1]["average"]
    shown["rows"][1]["average"] = average | {"num_seeds": 1, "delta_base": average["delta_base"] | {"p_method": 0.001}}
    assert faults(shown) == ["grpo full has a p about a method from one seed"]


def test_the_target_and_ci_run_the_check() -> None:
    root = Path(__file__).parents[2]
    for file in ("Makefile", ".ci/run"):
        assert "orch table smoke --format json" in (root / file).read_text()
        assert "tests/standing/check_smoke.py" in (root / file).read_text()
