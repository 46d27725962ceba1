"""What evaluating in fixed batches costs, and what a strict MKL would: the same samples drawn in three ways.

    .venv/bin/python benchmarks/bench_batches.py --threads 1 --rounds 5

`batches` is how an evaluation draws (`eval.batches`), `at once` hands the engine everything in one call, and `strict`
draws batches with MKL told to sum each row in one order (MKL_CBWR=AUTO,STRICT), on which exact resumption would rest
without them. Every measurement is a process of its own, since MKL reads its mode once; a round has one of each.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from eval.api import SampleRequest, SamplingSettings
from eval.batches import partition
from eval.engines.attention import IMPLEMENTATION
from eval.engines.decoding import Decoding, generate

SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 2},
    "SmolLM2-135M": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3},
}
"""Four layers of each: a share of the time, but not another ratio."""
PROMPTS = {"tiny": (100, 12, 16), "SmolLM2-135M": (24, 130, 8)}
"""Questions, mean length of their prompts, samples of each."""
NEW_TOKENS = 48
SIDES = {"batches": {}, "at once": {}, "strict": {"MKL_CBWR": "AUTO,STRICT"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "SIDE"), help="one measurement, in this process")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(f"{options.threads} thread(s), {options.rounds} rounds, CPU seconds: median (min to max)")
    for name in SHAPES:
        compare(name, options.threads, options.rounds)


def compare(name: str, threads: int, rounds: int) -> None:
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, environment in SIDES.items():
            found[side].append(in_a_process(name, side, {**environment, "OMP_NUM_THREADS": str(threads)}))
    for side, times in found.items():
        ratio = median(mine / reference for mine, reference in zip(times, found["batches"], strict=True))
        spread = f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        print(f"{name:12}  {side:8}  {spread}  {ratio:.2f} × batches")


def in_a_process(name: str, side: str, environment: dict[str, str]) -> float:
    command = [sys.executable, __file__, "--measure", name, side]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, env={**os.environ, **environment, "PYTHONPATH": paths}, stdout=subprocess.PIPE, check=True
    )
    return float(json.loads(done.stdout))


def measure(name: str, side: str) -> float:
    """Return the CPU seconds of drawing everything, after a warm-up."""
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=512, num_hidden_layers=4, max_position_embeddings=4096, **SHAPES[name])
    model = Qwen2ForCausalLM(config).eval()
    model.set_attn_implementation(IMPLEMENTATION)
    questions, length, num_samples = PROMPTS[name]
    settings = SamplingSettings(num_samples=num_samples, temperature=1.0, max_new_tokens=NEW_TOKENS, template="plain")
    wanted = requests(questions, length, num_samples)
    calls = [wanted] if side == "at once" else [batch.requests for batch in partition(wanted, settings)]
    draw(model, [wanted[:2]])
    started = time.process_time()
    draw(model, calls)
    return time.process_time() - started


def requests(questions: int, length: int, num_samples: int) -> list[SampleRequest]:
    """Return prompts whose lengths scatter as those of a benchmark do: the longest about six times the shortest."""
    dice = Random(0)
    prompts = [
        [dice.randrange(512) for _ in range(round(length * dice.lognormvariate(0, 0.5)))] for _ in range(questions)
    ]
    return [
        SampleRequest(problem_id=f"p-{n}", index=index, prompt_tokens=tuple(prompt), seed=n * num_samples + index)
        for n, prompt in enumerate(prompts)
        for index in range(num_samples)
    ]


def draw(model: Qwen2ForCausalLM, calls: list[list[SampleRequest]]) -> None:
    decoding = Decoding(
        max_new_tokens=NEW_TOKENS, temperature=1.0, end_tokens=(0, 1, 2, 3), pad_token=0, batch_sequences=256
    )
    for call in calls:
        prompts, seeds = [one.prompt_tokens for one in call], [one.seed for one in call]
        for _ in generate(model, prompts, seeds=seeds, decoding=decoding):
            pass


if __name__ == "__main__":
    main()
