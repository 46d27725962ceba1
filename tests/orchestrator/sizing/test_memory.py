"""Activations counted tensor by tensor, without data, beside what `memory.py` says of them."""

from weakref import WeakSet

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from orchestrator.config.shape import ModelShape
from orchestrator.sizing.memory import Load, activations, inferring

TOKENS = 2048
SHAPES = {
    "1.5B": (Qwen2Config, {"hidden_size": 1536, "intermediate_size": 8960, "num_heads": 12, "num_key_value_heads": 2}),
    "8B": (Qwen3Config, {"hidden_size": 4096, "intermediate_size": 12288, "num_heads": 32, "num_key_value_heads": 8}),
    "32B": (Qwen3Config, {"hidden_size": 5120, "intermediate_size": 25600, "num_heads": 64, "num_key_value_heads": 8}),
}


class Peak(TorchDispatchMode):
    """Bytes of storages that are alive, those of the model left out."""

    def __init__(self, model):
        super().__init__()
        self._known = {one.untyped_storage()._cdata for one in [*model.parameters(), *model.buffers()]}
        self._alive = WeakSet()
        self.peak = 0

    @property
    def now(self):
        return sum(storage.nbytes() for storage in self._alive)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self._known:
                self._alive.add(value.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out


def counted(kind, sizes, *, num_layers, has_checkpointing, with_gradients=True):
    """Peak bytes of a pass in bfloat16 beyond weights; gradients are dropped as they come, as FSDP reduces them."""
    config = kind(
        num_hidden_layers=num_layers, vocab_size=1000, max_position_embeddings=4096, head_dim=128,
        hidden_size=sizes["hidden_size"], intermediate_size=sizes["intermediate_size"],
        num_attention_heads=sizes["num_heads"], num_key_value_heads=sizes["num_key_value_heads"],
    )  # fmt: skip
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").train()
        if has_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
        with Peak(model) as found, torch.set_grad_enabled(with_gradients):
            hidden = model.model(input_ids=torch.zeros(1, TOKENS, dtype=torch.int64), use_cache=False).last_hidden_state
            if with_gradients:
                hidden.sum().backward()
    return found.peak


def load_of(sizes, *, num_layers, has_checkpointing):
    shape = ModelShape(num_layers=num_layers, head_size=128, vocabulary_size=1000, **sizes)
    return Load(
        shape=shape, dtype="bfloat16", num_workers=1, update_tokens=TOKENS, score_tokens=TOKENS, group_tokens=0,
        is_packed=False, has_checkpointing=has_checkpointing, offload="none", tensor_parallel=1, vllm_bytes=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("has_checkpointing", [True, False])
def test_activations_are_bounded_and_not_by_much(name, has_checkpointing):
    kind, sizes = SHAPES[name]
    for num_layers in (2, 6):
        said = activations(load_of(sizes, num_layers=num_layers, has_checkpointing=has_checkpointing))
        found = counted(kind, sizes, num_layers=num_layers, has_checkpointing=has_checkpointing)
        assert 0.99 * found <= said <= 1.2 * found, (num_layers, found, said)


@pytest.mark.parametrize("name", SHAPES)
def test_a_pass_without_gradients_is_bounded_and_not_by_much(name):
    kind, sizes = SHAPES[name]
    said = inferring(load_of(sizes, num_layers=4, has_checkpointing=True))
    found = counted(kind, sizes, num_layers=4, has_checkpointing=False, with_gradients=False)
    assert 0.95 * found <= said <= 1.25 * found
