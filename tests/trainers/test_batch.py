import pytest
import torch

from trainers.batch import RolloutBatch


def a_batch(**changes):
    values = {
        "tokens_BS": torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13], [14, 15, 0, 0, 0]]),
        "prompt_length_B": torch.tensor([2, 1, 2]),
        "response_length_B": torch.tensor([2, 4, 0]),
        "group_B": torch.tensor([0, 0, 1]),
        "uid_B": torch.tensor([100, 101, 102]),
        "reward_B": torch.tensor([1.0, 0.0, 0.0]),
        "advantage_B": torch.tensor([0.7, -0.7, 0.0]),
    }
    return RolloutBatch(**(values | changes))


def test_the_response_follows_its_prompt_without_a_gap():
    batch = a_batch()
    assert batch.response_BT.tolist() == [[7, 8, 0, 0], [10, 11, 12, 13], [0, 0, 0, 0]]
    assert batch.response_mask_BT.sum(1).tolist() == [2, 4, 0]


def test_taking_rows_reorders_every_tensor_and_keeps_widths():
    batch = a_batch(old_logp_BT=torch.arange(12.0).reshape(3, 4)).take(torch.tensor([2, 0]))
    assert batch.uid_B.tolist() == [102, 100]
    assert batch.old_logp_BT.tolist() == [[8.0, 9.0, 10.0, 11.0], [0.0, 1.0, 2.0, 3.0]]
    assert batch.response_mask_BT.tolist() == [[False] * 4, [True, True, False, False]]


def test_a_response_that_runs_past_the_row_is_our_bug():
    with pytest.raises(AssertionError):
        a_batch(response_length_B=torch.tensor([4, 4, 0]))
