from statistics import mean, pstdev, stdev

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.advantages import group_advantages, has_signal, overlong_penalty

rewards_and_groups = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, -0.5, 0.1]), st.integers(0, 3)), min_size=1, max_size=20
)


@given(rewards_and_groups, st.sampled_from(["unbiased", "population", "none"]))
def test_advantages_equal_the_slow_reference(pairs, std):
    reward_B = torch.tensor([reward for reward, _ in pairs])
    group_B = torch.tensor([group for _, group in pairs])
    found_B = group_advantages(reward_B, group_B, std)
    for (_, group), reward, found in zip(pairs, reward_B.tolist(), found_B.tolist(), strict=True):
        peers = [value for value, label in zip(reward_B.tolist(), group_B.tolist(), strict=True) if label == group]
        if max(peers) == min(peers):
            assert found == 0.0
            continue
        spread = {"unbiased": stdev, "population": pstdev, "none": lambda _: 1.0 - 1e-6}[std](peers)
        assert found == pytest.approx((reward - mean(peers)) / (spread + 1e-6), rel=1e-6, abs=1e-7)


def test_a_group_whose_rewards_are_equal_has_no_signal_and_zero_advantage():
    reward_B = torch.tensor([0.1, 0.1, 0.1, 1.0, 0.0, 0.3])
    group_B = torch.tensor([7, 7, 7, 2, 2, 9])
    assert has_signal(reward_B, group_B).tolist() == [False, False, False, True, True, False]
    assert group_advantages(reward_B, group_B).tolist()[:3] == [0.0, 0.0, 0.0]
    assert group_advantages(reward_B, group_B).tolist()[5] == 0.0


def test_the_overlong_penalty_grows_linearly_in_the_buffer():
    length_B = torch.tensor([10, 80, 90, 100])
    found_B = overlong_penalty(length_B, max_tokens=100, buffer=20, factor=0.5)
    assert found_B.tolist() == pytest.approx([0.0, 0.0, -0.25, -0.5])
