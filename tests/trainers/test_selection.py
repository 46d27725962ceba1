import json
from dataclasses import replace
from math import ceil, cos, pi
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.errors import OrchError
from trainers.head.deviation import js_bound
from trainers.methods import METHODS, PRESETS
from trainers.recipe import Selection
from trainers.selection import SELECTORS, Tokens, keep_ratio, quota, scopes, select

RANKED = [name for name, method in METHODS.items() if method.has_ratio]
SCOPES = ["batch", "mini_batch", "micro_batch", "group", "response"]


def a_selection(method, /, **changes):
    values = {"method": method}
    if METHODS[method].has_ratio:
        values["ratio"] = 0.3
    if method.startswith("stapo"):
        values |= {"probability_threshold": 0.2, "entropy_quantile": 0.8}
    if changes.get("scope") == "micro_batch":
        values["scope_sequences"] = 2
    return Selection(**(values | changes))


def a_preset(name, **changes):
    switches = dict(PRESETS[name]) | {"preset": name} | changes
    return a_selection(switches.pop("method"), **switches)


def some_tokens(seed, lengths, *, levels=4, scope="batch"):
    """Ragged responses in groups of two whose scores take few values, so that ties abound."""
    generator = torch.Generator().manual_seed(seed)
    rows, width = len(lengths), max([*lengths, 1])

    def draw():
        return torch.randint(levels, (rows, width), generator=generator).float() / levels

    group_B = torch.arange(rows) // 2
    selection = a_selection("ets", scope=scope)
    return Tokens(
        mask_BT=torch.arange(width) < torch.tensor(lengths)[:, None],
        advantage_B=torch.randint(-1, 2, (rows,), generator=generator).float(),
        group_B=group_B,
        uid_B=torch.randperm(1000, generator=generator)[:rows],
        scope_B=scopes(selection, group_B, group_B // 2),
        logp_BT=-3 * draw(),
        entropy_BT=draw(),
        purity_BT=draw(),
        weight_BT=2 * draw() - 1,
        deviation_BT=draw(),
        draw_seed=seed,
    )


def slow_top_share(score_BT, tokens, ratio, end, count_rule):
    """Rank each scope's tokens by (score, position, uid) with Python's sort and keep the first k."""
    places = [tuple(place) for place in tokens.mask_BT.nonzero().tolist()]
    kept = set()
    for label in set(tokens.scope_B.tolist()):
        mine = [(b, t) for b, t in places if int(tokens.scope_B[b]) == label]
        if not mine:
            continue
        sign = -1 if end == "top" else 1
        mine.sort(key=lambda place: (sign * float(score_BT[place]), place[1], int(tokens.uid_B[place[0]])))
        if count_rule == "keep_ties":
            values = sorted(float(score_BT[place]) * -sign for place in mine)
            threshold = float(torch.quantile(torch.tensor(values, dtype=torch.float64), 1 - ratio))
            kept |= {place for place in mine if float(score_BT[place]) * -sign >= threshold - 1e-12}
            continue
        k = ceil(ratio * len(mine) - 1e-9)
        if count_rule == "floor":
            k = len(mine) - ceil((1 - ratio) * len(mine) - 1e-9)
        kept |= set(mine[: max(k, 1)])
    return kept


lengths_lists = st.lists(st.integers(0, 7), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    lengths_lists,
    st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]),
    st.sampled_from(RANKED),
    st.sampled_from(SCOPES),
    st.sampled_from(["top", "bottom"]),
    st.sampled_from(["exact", "floor", "keep_ties"]),
)
def test_every_ranked_method_keeps_the_top_share_of_each_scope(seed, lengths, ratio, method, scope, end, count_rule):
    if method == "random":
        end, count_rule = "top", "exact"
    tokens = some_tokens(seed, lengths, scope=scope)
    selection = a_selection(method, scope=scope, end=end, count_rule=count_rule, ratio=ratio)
    found_BT = select(tokens, selection, ratio=ratio)
    score_BT = SELECTORS[method](tokens, selection)
    expected = slow_top_share(score_BT, tokens, ratio, end, count_rule)
    assert {tuple(place) for place in found_BT.nonzero().tolist()} == expected


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), lengths_lists, st.sampled_from(sorted(SELECTORS)), st.integers(0, 3), st.data())
def test_selection_does_not_depend_on_order_or_padding(seed, lengths, method, pad, data):
    tokens = some_tokens(seed, lengths)
    selection = a_selection(method)
    expected_BT = select(tokens, selection, ratio=0.3)
    order = torch.tensor(data.draw(st.permutations(range(len(lengths)))))

    def moved(name):
        value = getattr(tokens, name)[order]
        return torch.nn.functional.pad(value, (0, pad)) if name.endswith("_BT") else value

    names = [name for name in tokens.__dataclass_fields__ if name != "draw_seed"]
    changed = replace(tokens, **{name: moved(name) for name in names})
    found_BT = select(changed, selection, ratio=0.3)
    assert torch.equal(found_BT[:, : expected_BT.shape[1]], expected_BT[order])
    assert not bool(found_BT[:, expected_BT.shape[1] :].any())


