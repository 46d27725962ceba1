from trainers.checkpoints import kept_steps
from trainers.recipe import Resources

REWARDS = {10: 0.2, 20: 0.5, 30: 0.5, 40: None, 50: 0.3}


def test_the_newest_alone_are_kept_unless_more_is_asked_for():
    assert kept_steps(REWARDS, Resources()) == {50}
    assert kept_steps(REWARDS, Resources(keep_checkpoints=2)) == {40, 50}
    assert kept_steps({}, Resources()) == frozenset()


def test_the_best_are_kept_beside_them_and_of_equal_ones_the_later():
    assert kept_steps(REWARDS, Resources(keep_best=1)) == {30, 50}
    assert kept_steps(REWARDS, Resources(keep_best=3)) == {20, 30, 50}


def test_every_kth_step_is_kept_for_good():
    assert kept_steps(REWARDS, Resources(keep_every=20)) == {20, 40, 50}
