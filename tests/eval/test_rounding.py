"""A sample is the same, bit for bit, in any batch: real models, long and short prompts, one thread and two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from random import Random

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from eval.engines.attention import IMPLEMENTATION, MAX_SCORES, rows_alike
from eval.engines.decoding import Decoding, Response, generate
from eval.engines.rounding import padded_width

VOCABULARY = 500
needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="another library multiplies here")


def make_model(*, hidden_size: int) -> torch.nn.Module:
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )
    model = Qwen2ForCausalLM(config).eval()
    model.set_attn_implementation(IMPLEMENTATION)
    return model


def make_prompts(lengths: Sequence[int]) -> list[list[int]]:
    dice = Random(5)
    return [[dice.randrange(VOCABULARY) for _ in range(length)] for length in lengths]


def draw(model: torch.nn.Module, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> dict[int, Response]:
    """Decode some of the prompts together, each with the seed of its place; a fiftieth of the tokens end a response."""
    decoding = Decoding(
        max_new_tokens=40,
        temperature=1.0,
        end_tokens=tuple(range(10)),
        pad_token=0,
        batch_sequences=256,
        has_statistics=True,
    )
    found = generate(model, [prompts[row] for row in rows], seeds=rows, decoding=decoding)
    return {rows[response.row]: response for response in found}


def bits(lengths: Sequence[int]) -> str:
    """Return all responses in writing, one a line."""
    drawn = draw(make_model(hidden_size=128), make_prompts(lengths), range(len(lengths)))
    return "\n".join(
        f"{row} {one.tokens} {one.statistics.numpy().tobytes().hex()}" for row, one in sorted(drawn.items())
    )


SHORT = [3, 17, 5, 11, 16, 24, 9, 9, 30, 1, 12, 14, 15, 22, 8, 40]
LONG = [130, 700, 20, 400, 300, 90, 513, 70, 260, 180]
"""Beyond a block of MKL's sums (384 terms) and, for the widest, on the fused kernel's way."""


@needs_mkl
@pytest.mark.parametrize(("lengths", "hidden_size"), [(SHORT, 128), (LONG, 128), (SHORT[:8], 896)])
def test_a_response_has_the_same_bits_alone_in_small_batches_and_in_a_large_one(
    lengths: list[int], hidden_size: int
) -> None:
    model, prompts = make_model(hidden_size=hidden_size), make_prompts(lengths)
    together = draw(model, prompts, range(len(prompts)))
    assert len({len(one.tokens) for one in together.values()}) > 2, "rows must leave the batch at several steps"
    order = list(range(len(prompts)))
    Random(7).shuffle(order)
    for size in (1, 2, 3, 7):
        for start in range(0, len(order), size):
            for row, one in draw(model, prompts, order[start : start + size]).items():
                assert one.tokens == together[row].tokens, f"row {row} in a batch of {size}"
                assert torch.equal(one.statistics, together[row].statistics), f"row {row} in a batch of {size}"


@needs_mkl
def test_the_number_of_threads_does_not_show() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    one, two = (
        subprocess.run(
            [sys.executable, "-c", "import test_rounding as t; print(t.bits(t.SHORT), t.bits(t.LONG))"],
            env={**environment, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    )
    assert one.count("\n") >= len(SHORT) + len(LONG) - 1
    assert one == two


def test_a_width_is_a_matter_of_the_length_alone_and_at_most_doubles_it() -> None:
    assert [padded_width(length) for length in (1, 16, 17, 33, 200, 512, 513)] == [16, 16, 32, 64, 256, 512, 1024]
    assert all(length <= padded_width(length) < 2 * max(length, 16) for length in range(1, 3000))


def test_rows_read_at_once_stay_below_the_limit_or_are_beyond_it_each() -> None:
    model = make_model(hidden_size=128)
    for width in (16, 64, 256, 512, 1024):
        scores, rows = 4 * width**2, rows_alike(model, width)
        assert (scores > MAX_SCORES) or (rows * scores <= MAX_SCORES < (rows + 1) * scores)
    assert rows_alike(model, 1024) == sys.maxsize
