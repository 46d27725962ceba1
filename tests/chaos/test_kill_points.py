"""Kill -9 at random moments of one sweep: what comes out is what an undisturbed sweep gives, byte for byte."""

from collections import Counter
from random import Random

from arena import NUM_STEPS, Arena, MakeArena
from fingerprint import assert_same, results
from kills import disturb
from leftovers import temporary_files, temporary_folders


def test_trials_differ_so_that_a_mix_up_would_show(undisturbed: Arena) -> None:
    found = results(undisturbed.runs)
    assert len(found) == undisturbed.num_trials
    weights = [tuple(one["weights"].values()) for one in found.values() if one["weights"]]
    assert len(weights) == len(set(weights)) == undisturbed.num_trials - 1
    assert all(len(one["metrics"]) == NUM_STEPS for one in found.values() if one["weights"])
    assert any(row["reward/mean"] > 0 for one in found.values() for row in one["metrics"].values())


def test_a_sweep_killed_at_random_moments_equals_an_undisturbed_one(
    undisturbed: Arena, make_arena: MakeArena, dice: Random, tally: Counter[str], num_kills: int
) -> None:
    arena = make_arena(undisturbed.axes)
    num_steps = (arena.num_trials - 1) * NUM_STEPS
    toll = disturb(arena, dice, num_kills=num_kills, max_steps=min(4, max(1, num_steps // num_kills)))
    num_more = arena.finish()

    assert_same(arena, undisturbed)
    assert temporary_files(arena.runs) == []
    assert len(temporary_folders(arena.temporary)) <= 1, (
        "the last one killed leaves its folder to the next that needs one"
    )

    tally.update({f"kill points: {victim}": number for victim, number in toll.kills.items()})
    tally["kill points after the last trial"] += toll.num_after_the_end
    tally["drivers started for them"] += toll.num_drivers + num_more
    tally["attempts beyond the first of a trial"] += sum(len(one["attempts"]) - 1 for one in arena.records().values())
