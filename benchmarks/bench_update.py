"""The sparse update beside the dense one with the same gradients, on a model shaped like Qwen2.5-0.5B around its head.

    python benchmarks/bench_update.py [--repeats 3] [--device cpu|cuda]

The head takes 28 % of a forward pass, as in the 0.5B model. Times are CPU seconds of one thread (wall time on a GPU),
median and range of interleaved repeats; the largest difference of any gradient stands beside them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from trainers.advantages import group_advantages
from trainers.batch import RolloutBatch
from trainers.lite.score import score_rollouts
from trainers.lite.update import update_policy
from trainers.recipe import Algorithm, Data, Model, Recipe, Selection

SHAPE: dict[str, Any] = {
    "vocab_size": 16_384,
    "hidden_size": 256,
    "intermediate_size": 1390,
    "num_hidden_layers": 9,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
GROUPS, GROUP = 4, 8
PROMPT = 24
LENGTHS = (40, 80)


def a_batch(share_without_signal: float) -> RolloutBatch:
    """Groups of ragged responses; in the first share of them every reward is equal."""
    generator = torch.Generator().manual_seed(0)
    rows = GROUPS * GROUP
    group_B = torch.arange(GROUPS).repeat_interleave(GROUP)
    response_length_B = torch.randint(*LENGTHS, (rows,), generator=generator)
    reward_B = (torch.arange(rows) % 2).float()
    reward_B[: int(share_without_signal * rows)] = 1.0
    tokens_BS = torch.randint(SHAPE["vocab_size"], (rows, PROMPT + max(LENGTHS)), generator=generator)
    tokens_BS[:, :PROMPT] = tokens_BS[group_B * GROUP, :PROMPT]  # a group shares its prompt, which runs once
    return RolloutBatch(
        tokens_BS=tokens_BS,
        prompt_length_B=torch.full((rows,), PROMPT),
        response_length_B=response_length_B,
        group_B=group_B,
        uid_B=torch.arange(rows),
        reward_B=reward_B,
        advantage_B=group_advantages(reward_B, group_B),
    )


def a_recipe(selection: Selection) -> Recipe:
    return Recipe(
        algorithm=Algorithm(name="dapo", clip_low=0.2, clip_high=0.28, loss_mean="token"),
        selection=selection,
        model=Model(path="none"),
        data=Data(name="none", template="plain", max_prompt_tokens=PROMPT, max_response_tokens=max(LENGTHS)),
        steps=1,
        prompts_per_step=GROUPS,
        group_size=GROUP,
        mini_batch_prompts=GROUPS,
        learning_rate=1e-6,
        max_grad_norm=None,
    )


class Still(torch.optim.Optimizer):
    """Leaves the weights alone, so that every repeat does the same work."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.parameters(), {})

    def step(self) -> None:  # type: ignore[override]  # takes no closure
        """Do nothing."""


def compare(name: str, model: Any, batch: RolloutBatch, recipe: Recipe, repeats: int, target: float) -> None:
    device = batch.tokens_BS.device.type
    batch = score_rollouts(model, None, batch, recipe, micro_batch_sequences=8)
    optimizer = Still(model)
    seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
    gradients: dict[str, list[torch.Tensor]] = {}
    for repeat in range(repeats + 1):
        for update in ("dense", "sparse"):
            arm = replace(recipe, update=update)
            clock = time.process_time if device == "cpu" else time.perf_counter
            started = clock()
            update_policy(model, optimizer, batch, arm, step=1, seed=0, micro_batch_sequences=8)
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[update].append(clock() - started)
            gradients[update] = [parameter.grad.clone() for parameter in model.parameters()]
    pairs = zip(gradients["dense"], gradients["sparse"], strict=True)
    largest = max(float(value.abs().max()) for value in gradients["dense"])
    apart = max(float((one - other).abs().max()) for one, other in pairs) / largest
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    ranges = "  ".join(f"{key} {middle[key]:.2f} s ({min(v):.2f} to {max(v):.2f})" for key, v in seconds.items())
    ratio = middle["sparse"] / middle["dense"]
    print(f"{name:38} {ranges}  sparse/dense {ratio:.2f} (target {target})  gradients apart {apart:.0e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE)).to(asked.device)
    print(f"{GROUPS} groups of {GROUP}, prompt {PROMPT}, responses {LENGTHS}, n={asked.repeats}, {asked.device}")
    everywhere, half = a_batch(0.0).to(asked.device), a_batch(0.5).to(asked.device)
    ets, gmts = Selection(method="ets", ratio=0.2), Selection(method="gmts", ratio=0.2)
    compare("ETS, ρ = 0.2", model, everywhere, a_recipe(ets), asked.repeats, 0.8)
    compare("GMTS, ρ = 0.2, half without a signal", model, half, a_recipe(gmts), asked.repeats, 0.45)
    compare("all tokens, ρ = 1", model, everywhere, a_recipe(Selection(method="full")), asked.repeats, 1.02)


if __name__ == "__main__":
    main()
