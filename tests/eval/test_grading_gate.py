"""The fuzz gate: every gold × respellings must be accepted, × corruptions refused, and cheats never rewarded."""

import runpy
from pathlib import Path

import pytest

FUZZ = runpy.run_path(str(Path(__file__).with_name("fuzz.py")))
MOST_REFUSED, MOST_ACCEPTED = 0.001, 0.0002


def math_verify_accepts(pair):
    """Whether math_verify, called directly on both answers, accepts a pair."""
    from math_verify import parse, verify

    from eval.grading.extract import extract

    answer = extract(pair.response).answer
    return bool(verify(parse(f"\\boxed{{{pair.problem.answer}}}"), parse(f"\\boxed{{{answer}}}")))


def listed(pairs):
    return [(pair.how, pair.response, pair.problem.answer) for pair in pairs]


def assert_floors(figures):
    assert len(figures.refused) <= MOST_REFUSED * figures.num_right, listed(figures.refused)
    assert len(figures.accepted) <= MOST_ACCEPTED * figures.num_wrong, listed(figures.accepted)
    assert listed(figures.rewarded) == []
    assert listed(pair for pair in figures.refused if math_verify_accepts(pair)) == []


def test_a_sample_of_the_golds_passes_the_gate(data_folder):
    figures = FUZZ["run"](data_folder, share=0.01)
    assert figures.num_right > 5_000
    assert figures.num_wrong > 500
    assert_floors(figures)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_all_golds_pass_the_gate(data_folder):
    figures = FUZZ["run"](data_folder, share=1)
    assert figures.num_right > 400_000
    assert_floors(figures)
