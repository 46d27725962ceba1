"""Scores do not depend on how verl cuts and lays out a batch: workers, passes by tokens, rows end to end or padded.

verl's own engine and its own cutting into micro-batches, without processes. Needs verl: slow, and of .venv-verl.
"""

import copy
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eval.engines.vocabulary import mark_tokens, num_tokens
from trainers.lite.score import policy_scores
from trainers.methods import METHODS as KNOWN
from trainers.verl.inside.step import dispatch_order
from trainers.verl.launch.overrides import PACKED_ATTENTION
from trainers.verl.launch.support import sequences_together

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*engine is not available")]
tu = pytest.importorskip("verl.utils.tensordict_utils", reason="make verl builds .venv-verl, which has it")

_spec = spec_from_file_location("scored_step", Path(__file__).parents[1] / "lite" / "scored_step.py")
step = module_from_spec(_spec)
_spec.loader.exec_module(step)

GROUP_SIZE = 3
METHODS = {
    "ict": {"method": "ict", "ratio": 0.4, "scope": "response"},
    "ict_leave_one_out": {"method": "ict", "ratio": 0.4, "scope": "response", "leave_one_out": True},
    "ict_wass": {"method": "ict_wass", "ratio": 0.4, "scope": "response"},
    "ets": {"method": "ets", "ratio": 0.4},
    "newcomer": {"method": "sure_outlier", "ratio": 0.4},  # of tests/trainers/conftest.py
}
LAYOUTS = {
    "padded": {"use_remove_padding": False, "use_dynamic_bsz": False, "micro_batch_size_per_gpu": GROUP_SIZE},
    "padded, row by row": {"use_remove_padding": False, "use_dynamic_bsz": False, "micro_batch_size_per_gpu": 1},
    "padded, by tokens": {"use_remove_padding": False, "use_dynamic_bsz": True, "max_token_len_per_gpu": 50},
    "end to end": {"use_remove_padding": True, "use_dynamic_bsz": False, "micro_batch_size_per_gpu": GROUP_SIZE},
    "end to end, by tokens": {"use_remove_padding": True, "use_dynamic_bsz": True, "max_token_len_per_gpu": 50},
    "end to end, by few tokens": {"use_remove_padding": True, "use_dynamic_bsz": True, "max_token_len_per_gpu": 20},
}
CUT = ("padded, row by row", "end to end, by few tokens")
"""Layouts whose passes are shorter than a group."""


def an_engine(model):
    """The engine's handling of inputs and outputs, without its processes; the model's head answers its questions."""
    from verl.utils.torch_functional import entropy_from_logits

    from trainers.verl.inside.engine import ScoringEngine
    from trainers.verl.inside.head import AskedHead

    engine = ScoringEngine.__new__(ScoringEngine)
    engine.compute_entropy_from_logits = entropy_from_logits
    engine.pad_to_length = engine.use_ulysses_sp = False
    engine.ulysses_device_mesh, engine.ulysses_sequence_parallel_size = None, 1
    engine._autocast_dtype = torch.float32
    engine.engine_config = SimpleNamespace(entropy_checkpointing=False, entropy_from_logits_with_chunking=False)
    engine.module, engine.head = model, AskedHead.install(model)
    return engine


def attending_as_in(layout, model):
    """The model with the attention that a layout gets."""
    import trainers.verl.inside.attention  # noqa: F401  # registers itself

    copied = copy.deepcopy(model)
    copied.set_attn_implementation(PACKED_ATTENTION if layout["use_remove_padding"] else "sdpa")
    return copied


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def data_of(batch, rows, recipe, layout):
    """Some rows as verl's workers get them."""
    from trainers.verl.inside.engine import DISTANCE, LEAVE_ONE_OUT, SCORES

    lengths = [(int(batch.prompt_length_B[row]), int(batch.response_length_B[row])) for row in rows]
    tokens = [batch.tokens_BS[row, : sum(length)] for row, length in zip(rows, lengths, strict=True)]
    distance = KNOWN[recipe.selection.method].distance
    told = {"temperature": recipe.temperature, SCORES: True, DISTANCE: distance or "", "calculate_entropy": True}
    told |= {LEAVE_ONE_OUT: bool(recipe.selection.leave_one_out), "pad_token_id": 0} | layout
    return tu.get_tensordict(
        tensor_dict={
            "input_ids": nested(tokens),
            "position_ids": nested([torch.arange(len(row)) for row in tokens]),
            "responses": nested([row[start:] for row, (start, _) in zip(tokens, lengths, strict=True)]),
            "row": torch.tensor(rows),
            "loss_mask": torch.ones(len(rows)),
            "uid": [f"prompt {int(batch.group_B[row])}" for row in rows],
        },
        non_tensor_dict=told,
    )


