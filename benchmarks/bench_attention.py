"""Our attention on a CPU beside transformers' `sdpa`: decoding one position a row, and the ragged rows of an update.

.venv/bin/python benchmarks/bench_attention.py --threads 1
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer

from eval.engines.attention import IMPLEMENTATION
from eval.engines.key_value_cache import GrowingLayer
from trainers.batch import RolloutBatch
from trainers.lite.forward import needed_hidden, passes

SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 2},
    "SmolLM2-135M": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3},
}
DECODED = [(256, 30), (64, 300), (64, 1000)]
"""Rows and tokens in the cache."""
RESPONSES = [(26, 3), (200, 80)]
"""Mean and standard deviation of the response lengths of an update."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), median (min to max) of n = {options.repeats}, 2 layers")
    for name, shape in SHAPES.items():
        torch.manual_seed(0)
        config = Qwen2Config(vocab_size=512, num_hidden_layers=2, max_position_embeddings=4096, **shape)
        model = Qwen2ForCausalLM(config).eval()
        for rows, length in DECODED:
            title = f"{name}, decode, {rows} rows, {length} tokens in the cache"
            compare(title, decoding(model, rows, length), options.repeats)
        for mean, deviation in RESPONSES:
            title = f"{name}, forward and backward, 32 rows of 12 + {mean} ± {deviation} tokens"
            compare(title, updating(model, mean, deviation), options.repeats)


def compare(title: str, sides: dict[str, Callable[[], Any]], repeats: int) -> None:
    times: dict[str, list[float]] = {side: [] for side in sides}
    for work in sides.values():
        work()
    for _ in range(repeats):
        for side, work in sides.items():
            started = time.perf_counter()
            work()
            times[side].append(1e3 * (time.perf_counter() - started))
    spread = {side: f"{median(found):.1f} ms ({min(found):.1f} to {max(found):.1f})" for side, found in times.items()}
    ratio = median(times["sdpa"]) / median(times["ours"])
    print(f"{title}: ours {spread['ours']}   sdpa {spread['sdpa']}   ratio {ratio:.2f}×")


def decoding(model: Any, rows: int, length: int) -> dict[str, Callable[[], Any]]:
    prompt = torch.randint(0, 512, (rows, length))
    token = torch.randint(0, 512, (rows, 1))
    mask = torch.ones(rows, length + 1, dtype=torch.int64)
    # Left padding, as prompts of different lengths have it.
    mask[0, 0] = 0

    def side(attention: str, layer: Callable[[], DynamicLayer]) -> Callable[[], Any]:
        model.set_attn_implementation(attention)
        cache = DynamicCache(config=model.config)
        cache.layers = [layer() for _ in cache.layers]
        with torch.no_grad():
            model(input_ids=prompt, attention_mask=mask[:, :-1], past_key_values=cache, use_cache=True)

        @torch.no_grad()
        def step() -> None:
            model.set_attn_implementation(attention)
            grown = mask
            if cache.get_seq_length() > length:
                grown = torch.cat([mask, mask.new_ones(rows, cache.get_seq_length() - length)], dim=1)
            model(input_ids=token, attention_mask=grown, past_key_values=cache, use_cache=True)

        return step

    return {"ours": side(IMPLEMENTATION, lambda: GrowingLayer(64)), "sdpa": side("sdpa", DynamicLayer)}


def updating(model: Any, mean: int, deviation: int) -> dict[str, Callable[[], Any]]:
    generator = torch.Generator().manual_seed(0)
    length_B = (torch.randn(32, generator=generator) * deviation + mean).round().long().clamp(min=1)
    batch = RolloutBatch(
        tokens_BS=torch.randint(0, 512, (2, 12 + int(length_B.max())), generator=generator).repeat_interleave(16, 0),
        prompt_length_B=torch.full((32,), 12),
        response_length_B=length_B,
        group_B=torch.arange(2).repeat_interleave(16),
        uid_B=torch.arange(32),
        reward_B=torch.zeros(32),
        advantage_B=torch.zeros(32),
    )

    def side(attention: str) -> Callable[[], Any]:
        def step() -> None:
            model.set_attn_implementation(attention)
            for part in passes(batch, batch.response_mask_BT, 32):
                torch.autograd.backward(needed_hidden(model, part).square().sum())

        return step

    return {"ours": side(IMPLEMENTATION), "sdpa": side("sdpa")}


if __name__ == "__main__":
    main()