def test_a_ratio_of_one_keeps_everything_under_every_rule():
    tokens = some_tokens(3, [4, 0, 7, 1])
    for method in RANKED:
        for count_rule in ["exact"] if method == "random" else ["exact", "floor", "keep_ties"]:
            selection = a_selection(method, count_rule=count_rule, ratio=1.0)
            assert torch.equal(select(tokens, selection, ratio=1.0), tokens.mask_BT)


def test_ties_go_to_the_earliest_position_then_to_the_lowest_uid():
    tokens = replace(some_tokens(0, [3, 3]), entropy_BT=torch.ones(2, 3), uid_B=torch.tensor([9, 4]))
    found_BT = select(tokens, a_selection("ets", ratio=0.5), ratio=0.5)
    assert found_BT.tolist() == [[True, False, False], [True, True, False]]


def test_keeping_ties_may_keep_more_than_the_share():
    tokens = replace(some_tokens(0, [4]), entropy_BT=torch.tensor([[1.0, 2.0, 2.0, 2.0]]))
    found_BT = select(tokens, a_selection("ets", ratio=0.25, count_rule="keep_ties"), ratio=0.25)
    assert found_BT.tolist() == [[False, True, True, True]]


def test_nothing_is_selected_among_no_tokens():
    tokens = some_tokens(0, [0, 0])
    for method in SELECTORS:
        assert not bool(select(tokens, a_selection(method), ratio=0.3).any())


def test_shares_are_meant_exactly_and_at_least_one_token_is_kept():
    size_S = torch.tensor([10, 3, 1, 30])
    assert quota(size_S, 0.7, a_selection("ets", ratio=0.7)).tolist() == [7, 3, 1, 21]
    assert quota(size_S, 0.1, a_selection("ets", ratio=0.1)).tolist() == [1, 1, 1, 3]
    assert quota(size_S, 0.2, a_selection("ets", ratio=0.2, count_rule="floor")).tolist() == [2, 1, 1, 6]
    assert quota(size_S, 0.3, a_selection("ets", count_rule="keep_ties")).tolist() == [3, 1, 1, 9]


def test_a_score_that_is_not_a_number_stops_the_run():
    tokens = some_tokens(0, [3, 3])
    broken_BT = tokens.entropy_BT.clone()
    broken_BT[0, 1] = float("nan")
    with pytest.raises(OrchError, match="not numbers"):
        select(replace(tokens, entropy_BT=broken_BT), a_selection("ets"), ratio=0.3)


def test_gmts_ranks_like_entropy_inside_a_response_and_drops_zero_advantage():
    tokens = some_tokens(5, [40] * 6, levels=10**6, scope="response")
    advantage_B = torch.tensor([1.3, -0.2, 0.7, -2.0, 0.4, 0.9])
    tokens = replace(tokens, advantage_B=advantage_B, weight_BT=advantage_B[:, None].expand(6, 40))
    by_entropy = select(tokens, a_selection("ets", scope="response"), ratio=0.2)
    assert torch.equal(select(tokens, a_selection("gmts", scope="response"), ratio=0.2), by_entropy)
    advantage_B = torch.tensor([1.3, 0.0, 0.0, -2.0, 0.0, 0.0])
    tokens = replace(tokens, weight_BT=advantage_B[:, None].expand(6, 40), scope_B=torch.zeros(6, dtype=torch.int64))
    found_BT = select(tokens, a_selection("gmts"), ratio=0.2)
    assert found_BT.any(1).tolist() == [True, False, False, True, False, False]