def scores_of(model, batch, recipe, layout, num_workers):
    """(B, T) of each score, through every worker's passes; and the rows of each pass."""
    engine, passes = an_engine(attending_as_in(layout, model)), []
    found = {name: torch.zeros(batch.response_mask_BT.shape) for name in ("log_probs", "entropy", "orch_deviation")}
    lengths = (batch.prompt_length_B + batch.response_length_B).tolist()
    together = sequences_together(recipe)
    order = dispatch_order(lengths, mini_batch_rows=6, num_workers=num_workers, together=together)
    share = len(order) // num_workers
    forward_step = engine.forward_step

    def noted(micro_batch, *arguments, **options):
        passes.append(micro_batch["row"].tolist())
        return forward_step(micro_batch, *arguments, **options)

    engine.forward_step = noted
    for worker in range(num_workers):
        rows = order[worker * share : (worker + 1) * share]
        output = engine.forward_backward_batch(data_of(batch, rows, recipe, layout), None, forward_only=True)
        for name, values_BT in found.items():
            for row, values in zip(rows, output["model_output"][name].unbind(), strict=True):
                start, length = int(batch.prompt_length_B[row]), int(batch.response_length_B[row])
                values_BT[row, :length] = values[start - 1 : start + length - 1].float()
    return found, passes


def num_cut(passes):
    """Groups that do not lie in one pass."""
    groups = [{row // GROUP_SIZE for row in rows} for rows in passes]
    return sum(map(len, groups)) - len(set.union(*groups))


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """One worker on a CPU, to verl."""
    from verl.plugin.platform import platform_manager

    from trainers.verl.inside.platform_cpu import CpuPlatform

    monkeypatch.setattr(platform_manager, "_current_platform", CpuPlatform())
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_lite_however_verl_cuts_the_batch(method, layout, num_workers, newcomer, alone):
    recipe = step.a_recipe({}, METHODS[method], mini_batch_prompts=2)
    batch = step.a_batch(2)
    batch = replace(batch, response_length_B=batch.response_length_B.clamp(min=1))  # verl has no empty response
    model = step.a_model(0, attn_implementation="sdpa").float()
    expected = policy_scores(model, batch, recipe, micro_batch_sequences=100)
    found, passes = scores_of(model, batch, recipe, LAYOUTS[layout], num_workers)
    assert sorted(row for rows in passes for row in rows) == list(range(len(batch)))
    mask_BT = batch.response_mask_BT
    torch.testing.assert_close(found["log_probs"], expected.logp_BT * mask_BT, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["entropy"], expected.entropy_BT * mask_BT, atol=1e-5, rtol=0)
    if method != "ets":
        torch.testing.assert_close(found["orch_deviation"], expected.deviation_BT * mask_BT, atol=1e-5, rtol=0)
        assert num_cut(passes) or layout not in CUT, "they are there to cut groups"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when vLLM is what imports its compiler first
def test_verls_mask_of_what_vllm_draws_leaves_the_tokens_that_the_head_knows(alone):
    from verl.workers.rollout.vllm_rollout.utils import monkey_patch_compute_logits

    model = step.a_model(0, attn_implementation="sdpa").float()
    rows = model.config.vocab_size
    tokenizer = range(rows - 5)
    sampled = SimpleNamespace(compute_logits=lambda: torch.zeros(1, rows))
    monkey_patch_compute_logits(sampled, len(tokenizer))
    mark_tokens(model, tokenizer)
    num_drawn = int((sampled.compute_logits() > -torch.inf).sum())
    assert num_drawn == num_tokens(model, rows) == rows - 5
    batch = step.a_batch(2)
    batch = replace(batch, response_length_B=batch.response_length_B.clamp(min=1))
    batch = replace(batch, tokens_BS=batch.tokens_BS.clamp(max=rows - 6))
    recipe = step.a_recipe({}, METHODS["ict"], mini_batch_prompts=2)
    expected = policy_scores(model, batch, recipe, micro_batch_sequences=100)
    found, _ = scores_of(model, batch, recipe, LAYOUTS["end to end"], 1)
    for name, values_BT in (("log_probs", expected.logp_BT), ("orch_deviation", expected.deviation_BT)):
        torch.testing.assert_close(found[name], values_BT * batch.response_mask_BT, atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_an_update_learns_from_is_what_verls_own_engine_returns(layout, temperature):
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
    from verl.workers.engine.utils import prepare_micro_batches

    recipe = step.a_recipe({}, METHODS["ets"], mini_batch_prompts=2, temperature=temperature)
    batch = step.a_batch(2)
    batch = replace(batch, response_length_B=batch.response_length_B.clamp(min=1))
    plain = step.a_model(0, attn_implementation="sdpa").float()
    engine, theirs = an_engine(attending_as_in(LAYOUTS[layout], plain)), FSDPEngineWithLMHead
    data = data_of(batch, list(range(len(batch))), recipe, LAYOUTS[layout])
    tu.assign_non_tensor(data, orch_scores=False)
    for micro_batch in prepare_micro_batches(data)[0]:
        lengths = micro_batch["responses"].offsets().diff().tolist()
        found = []
        for model, kind in ((engine.module, type(engine)), (plain, theirs)):
            inputs, output_args = kind.prepare_model_inputs(engine, micro_batch)
            with engine.head.without_cap():
                output = model(**inputs, use_cache=False)
            outputs = kind.prepare_model_outputs(engine, output, output_args, micro_batch, None)
            values = [
                torch.cat([row[-length - 1 : -1] for row, length in zip(outputs[name].unbind(), lengths, strict=True)])
                for name in ("log_probs", "entropy")
            ]
            weights = torch.arange(1.0, len(values[0]) + 1) / len(values[0])
            loss = (weights * values[0] + weights.flip(0) * values[1]).sum()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            found.append((*values, *gradients))
        for ours, expected in zip(*found, strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)
