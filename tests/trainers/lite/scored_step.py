"""A small policy, a reference and a ragged batch for the tests of scoring and updating. All in float64."""

from dataclasses import replace

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from trainers.advantages import group_advantages
from trainers.batch import RolloutBatch
from trainers.recipe import Algorithm, Data, Model, Recipe, Selection

VOCABULARY = 23


def a_model(seed, **changes):
    torch.manual_seed(seed)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
    }
    return Qwen2ForCausalLM(Qwen2Config(**(settings | changes))).double().eval()


def a_batch(seed, *, num_groups=4, group_size=3, longest=9, pad=0):
    """Groups of ragged responses; the first group has no signal, and one response is empty."""
    generator = torch.Generator().manual_seed(seed)
    rows = num_groups * group_size
    prompt_length_B = torch.randint(1, 6, (num_groups,), generator=generator).repeat_interleave(group_size)
    response_length_B = torch.randint(1, longest + 1, (rows,), generator=generator)
    response_length_B[-1] = 0
    width = int((prompt_length_B + response_length_B).max()) + pad
    group_B = torch.arange(num_groups).repeat_interleave(group_size) * 10 + 3
    reward_B = torch.randint(0, 2, (rows,), generator=generator).float()
    reward_B[:group_size] = 1.0
    reward_B[group_size::group_size] = 1.0
    reward_B[group_size + 1 :: group_size] = 0.0
    return RolloutBatch(
        tokens_BS=torch.randint(1, VOCABULARY, (rows, width), generator=generator),
        prompt_length_B=prompt_length_B,
        response_length_B=response_length_B,
        group_B=group_B,
        uid_B=torch.randperm(1000, generator=generator)[:rows],
        reward_B=reward_B,
        advantage_B=group_advantages(reward_B, group_B),
    )


def a_recipe(algorithm=None, selection=None, **changes):
    settings = {
        "algorithm": Algorithm(
            **({"name": "dapo", "clip_low": 0.2, "clip_high": 0.28, "loss_mean": "token"} | (algorithm or {}))
        ),
        "selection": Selection(**({"method": "full"} | (selection or {}))),
        "model": Model(path="builtin:none"),
        "data": Data(name="none", template="plain", max_prompt_tokens=8, max_response_tokens=16),
        "steps": 1,
        "prompts_per_step": 4,
        "group_size": 3,
        "mini_batch_prompts": 4,
        "learning_rate": 1e-2,
        "max_grad_norm": None,
        "temperature": 0.8,
    }
    return Recipe(**(settings | changes))


def drifted(batch, seed, size=0.3):
    """The batch as if another policy had sampled it, so that ratios leave 1 and some tokens are clipped."""
    noise_BT = torch.randn(batch.old_logp_BT.shape, generator=torch.Generator().manual_seed(seed)) * size
    return replace(batch, old_logp_BT=batch.old_logp_BT + noise_BT.to(batch.old_logp_BT))


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
