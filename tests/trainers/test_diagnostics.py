from dataclasses import replace

import pytest
import torch

from eval.errors import OrchError
from trainers.diagnostics import METRICS, check_ratio, selection_metrics
from trainers.recipe import Selection
from trainers.selection import Tokens, select


def some_tokens():
    """Two responses of four and two tokens; the second has no advantage."""
    mask_BT = torch.tensor([[True] * 4, [True, True, False, False]])
    return Tokens(
        mask_BT=mask_BT,
        advantage_B=torch.tensor([2.0, 0.0]),
        group_B=torch.tensor([0, 0]),
        uid_B=torch.tensor([0, 1]),
        scope_B=torch.tensor([0, 0]),
        logp_BT=torch.tensor([[0.5, 0.25, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]]).log(),
        entropy_BT=torch.tensor([[1.0, 2.0, 1.0, 0.0], [3.0, 1.0, 9.0, 9.0]]),
        purity_BT=torch.tensor([[0.5, 0.25, 0.5, 1.0], [0.5, 0.5, 9.0, 9.0]]),
        weight_BT=torch.tensor([[2.0] * 4, [0.0] * 4]),
        deviation_BT=None,
        draw_seed=0,
    )


def metrics_of(method, ratio, tokens=None):
    tokens = tokens or some_tokens()
    selection = Selection(method=method, ratio=ratio)
    selected_BT = select(tokens, selection, ratio=ratio)
    return selection_metrics(tokens, selected_BT, selection, ratio=ratio), selected_BT


def test_the_metrics_of_a_selection_say_what_was_selected():
    found, selected_BT = metrics_of("ets", 0.5)
    assert selected_BT.tolist() == [[True, True, False, False], [True, False, False, False]]
    expected = {
        "select/asked_ratio": 0.5,
        "select/ratio": 0.5,
        "select/count": 3.0,
        "select/tokens": 6.0,
        "select/empty_share": 0.0,
        "select/entropy": 2.0,
        "tokens/entropy": 8.0 / 6,
        "select/purity": (0.5 + 0.25 + 0.5) / 3,
        "tokens/probability": (0.5 + 0.25 + 0.5 + 1 + 0.5 + 0.5) / 6,
        "select/threshold": 1.0,
        "select/tie_share": 2 / 6,
        "select/share_positive": 2 / 3,
        "select/share_zero": 1 / 3,
        "select/share_negative": 0.0,
        "tokens/share_positive": 4 / 6,
        "select/position_0": 2 / 3,
        "select/position_2": 1 / 3,
        "jaccard/chance": 0.5 / 1.5,
        "jaccard/gmts": 2 / 4,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    square = [4 * (1 - 2 * p + c) for p, c in ((0.5, 0.5), (0.25, 0.25), (0.5, 0.5), (1.0, 1.0))]
    assert found["select/gradient_share"] == pytest.approx((square[0] + square[1]) / sum(square))
    assert set(found) <= set(METRICS)


def test_a_dense_step_has_no_threshold_and_no_overlaps():
    tokens = some_tokens()
    found = selection_metrics(tokens, tokens.mask_BT, Selection(method="full"), ratio=1.0)
    assert found["select/ratio"] == 1.0
    assert found["select/gradient_share"] == pytest.approx(1.0)
    assert not any(name.startswith("jaccard") or name == "select/threshold" for name in found)


def test_no_tokens_give_no_means():
    tokens = replace(some_tokens(), mask_BT=torch.zeros(2, 4, dtype=torch.bool))
    found = selection_metrics(tokens, tokens.mask_BT, Selection(method="ets", ratio=0.2), ratio=0.2)
    assert found == {"select/asked_ratio": 0.2, "select/count": 0.0, "select/tokens": 0.0}


def test_a_selection_that_was_not_applied_is_refused():
    tokens, selection = some_tokens(), Selection(method="ets", ratio=0.2)
    check_ratio(tokens, select(tokens, selection, ratio=0.2), selection, ratio=0.2, step=1)
    with pytest.raises(OrchError, match="step 1 selected 6 of 6"):
        check_ratio(tokens, tokens.mask_BT, selection, ratio=0.2, step=1)
    with pytest.raises(OrchError, match="0 of 6"):
        check_ratio(tokens, tokens.mask_BT & False, Selection(method="full"), ratio=1.0, step=1)


def test_the_overlap_of_responses_selected_from_is_counted_when_some_are_empty():
    found, selected_BT = metrics_of("gmts", 0.3)
    assert selected_BT.any(1).tolist() == [True, False]
    assert found["select/empty_share"] == 0.5
