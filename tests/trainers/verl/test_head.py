"""The head that answers questions, without verl: alone, capped, under autocast, and sharded by FSDP2."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen2Config

from eval.engines.vocabulary import mark_tokens
from trainers.verl.inside.head import LOG_PROB_NAMES, LOSS_NAMES, SCORE_NAMES, AskedHead, Question

SMALL = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "attn_implementation": "eager",
    "pad_token_id": 0,
}
TOKENS = torch.arange(1, 13).reshape(2, 6)
PLACE_N = torch.tensor([1, 2, 4, 7, 9])
"""Into the flattened positions: the tokens behind them are the responses."""
TOKEN_N = TOKENS.flatten()[PLACE_N + 1]


def a_model(config=None):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config or Qwen2Config(**SMALL, tie_word_embeddings=True))


def asked(model, head, names=LOSS_NAMES, **options):
    head.ask(Question(names=names, place_N=PLACE_N, token_N=TOKEN_N, temperature=0.7, **options))
    with head.without_cap():
        return model(TOKENS, use_cache=False).logits[0].unbind(-1)


def loss_of(values):
    weight_N = torch.arange(1.0, 6.0)
    return sum((weight_N * value_N).sum() for value_N in values)


def plainly(model):
    """Log-probs and entropies from the logits of all positions."""
    logp_NV = torch.log_softmax(model(TOKENS, use_cache=False).logits.flatten(0, 1)[PLACE_N].float() / 0.7, -1)
    return logp_NV.gather(1, TOKEN_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


@pytest.mark.parametrize("config", [None, Gemma2Config(**SMALL, final_logit_softcapping=0.1)])
def test_answers_and_gradients_are_those_of_logits(config):
    model = a_model(config)
    expected = plainly(model)
    gradients = torch.autograd.grad(loss_of(expected), list(model.parameters()))
    head = AskedHead.install(model)
    found = asked(model, head)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss_of(found), list(model.parameters())), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    cell_N = torch.tensor([0, 1, 2, 0, 1])
    scores = asked(model, head, SCORE_NAMES, cell_N=cell_N, distance="js")
    assert len(scores) == len(SCORE_NAMES)
    assert float(scores[3][2]) == 0.0, "alone in its cell"
    assert float(scores[3][0]) > 0.0
    assert getattr(model.config, "final_logit_softcapping", None) == (None if config is None else 0.1)


def test_rows_of_the_head_that_are_no_token_get_no_probability():
    model = a_model()
    logits_NV = model(TOKENS).logits.flatten(0, 1)[PLACE_N, :30].float() / 0.7
    expected_N = torch.log_softmax(logits_NV, -1).gather(1, TOKEN_N[:, None])[:, 0]
    mark_tokens(model, range(30))  # of 48 rows
    found_N, _ = asked(model, AskedHead.install(model))
    torch.testing.assert_close(found_N, expected_N, atol=1e-6, rtol=1e-5)
    found_N.sum().backward()
    untied = a_model(Qwen2Config(**SMALL, tie_word_embeddings=False))
    mark_tokens(untied, range(30))
    asked(untied, AskedHead.install(untied))[0].sum().backward()
    assert bool((untied.lm_head.weight.grad[30:] == 0).all()), "padding is not trained"
    assert bool((untied.lm_head.weight.grad[:30] != 0).any())


def test_autocast_rounds_the_product_and_nothing_behind_it():
    model = a_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = torch.log_softmax(model(TOKENS).logits.flatten(0, 1)[PLACE_N].float() / 0.7, -1)
        (found,) = asked(model, AskedHead.install(model), LOG_PROB_NAMES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.gather(1, TOKEN_N[:, None])[:, 0], atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")  # of changes in place, which are not made
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("num_shards", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_shards_have_the_gradients_of_the_whole(tmp_path, num_shards, is_tied):
    options = (num_shards, str(tmp_path / "store"), is_tied)
    if num_shards == 1:
        one_shard(0, *options)
    else:
        torch.multiprocessing.spawn(one_shard, args=options, nprocs=num_shards)
    for rank in range(num_shards):
        worst = torch.load(tmp_path / f"worst{rank}")
        assert worst < 1e-5


def one_shard(rank, world_size, store, is_tied):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    model = a_model(Qwen2Config(**SMALL, tie_word_embeddings=is_tied))
    plain = copy.deepcopy(model)
    loss_of(plainly(plain)).backward()
    head = AskedHead.install(model)
    mesh = dist.init_device_mesh("cpu", (world_size,))
    policy = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    loss_of(asked(model, head)).backward()
    differences = [
        (value.grad.full_tensor() - expected.grad).abs().max()
        for value, expected in zip(model.parameters(), plain.parameters(), strict=True)
    ]
    torch.save(float(torch.stack(differences).max()), Path(store).parent / f"worst{rank}")
    dist.destroy_process_group()


GROUP_N = torch.tensor([0, 0, 4, 4, 4])
"""Of the tokens at `PLACE_N`: both rows belong to both groups, so that every group lasts for two passes."""
CELL_N = torch.tensor([0, 1, 4, 4, 5])


def in_passes(model, head, cuts, **options):
    """Scores of the tokens, (N, K), in one pass over each cut: places into `PLACE_N`, and the groups that end there."""
    with torch.no_grad(), head.over_passes() as answers:
        for places, ended in cuts:
            question = Question(
                names=SCORE_NAMES,
                place_N=PLACE_N[places],
                token_N=TOKEN_N[places],
                temperature=0.7,
                cell_N=CELL_N[places],
                group_N=GROUP_N[places],
                complete_G=torch.tensor(ended, dtype=torch.int64),
                **options,
            )
            head.ask(question)
            with head.without_cap():
                model(TOKENS, use_cache=False)
        return torch.cat([answer_NK.clone() for answer_NK in answers])


ONE_PASS = [([0, 1, 2, 3, 4], [0, 4])]
SEVERAL = [([0], []), ([1, 2], [0]), ([3], []), ([4], [4])]
"""The second group goes on over three passes, and its last member does not reach its first position."""


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("distance", ["js", "kl", "wasserstein"])
def test_a_group_over_several_passes_is_scored_as_in_one(distance, leave_one_out):
    model = a_model()
    head = AskedHead.install(model)
    options = {"distance": distance, "leave_one_out": leave_one_out}
    whole_NK, parts_NK = (in_passes(model, head, cuts, **options) for cuts in (ONE_PASS, SEVERAL))
    torch.testing.assert_close(parts_NK, whole_NK, atol=1e-7, rtol=1e-6)
    assert (whole_NK[:, 3] > 0).tolist() == [False, False, True, True, False], "alone in its cell"


def test_what_waits_does_not_outlive_its_call():
    model = a_model()
    head = AskedHead.install(model)
    whole_NK = in_passes(model, head, ONE_PASS, distance="js")
    in_passes(model, head, [([2, 3], [])], distance="js")
    torch.testing.assert_close(in_passes(model, head, ONE_PASS, distance="js"), whole_NK, atol=0, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")  # of changes in place, which are not made
def test_a_vocabulary_cut_over_two_workers_is_gathered_for_every_pass(tmp_path):
    torch.multiprocessing.spawn(one_scoring_shard, args=(2, str(tmp_path / "store")), nprocs=2)
    found = [torch.load(tmp_path / f"scores{rank}") for rank in range(2)]
    assert found[0]["rows"] == found[1]["rows"] == SMALL["vocab_size"] // 2
    for one in found:
        torch.testing.assert_close(one["parts"], one["whole"], atol=1e-6, rtol=1e-5)


def one_scoring_shard(rank, world_size, store):
    """Score in several passes with half of the head, beside one pass with all of it."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    model = a_model(Qwen2Config(**SMALL, tie_word_embeddings=False))
    plain = copy.deepcopy(model)
    whole_NK = in_passes(plain, AskedHead.install(plain), ONE_PASS, distance="js")
    head = AskedHead.install(model)
    mesh = dist.init_device_mesh("cpu", (world_size,))
    for part in (*model.model.layers, model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    parts_NK = in_passes(model, head, SEVERAL, distance="js")
    rows = len(model.lm_head.weight.to_local())
    torch.save({"whole": whole_NK, "parts": parts_NK, "rows": rows}, Path(store).parent / f"scores{rank}")
    dist.destroy_process_group()
