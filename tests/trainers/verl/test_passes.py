"""Scoring passes where groups are averaged: each row once, in order, and as many as on other workers."""

from hypothesis import given
from hypothesis import strategies as st

from trainers.verl.inside.passes import cut_by_tokens, cut_into, ends_here

LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=20)


def rows_of(passes):
    return [row for rows in passes for row in rows]


def tokens_of(lengths, passes):
    return [sum(lengths[row] for row in rows) for rows in passes]


@given(LENGTHS, st.integers(1, 300))
def test_a_pass_is_full_and_longer_than_the_limit_only_if_one_row_is(lengths, limit):
    passes = cut_by_tokens(lengths, limit)
    assert rows_of(passes) == list(range(len(lengths)))
    for rows, tokens in zip(passes, tokens_of(lengths, passes), strict=True):
        assert rows
        assert tokens <= limit or len(rows) == 1
        assert rows.stop == len(lengths) or tokens + lengths[rows.stop] > limit


@given(LENGTHS, st.integers(1, 300), st.integers(0, 20))
def test_a_worker_makes_as_many_passes_as_the_one_with_the_most(lengths, limit, more):
    fewest = len(cut_by_tokens(lengths, limit))
    passes = cut_into(lengths, min(fewest + more, len(lengths)))
    assert len(passes) == min(fewest + more, len(lengths))
    assert all(passes)
    assert rows_of(passes) == list(range(len(lengths)))
    assert max(tokens_of(lengths, passes)) <= max(limit, *lengths)


def test_passes_are_even():
    assert tokens_of([5] * 9, cut_by_tokens([5] * 9, 20)) == [20, 20, 5]
    assert tokens_of([5] * 9, cut_into([5] * 9, 3)) == [15, 15, 15]


def test_a_group_ends_in_the_pass_of_its_last_member():
    assert ends_here([["a", "a"], ["a", "b"], ["b", "c"]]) == [[False, False], [True, False], [True, True]]
