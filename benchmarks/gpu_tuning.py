"""Block sizes, warps, workspace and product types: which of them is best on this device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from gpu_errors import exact_statistics
from gpu_work import (
    GROUP,
    MODELS,
    Sizes,
    a_head,
    gap,
    hidden_states,
    line,
    ms,
    naive_entropy,
)
from torch import Tensor

from trainers.head.distribution import hidden_statistics
from trainers.head.fused import (
    DEFAULT,
    OutputGradients,
    Parts,
    Tuning,
    cell_distances,
    gradients,
    group_distances,
    product_gradients,
    products,
    token_logp,
    token_statistics,
)
from trainers.head.operators import Head


@torch.no_grad()
def product_types(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    """What float32 products cost beside bfloat16 ones, and what rounding them does to the entropy."""
    for name in sizes.models:
        width = MODELS[name][1]["hidden_size"]
        hidden, token = hidden_states(sizes, sizes.tokens, width)
        head = a_head(sizes, width)
        columns = head.weight_VD[: min(16_384, sizes.vocabulary)]
        rows = hidden[:768]
        floor = 2 * sizes.tokens * len(columns) * width / machine["flops"] * 1e3
        row_floor = 2 * len(rows) * sizes.vocabulary * width / machine["flops"] * 1e3
        for key, work, bound in (
            ("columns, float32 out", lambda: products(hidden, columns), floor),  # noqa: B023
            ("columns, bfloat16 out", lambda: hidden @ columns.T, floor),  # noqa: B023
            ("768 rows, float32 out", lambda: products(rows, head.weight_VD), row_floor),  # noqa: B023
            ("768 rows, bfloat16 out", lambda: rows @ head.weight_VD.T, row_floor),  # noqa: B023
        ):
            out[f"{name} {key}"] = ms(work, sizes.repeats)
            line(f"{name} {key}", out[f"{name} {key}"], bound)
        left, right = hidden @ columns.T, columns
        total = torch.zeros(len(hidden), width, dtype=torch.float32, device=hidden.device)
        for key, add in (
            ("sum += product", lambda: total.add_(products(left, right.T))),  # noqa: B023
            ("addmm, float32 out", lambda: torch.addmm(total, left, right, out_dtype=torch.float32)),  # noqa: B023
        ):
            try:
                out[f"{name} {key}"] = ms(add, sizes.repeats)
                line(f"{name} {key}", out[f"{name} {key}"], floor)
            except Exception as error:
                print(f"  {name} {key}: {type(error).__name__}: {str(error)[:200]}")
        some, some_token = hidden[:64], token[:64]
        exact = exact_statistics(some, head, some_token)["entropy"]
        rounded = (some @ head.weight_VD.T).float()
        out[f"{name} error float32 out"] = gap(hidden_statistics(some, head, some_token).entropy_N, exact)
        out[f"{name} error bfloat16 out"] = gap(naive_entropy(rounded), exact)
        print(f"  {name} entropy errs by {out[f'{name} error float32 out']:.1e} from float32 products, "
              f"by {out[f'{name} error bfloat16 out']:.1e} from bfloat16 ones")  # fmt: skip


def a_chunk(sizes: Sizes, columns: int) -> tuple[Head, Tensor, Tensor]:
    """Products of about half a gigabyte, with the head and tokens they belong to."""
    rows = max(GROUP, 2**27 // columns // GROUP * GROUP) if sizes.device == "cuda" else GROUP
    product = torch.randn(rows, columns, device=sizes.device) * 3
    token = torch.randint(columns, (rows,), device=sizes.device)
    return Head(weight_VD=torch.empty(columns, 1, device=sizes.device)), product, token


def sweep(
    variants: list[Tuning],
    name_of: Callable[[Tuning], str],
    work_of: Callable[[Tuning], Callable[[], object]],
    bound: float,
    sizes: Sizes,
    out: dict[str, Any],
) -> None:
    for tuning in variants:
        try:
            out[name_of(tuning)] = ms(work_of(tuning), 5)
            line(name_of(tuning), out[name_of(tuning)], bound)
        except Exception as error:
            print(f"  {name_of(tuning)}: {type(error).__name__}: {str(error)[:200]}")
    times = {key: value for key, value in out.items() if isinstance(value, float)}
    out["best"] = min(times, key=lambda key: times[key])


@torch.no_grad()
def tune_statistics(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    head, product, token = a_chunk(sizes, sizes.vocabulary)
    bound = product.numel() * 4 / machine["copy"] * 1e3

    def work_of(tuning: Tuning) -> Callable[[], object]:
        parts = Parts.empty(len(product), head.vocabulary, True, tuning, product.device)
        return lambda: parts.add(product, head, token, 0)

    choices = [(1024, 2), (1024, 4), (2048, 4), (2048, 8), (4096, 4), (4096, 8), (4096, 16), (8192, 8), (8192, 16)]
    variants = [replace(DEFAULT, statistics_block=block, statistics_warps=warps) for block, warps in choices]
    sweep(
        variants if sizes.device == "cuda" else variants[:1],
        lambda tuning: f"block {tuning.statistics_block}, {tuning.statistics_warps} warps",
        work_of,
        bound,
        sizes,
        out,
    )


@torch.no_grad()
def tune_distance(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    head, product, _ = a_chunk(sizes, sizes.vocabulary)
    lse = torch.logsumexp(product, -1)
    start = torch.arange(0, len(product) + 1, GROUP, device=product.device)
    bound = product.numel() * 4 / machine["copy"] * 1e3
    choices = [
        (256, 1, 4), (256, 2, 4), (512, 1, 4), (512, 2, 2), (512, 2, 4), (512, 4, 4), (512, 4, 8),
        (1024, 2, 2), (1024, 4, 1), (1024, 4, 2), (1024, 4, 4), (1024, 4, 8), (1024, 8, 4), (2048, 4, 2), (2048, 8, 4),
    ]  # fmt: skip
    variants = [
        replace(DEFAULT, distance_block=block, distance_warps=warps, distance_unroll=unroll)
        for block, warps, unroll in choices
    ]
    sweep(
        variants if sizes.device == "cuda" else variants[:1],
        lambda tuning: (
            f"block {tuning.distance_block}, {tuning.distance_warps} warps, {tuning.distance_unroll} rows at a time"
        ),
        lambda tuning: (
            lambda: cell_distances(product, head, lse, start, distance="js", leave_one_out=False, tuning=tuning)
        ),
        bound,
        sizes,
        out,
    )


@torch.no_grad()
def tune_gradient(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    head, product, token = a_chunk(sizes, sizes.vocabulary)
    lse = torch.logsumexp(product, -1)
    outputs = OutputGradients(token_N=token, lse_N=lse, logp_gradient_N=torch.rand_like(lse))
    bound = product.numel() * 6 / machine["copy"] * 1e3
    choices = [(1024, 2), (1024, 4), (2048, 4), (2048, 8), (4096, 4), (4096, 8), (8192, 8)]
    variants = [replace(DEFAULT, gradient_block=block, gradient_warps=warps) for block, warps in choices]
    sweep(
        variants if sizes.device == "cuda" else variants[:1],
        lambda tuning: f"block {tuning.gradient_block}, {tuning.gradient_warps} warps",
        lambda tuning: lambda: product_gradients(product, head, 0, outputs, torch.bfloat16, tuning),
        bound,
        sizes,
        out,
    )


@torch.no_grad()
def tune_workspace(sizes: Sizes, out: dict[str, Any]) -> None:
    """The whole operator by size of its workspace: small ones may stay in the L2 cache, large ones need fewer calls."""
    for name in sizes.models:
        width = MODELS[name][1]["hidden_size"]
        hidden, token = hidden_states(sizes, sizes.tokens, width)
        head = a_head(sizes, width)
        start = torch.arange(0, sizes.tokens + 1, GROUP, device=sizes.device)
        g = torch.rand(sizes.tokens, device=sizes.device)
        lse = token_logp(hidden, head, token)[1]
        outputs = OutputGradients(token_N=token, lse_N=lse, logp_gradient_N=g)
        for megabytes in (128, 256, 512, 1024) if sizes.device == "cuda" else (512,):
            tuning = replace(DEFAULT, workspace_bytes=megabytes * 2**20)
            works = {
                "statistics": partial(token_statistics, hidden, head, token, tuning=tuning),
                "JS": partial(
                    group_distances, hidden, head, token, start, distance="js", leave_one_out=False, tuning=tuning
                ),
                "gradients": partial(gradients, hidden, head, outputs, tuning=tuning),
            }
            found = {key: ms(work, 4) for key, work in works.items()}
            out[f"{name} {megabytes}"] = found
            print(f"  {name}, {megabytes} MB: "
                  + ", ".join(f"{key} {value:.2f} ms" for key, value in found.items()), flush=True)  # fmt: skip