def test_gnorm_is_the_norm_of_the_gradient_at_the_logits():
    generator = torch.Generator().manual_seed(0)
    logits_NV = torch.randn(6, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    weight_N = torch.randn(6, dtype=torch.float64, generator=generator)
    logp_NV = torch.log_softmax(logits_NV, -1)
    (weight_N * logp_NV[:, 2]).sum().backward()
    tokens = replace(
        some_tokens(0, [6]),
        logp_BT=logp_NV.detach()[None, :, 2],
        purity_BT=logp_NV.detach().exp().square().sum(-1)[None],
        weight_BT=weight_N[None],
    )
    found_BT = SELECTORS["gnorm"](tokens, a_selection("gnorm"))
    torch.testing.assert_close(found_BT[0], logits_NV.grad.norm(dim=-1))


def test_ict_adds_the_advantage_and_divides_by_the_bound_of_its_cell():
    tokens = some_tokens(1, [2, 1, 1])
    plain_BT = SELECTORS["ict"](tokens, a_selection("ict"))
    assert torch.equal(plain_BT, tokens.deviation_BT)
    rewarded_BT = SELECTORS["ict"](tokens, a_selection("ict", advantage_weight=0.5))
    torch.testing.assert_close(rewarded_BT, plain_BT + 0.5 * tokens.advantage_B.abs()[:, None])
    divided_BT = SELECTORS["ict"](tokens, a_selection("ict", divide_by_bound=True))
    two = float(js_bound(torch.tensor([2])))
    assert float(divided_BT[0, 0]) == pytest.approx(float(plain_BT[0, 0]) / two)
    assert float(divided_BT[0, 1]) == 0.0  # the only member left at that position
    alone_BT = SELECTORS["ict"](tokens, a_selection("ict", divide_by_bound=True, leave_one_out=True))
    assert float(alone_BT[1, 0]) == pytest.approx(float(plain_BT[1, 0]) / 0.6931471805599453)


def stapo_slowly(tokens, selection, version):
    kept = set()
    tau = selection.probability_threshold
    for label in set(tokens.scope_B.tolist()):
        places = [(b, t) for b, t in tokens.mask_BT.nonzero().tolist() if int(tokens.scope_B[b]) == label]
        unlikely = {(b, t) for b, t in places if tokens.advantage_B[b] > 0 and float(tokens.logp_BT[b, t].exp()) < tau}
        pool = [float(tokens.entropy_BT[place]) for place in (places if version == 1 else unlikely)]
        bound = torch.quantile(torch.tensor(pool).double(), selection.entropy_quantile) if pool else -1.0
        kept |= {place for place in places if not (place in unlikely and tokens.entropy_BT[place] < bound)}
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), lengths_lists, st.sampled_from(SCOPES), st.sampled_from([1, 4]))
def test_stapo_drops_unlikely_calm_tokens_of_rewarded_responses(seed, lengths, scope, version):
    tokens = some_tokens(seed, lengths, scope=scope, levels=10)
    selection = a_selection(f"stapo_v{version}", scope=scope)
    found_BT = select(tokens, selection, ratio=1.0)
    assert {tuple(place) for place in found_BT.nonzero().tolist()} == stapo_slowly(tokens, selection, version)


def test_random_draws_depend_on_seed_step_uid_and_position_only():
    tokens = some_tokens(4, [50, 50, 50])
    draws_BT = SELECTORS["random"](tokens, a_selection("random"))
    alone = replace(
        tokens, uid_B=tokens.uid_B[1:2], mask_BT=tokens.mask_BT[1:2, :9], scope_B=tokens.scope_B[1:2]
    )  # fmt: skip
    assert torch.equal(SELECTORS["random"](alone, a_selection("random"))[0], draws_BT[1, :9])
    other = SELECTORS["random"](replace(tokens, draw_seed=5), a_selection("random"))
    assert not bool((other == draws_BT).any())
    assert 0.4 < float(draws_BT.mean()) < 0.6


def test_schedules_move_the_ratio_from_its_start_to_its_end():
    def ratios(steps, **changes):
        return [keep_ratio(a_selection("ets", ratio=0.2, **changes), step) for step in steps]

    assert ratios([1, 100]) == [0.2, 0.2]
    assert ratios([1, 2, 3], warmup_steps=2) == [1.0, 1.0, 0.2]
    assert ratios([1, 6, 11, 50], schedule="linear", schedule_steps=10) == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert ratios([1, 3], schedule="linear", schedule_steps=2, schedule_from=0.1) == pytest.approx([0.1, 0.2])
    quarter = 0.2 + 0.8 * (1 + cos(pi / 4)) / 2
    assert ratios([1, 2, 5], schedule="cosine", schedule_steps=4) == pytest.approx([1.0, quarter, 0.2])
    steps = {"schedule": "steps", "schedule_list": ((3, 0.5), (6, 0.2))}
    assert ratios([1, 2, 3, 5, 6, 9], **steps) == [1.0, 1.0, 0.5, 0.5, 0.2, 0.2]
    assert keep_ratio(a_selection("full"), 7) == 1.0


def test_micro_batches_are_cut_inside_their_mini_batch():
    mini_batch_B = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    labels = scopes(a_selection("ets", scope="micro_batch"), torch.zeros(7, dtype=torch.int64), mini_batch_B).tolist()
    assert [labels.index(label) for label in labels] == [0, 0, 2, 3, 3, 5, 5]


def test_every_declared_method_and_preset_has_a_selector():
    assert set(SELECTORS) == set(METHODS)
    for name, selector in SELECTORS.items():
        is_rule = selector(some_tokens(0, [2, 3]), a_selection(name)).dtype == torch.bool
        assert is_rule == (not METHODS[name].has_ratio), "a method with a ratio gives a score, any other a mask"
    for name, switches in PRESETS.items():
        selection = a_preset(name)
        assert selection.method == switches["method"]
        assert select(some_tokens(0, [3, 4]), selection, ratio=0.3).any()


def test_the_trl_preset_selects_what_trl_selects():
    golden = json.loads(Path(__file__).with_name("trl_masks.json").read_text())
    for case in golden["cases"]:
        entropy_BT, mask_BT = torch.tensor(case["entropies"]), torch.tensor(case["mask"], dtype=torch.bool)
        rows = len(mask_BT)
        tokens = replace(some_tokens(0, [1] * rows), mask_BT=mask_BT, entropy_BT=entropy_BT)
        selection = a_preset("trl", ratio=case["ratio"])
        assert select(tokens, selection, ratio=case["ratio"]).tolist() == case["selected"]
