"""How long the slowest worker computes: our way of cutting a batch beside verl's packed and balanced one, and padding.

    .venv-verl/bin/python benchmarks/bench_packing.py [--lengths FILE] [--workers 8] [--batches 50]

Lockstep, without a GPU: FSDP's workers meet in every pass, so a pass takes as long as its fullest worker, in the units
by which verl weighs a sequence (n(n + 24,576) for n tokens). Passes are made by verl's own `rearrange_micro_batches`.
Lengths are those of responses that a model gave (`response_lengths.json`: SmolLM2-135M-Instruct at T = 1, eight for
each of 16 MATH-500 questions, at most 512 tokens), drawn group by group.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
from verl.utils import tensordict_utils as tu
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions, rearrange_micro_batches

from trainers.verl.inside.passes import cut_by_tokens, cut_into
from trainers.verl.inside.step import dispatch_order

RECORDED = Path(__file__).with_name("response_lengths.json")
PROMPTS, MINI_BATCH_PROMPTS = 64, 32
PASS_TOKENS = 16_384
Shares = list[list[int]]
"""Rows of each worker."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=Path, default=RECORDED, help="JSON: a list of groups of lengths")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batches", type=int, default=50)
    options = parser.parse_args()
    groups: list[list[int]] = json.loads(options.lengths.read_text())
    size, workers = len(groups[0]), options.workers
    every = [length for group in groups for length in group]
    print(f"{len(groups)} groups of {size}: {min(every)} to {max(every)} tokens, mean {mean(every):.0f}")
    sizes = f"mini-batches of {MINI_BATCH_PROMPTS} prompts, passes of {PASS_TOKENS}"
    print(f"{workers} workers, {sizes}, n = {options.batches}")
    draw = random.Random(0)
    ratios: dict[str, list[float]] = {}
    for _ in range(options.batches):
        batch = [length for group in draw.choices(groups, k=PROMPTS) for length in group]
        found = {name: way(batch, size, workers) for name, way in WAYS.items()}
        for name, work in found.items():
            ratios.setdefault(name, []).append(work / found["verl, packed and balanced"])
    for name, values in ratios.items():
        spread = f"± {stdev(values):.3f}  ({min(values):.2f} to {max(values):.2f})"
        print(f"  {name:44} {mean(values):5.3f} {spread}")


def ours(batch: list[int], size: int, workers: int, together: int) -> float:
    """A step by `dispatch_order`."""
    rows = MINI_BATCH_PROMPTS * size
    order = dispatch_order(batch, mini_batch_rows=rows, num_workers=workers, together=together)
    share, part = len(order) // workers, rows // workers
    total = 0.0
    for label in range(len(batch) // rows):
        starts = [worker * share + label * part for worker in range(workers)]
        total += lockstep([[batch[row] for row in order[start : start + part]] for start in starts], together)
    return total


def verls(batch: list[int], size: int, workers: int) -> float:
    """Every mini-batch balanced row by row by verl's own partition, as if groups did not matter."""
    rows, total = MINI_BATCH_PROMPTS * size, 0.0
    for first in range(0, len(batch), rows):
        part = batch[first : first + rows]
        work = calculate_workload(torch.tensor(part)).tolist()
        shares = get_seqlen_balanced_partitions(work, k_partitions=workers, equal_size=True)
        total += lockstep([[part[row] for row in share] for share in shares], 1)
    return total


def in_order(batch: list[int], size: int, workers: int) -> float:
    """Packed, each worker's prompts as they come: what orch did before."""
    rows, total = MINI_BATCH_PROMPTS * size, 0.0
    for first in range(0, len(batch), rows):
        part, each = batch[first : first + rows], rows // workers
        total += lockstep([part[start : start + each] for start in range(0, rows, each)], 1)
    return total


def padded(batch: list[int], size: int, workers: int) -> float:
    """Rows as long as the longest, eight a pass, as they come."""
    longest = int(calculate_workload(torch.tensor([max(batch)]))[0])
    return float(longest * len(batch) / workers)


def lockstep(shares: Shares, together: int) -> float:
    """Work of the fullest worker in each pass, summed; all make as many passes as the one with the most."""
    cuts = [passes(share, together, 0) for share in shares]
    number = max(map(len, cuts))
    cuts = [passes(share, together, number) for share in shares]
    return sum(max(cut[index] for cut in cuts if index < len(cut)) for index in range(number))


def passes(lengths: list[int], together: int, least: int) -> list[float]:
    """Work of each pass that a worker's share is cut into: by verl, or in order where groups are averaged."""
    if together > 1:
        most = max(PASS_TOKENS, max(lengths))
        cuts = cut_into(lengths, least or len(cut_by_tokens(lengths, most)))
        return [float(calculate_workload(torch.tensor([lengths[row] for row in rows])).sum()) for rows in cuts]
    rows = [torch.zeros(length, dtype=torch.int64) for length in lengths]
    tokens = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    data = tu.get_tensordict(tensor_dict={"input_ids": tokens}, non_tensor_dict={})
    _, cut = rearrange_micro_batches(
        data,
        max_token_len=max(PASS_TOKENS, max(lengths)),
        min_num_micro_batch=least or None,
        same_micro_num_in_dp=False,
    )
    return [float(calculate_workload(torch.tensor([lengths[row] for row in part])).sum()) for part in cut]


WAYS: dict[str, Callable[[list[int], int, int], float]] = {
    "verl, packed and balanced": verls,
    "orch, rows alone (all methods but ICT)": lambda batch, size, workers: ours(batch, size, workers, 1),
    "orch, groups side by side (ICT)": lambda batch, size, workers: ours(batch, size, workers, size),
    "packed, as they come (orch before)": in_order,
    "padded to the longest of the batch": padded,
}


if __name__ == "__main__":
    main()
