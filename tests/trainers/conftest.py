"""A selection method that the project does not have, registered as CONTRIBUTING.md tells a newcomer to."""

from __future__ import annotations

import pytest
from torch import Tensor

from trainers.head.deviation import DISTANCES
from trainers.methods import METHODS, RANKED, Method
from trainers.recipe import Selection
from trainers.selection import SELECTORS, Tokens

NEWCOMER = "sure_outlier"
"""No prefix of a name that the project has: what is known of it, code must have from its row."""


def total_variation(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    return (p_NV - q_NV).abs().sum(-1) / 2


def sure_outlier(tokens: Tokens, selection: Selection) -> Tensor:
    """Far from the group's mean, and the policy is sure of it: TV(p ‖ p̄)·C."""
    assert tokens.deviation_BT is not None
    return tokens.deviation_BT * tokens.purity_BT


@pytest.fixture
def newcomer(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the method's name; its function, its row and a distance of its own are registered for one test."""
    row = Method(
        name=NEWCOMER,
        summary="largest total variation from the group's mean, times the purity",
        paper="none: a test's",
        options=RANKED,
        required=frozenset({"ratio"}),
        distance="total_variation",  # a newcomer adds the name to `Distance` as well
    )
    monkeypatch.setitem(METHODS, NEWCOMER, row)
    monkeypatch.setitem(SELECTORS, NEWCOMER, sure_outlier)
    monkeypatch.setitem(DISTANCES, "total_variation", total_variation)
    return NEWCOMER
