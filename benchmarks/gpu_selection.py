"""The GPU part of `bench_selection.py`: kernels against float64, ceilings of the machine, times, memory, tuning.

Every time stands beside its floor: FLOP over the measured matrix rate, or bytes over the measured copy bandwidth. A
section that fails is reported, and the others go on; the exit status says so. With $OUT set, all figures also go to
$OUT/selection.json. `--device interpreter` walks through the same code on a CPU at toy sizes.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_errors import check
from gpu_tuning import product_types, tune_distance, tune_gradient, tune_statistics, tune_workspace
from gpu_work import (
    GROUP,
    MODELS,
    TOY,
    Sizes,
    a_head,
    graph_ms,
    hidden_states,
    line,
    ms,
    naive_entropy,
    naive_js,
    naive_logp,
    peak_mb,
)
from torch import Tensor
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

from trainers.head.deviation import group_deviation
from trainers.head.distribution import hidden_logp, hidden_statistics
from trainers.head.fused import cell_distances, products
from trainers.head.log_probs import hidden_log_probs
from trainers.head.operators import Head
from trainers.recipe import Selection
from trainers.selection import Tokens, select


class Report:
    """Figures by section, printed as they come and written once at the end."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}
        self.failed: list[str] = []

    def section(self, name: str, work: Callable[[dict[str, Any]], None]) -> None:
        """Run one section; its failure is printed and leaves the others alone."""
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        try:
            work(self.figures.setdefault(name, {}))
        except Exception:
            traceback.print_exc()
            print(f"  FAILED: {name}")
            self.failed.append(name)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)

    def write(self) -> None:
        """Write the figures where the machine that lent the GPU looks for them."""
        if folder := os.environ.get("OUT"):
            Path(folder, "selection.json").write_text(json.dumps(self.figures, indent=1))


def run(device: str) -> int:
    """Print everything and return the exit status."""
    sizes = Sizes(device="cuda") if device == "cuda" else TOY
    report = Report()
    machine: dict[str, float] = {}
    report.section("machine", lambda out: ceilings(sizes, machine, out))
    report.section("kernels against float64", lambda out: check(sizes, out))
    for name in sizes.models:
        report.section(f"{name}: scoring", lambda out, name=name: scoring(sizes, name, machine, out))  # type: ignore[misc]
    report.section("JS of one group", lambda out: one_group(sizes, machine, out))
    for name in sizes.models:
        report.section(f"{name}: update", lambda out, name=name: update(sizes, name, machine, out))  # type: ignore[misc]
    report.section("memory", lambda out: memory(sizes, out))
    report.section("products: float32 out beside bfloat16 out", lambda out: product_types(sizes, machine, out))
    report.section("tuning: statistics", lambda out: tune_statistics(sizes, machine, out))
    report.section("tuning: distance", lambda out: tune_distance(sizes, machine, out))
    report.section("tuning: gradient", lambda out: tune_gradient(sizes, machine, out))
    report.section("tuning: workspace", lambda out: tune_workspace(sizes, out))
    report.section("peers", lambda out: peers(sizes, out))
    report.write()
    summary(report)
    return 1 if report.failed else 0


def ceilings(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    """Measure what the machine can do, so that floors are its own."""
    cuda = sizes.device == "cuda"
    name = torch.cuda.get_device_name() if cuda else "interpreter"
    import triton

    out |= {"device": name, "torch": torch.__version__, "triton": triton.__version__}
    count = 2**30 if cuda else 2**16
    source = torch.randn(count // 4, device=sizes.device)
    target = torch.empty_like(source)
    machine["copy"] = 2 * count / ms(lambda: target.copy_(source), 20) * 1e3
    machine["read"] = count / ms(source.sum, 20) * 1e3
    side = 8192 if cuda else 64
    a, b = (torch.randn(side, side, device=sizes.device, dtype=torch.bfloat16) for _ in range(2))
    machine["flops"] = 2 * side**3 / ms(lambda: a @ b, 10) * 1e3
    out |= machine
    print(f"  {name}, torch {torch.__version__}, triton {triton.__version__}")
    print(
        f"  copy {machine['copy'] / 1e12:.2f} TB/s (read and written), sum {machine['read'] / 1e12:.2f} TB/s read, "
        f"bfloat16 product {machine['flops'] / 1e12:.0f} TFLOP/s"
    )


def layer_ms(sizes: Sizes, name: str) -> tuple[float, float]:
    """Time one decoder layer over the tokens of one group: as transformers runs it, and as a graph."""
    _, shape = MODELS[name]
    config = Qwen2Config(**shape, num_hidden_layers=1, attn_implementation="sdpa")
    layer = Qwen2DecoderLayer(config, 0).to(sizes.device, torch.bfloat16).requires_grad_(False)
    length = sizes.tokens // GROUP
    hidden = torch.randn(GROUP, length, config.hidden_size, device=sizes.device, dtype=torch.bfloat16)
    rotary = Qwen2RotaryEmbedding(config).to(sizes.device)(hidden, torch.arange(length, device=sizes.device)[None])

    def work() -> object:
        return layer(hidden, position_embeddings=rotary)

    with torch.no_grad():
        eager = ms(work, sizes.repeats)
        try:
            return eager, graph_ms(work, sizes.repeats)
        except RuntimeError as error:
            print(f"  no graph of a layer: {str(error)[:200]}")
            return eager, eager


def selection_ms(sizes: Sizes) -> float:
    """Time the selection of a whole step, and return the share of one group's pass."""
    rows, length, device = GROUP * sizes.step_groups, sizes.tokens // GROUP, sizes.device
    values = torch.rand(rows, length, device=device)
    tokens = Tokens(
        mask_BT=torch.ones(rows, length, dtype=torch.bool, device=device),
        advantage_B=values[:, 0],
        group_B=torch.arange(rows, device=device) // GROUP,
        uid_B=torch.arange(rows, device=device),
        scope_B=torch.zeros(rows, dtype=torch.int64, device=device),
        logp_BT=values,
        entropy_BT=values,
        purity_BT=values,
        weight_BT=values,
        deviation_BT=None,
        draw_seed=0,
    )
    selection = Selection(method="gmts", ratio=0.2)
    return ms(lambda: select(tokens, selection, ratio=0.2), sizes.repeats) / sizes.step_groups


@torch.no_grad()
def scoring(sizes: Sizes, name: str, machine: dict[str, float], out: dict[str, Any]) -> None:
    layers, shape = MODELS[name]
    width = shape["hidden_size"]
    hidden, token = hidden_states(sizes, sizes.tokens, width)
    head = a_head(sizes, width)
    cell = torch.arange(sizes.tokens, device=sizes.device) // GROUP
    product_floor = 2 * sizes.tokens * sizes.vocabulary * width / machine["flops"] * 1e3
    logits_bytes = sizes.tokens * sizes.vocabulary * 4
    once, twice, thrice = (product_floor + count * logits_bytes / machine["copy"] * 1e3 for count in (0, 2, 3))
    eager, graph = layer_ms(sizes, name)
    out |= {"layer": eager, "layer as a graph": graph}
    line("decoder layer, as transformers runs it", eager)
    line("decoder layer, as a graph", graph)
    works: dict[str, tuple[Callable[[], object], float | None]] = {
        "product alone, bfloat16 out": (lambda: hidden @ head.weight_VD.T, once),
        "head, log-probs": (lambda: hidden_logp(hidden, head, token), twice),
        "head with entropy and purity": (lambda: hidden_statistics(hidden, head, token), twice),
        "head with JS as well": (lambda: group_deviation(hidden, head, token, cell), thrice),
    }
    if sizes.device == "cuda":
        old: dict[str, tuple[Callable[[], object], float | None]] = {
            "old code, log-probs": (lambda: hidden_logp(hidden, head, token, implementation="torch"), twice),
            "old code, entropy and purity": (
                lambda: hidden_statistics(hidden, head, token, implementation="torch"),
                twice,
            ),
            "old code, JS": (lambda: group_deviation(hidden, head, token, cell, implementation="torch"), thrice),
        }
        works |= old
    logits_of = lambda: (hidden @ head.weight_VD.T).float()  # noqa: E731
    works |= {
        "naive log-probs": (lambda: naive_logp(logits_of(), token), twice),
        "naive entropy": (lambda: naive_entropy(logits_of()), twice),
        "naive JS": (lambda: naive_js(logits_of()), thrice),
    }
    if name == sizes.models[0]:
        for key, function in (("naive entropy", naive_entropy), ("naive JS", naive_js)):
            compiled = torch.compile(function) if sizes.device == "cuda" else function
            works[f"{key}, torch.compile"] = (lambda compiled=compiled: compiled(logits_of()), None)  # type: ignore[misc]
    for key, (work, floor) in works.items():
        try:
            out[key] = ms(work, sizes.repeats)
            line(key, out[key], floor)
        except Exception as error:
            print(f"  {key}: {type(error).__name__}: {str(error)[:200]}")
    chosen = selection_ms(sizes)
    out["selection, share of a step's"] = chosen
    line("selection, share of a step's", chosen, note=f"a step of {sizes.step_groups} such groups")
    base = layers * graph + out["head, log-probs"]
    extra = max(out["head with entropy and purity"] - out["head, log-probs"], 0.0) + chosen
    extra_ict = out["head with JS as well"] - out["head, log-probs"] + chosen
    out |= {"pass": base, "ETS/GMTS on top": extra / base, "ICT on top": extra_ict / base}
    line(f"old-log-prob pass, {layers} layers as graphs", base)
    print(f"  ETS/GMTS on top {extra / base:7.2%} (goal 3%)    ICT on top {extra_ict / base:7.2%} (goal 10%)")
    for key, ours, theirs in (("GMTS", extra, "naive entropy"), ("ICT", extra_ict, "naive JS")):
        if theirs in out:
            more = out[theirs] - out["naive log-probs"]
            print(f"  naive {key} in the same pass, on top {more / base:7.2%}; with a pass of its own "
                  f"{(base + more) / base:7.2%}; ours {ours / base:7.2%}")  # fmt: skip


@torch.no_grad()
def one_group(sizes: Sizes, machine: dict[str, float], out: dict[str, Any]) -> None:
    """G = 16, T = 2,048: the distance kernel alone against its bytes, and the whole of scoring."""
    width = 896
    tokens = GROUP * sizes.group_positions
    hidden, token = hidden_states(sizes, tokens, width)
    head = a_head(sizes, width)
    cell = torch.arange(tokens, device=sizes.device) // GROUP
    rows = max(GROUP, 2**27 // sizes.vocabulary // GROUP * GROUP) if sizes.device == "cuda" else GROUP
    product = products(hidden[:rows], head.weight_VD)
    lse = torch.logsumexp(product, -1)
    start = torch.arange(0, rows + 1, GROUP, device=sizes.device)
    chunk_ms = ms(lambda: cell_distances(product, head, lse, start, distance="js", leave_one_out=False), sizes.repeats)
    js_ms = chunk_ms * tokens / rows
    whole_ms = ms(lambda: group_deviation(hidden, head, token, cell), max(2, sizes.repeats // 2))
    bound = tokens * sizes.vocabulary * 4 / machine["copy"] * 1e3
    floor = 2 * tokens * sizes.vocabulary * width / machine["flops"] * 1e3 + 3 * bound
    out |= {"JS kernel": js_ms, "bytes bound": bound, "whole": whole_ms, "whole floor": floor}
    line("JS kernel, whole group", js_ms, bound, "bytes of the float32 products as they stand (goal 2x)")
    line("JS kernel, whole group", js_ms, bound / 2, "if they stood there in bfloat16")
    line("product, statistics and JS, 0.5B head", whole_ms, floor)


def update(sizes: Sizes, name: str, machine: dict[str, float], out: dict[str, Any]) -> None:
    """Forward and backward through the head, all tokens and a fifth of them, beside logits that autograd keeps."""
    width = MODELS[name][1]["hidden_size"]
    head = a_head(sizes, width)
    weight = head.weight_VD.requires_grad_()
    for share in (1.0, 0.2):
        tokens = int(sizes.tokens * share)
        hidden, token = hidden_states(sizes, tokens, width)
        hidden.requires_grad_()
        # Forward, forward again, and two products of the backward pass; logits written and read three times.
        floor = 4 * 2 * tokens * sizes.vocabulary * width / machine["flops"] * 1e3
        floor += 5 * tokens * sizes.vocabulary * 4 / machine["copy"] * 1e3

        def ours(with_entropy: bool, hidden: Tensor = hidden, token: Tensor = token) -> None:
            logp, entropy = hidden_log_probs(hidden, head, token, with_entropy=with_entropy)
            loss = logp.mean() if entropy is None else logp.mean() + 0.01 * entropy.mean()
            torch.autograd.grad(loss, (hidden, weight))

        def naive(with_entropy: bool, hidden: Tensor = hidden, token: Tensor = token) -> None:
            logits = (hidden @ weight.T).float()
            logp = torch.log_softmax(logits, -1)
            loss = logp.gather(-1, token[:, None]).mean()
            if with_entropy:
                loss = loss - 0.01 * (logp.exp() * logp).sum(-1).mean()
            torch.autograd.grad(loss, (hidden, weight))

        def old(with_entropy: bool, hidden: Tensor = hidden, token: Tensor = token) -> None:
            logp, entropy = hidden_log_probs(hidden, head, token, with_entropy=with_entropy, implementation="torch")
            loss = logp.mean() if entropy is None else logp.mean() + 0.01 * entropy.mean()
            torch.autograd.grad(loss, (hidden, weight))

        for key, work in (("fused", ours), ("torch, by chunks", old), ("naive", naive)):
            for with_entropy in (False, True):
                what = f"{key}{', entropy bonus' if with_entropy else ''}, {tokens} tokens"
                try:
                    bound_work = lambda work=work, with_entropy=with_entropy: work(with_entropy)  # type: ignore[misc]  # noqa: E731
                    out[what] = ms(bound_work, max(2, sizes.repeats // 2))
                    out[f"{what}, MB"] = peak_mb(bound_work)
                    line(what, out[what], floor, f"peak {out[f'{what}, MB']:.0f} MB")
                except Exception as error:
                    print(f"  {what}: {type(error).__name__}: {str(error)[:200]}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


def memory(sizes: Sizes, out: dict[str, Any]) -> None:
    """Peaks beyond weights, their gradients and hidden states; each recipe's scoring and update."""
    print(
        "  MB at the peak beyond weights and hidden states (goals: scoring 1024, update 2048 with the head's gradient)"
    )
    for name in sizes.models:
        width = MODELS[name][1]["hidden_size"]
        for tokens in sizes.memory_tokens:
            hidden, token = hidden_states(sizes, tokens, width)
            head = a_head(sizes, width)
            cell = torch.arange(tokens, device=sizes.device) // GROUP
            weight = head.weight_VD.requires_grad_()
            leaf = hidden.requires_grad_()

            def step(with_entropy: bool, leaf: Tensor = leaf, head: Head = head, token: Tensor = token) -> None:
                logp, entropy = hidden_log_probs(leaf, head, token, with_entropy=with_entropy)
                (logp.mean() if entropy is None else logp.mean() + entropy.mean()).backward()
                leaf.grad = head.weight_VD.grad = None

            gradient_mb = weight.numel() * 2 / 2**20
            found = {
                "statistics": peak_mb(lambda: hidden_statistics(hidden, head, token)),  # noqa: B023
                "JS": peak_mb(lambda: group_deviation(hidden, head, token, cell)),  # noqa: B023
                "update": peak_mb(lambda: step(False)),
                "update with entropy": peak_mb(lambda: step(True)),
            }
            out[f"{name}, {tokens}"] = found | {"gradient of the head": gradient_mb}
            print(f"  {name}, {tokens} tokens: " + ", ".join(f"{key} {value:.0f}" for key, value in found.items())
                  + f" (of an update's, {gradient_mb:.0f} are the head's gradient)", flush=True)  # fmt: skip


def peers(sizes: Sizes, out: dict[str, Any]) -> None:
    """Verl's and Liger's fused losses, where they are installed, at the same forward and backward."""
    for name in sizes.models:
        width = MODELS[name][1]["hidden_size"]
        head = a_head(sizes, width)
        weight = head.weight_VD.requires_grad_()
        hidden, token = hidden_states(sizes, sizes.tokens, width)
        hidden.requires_grad_()

        def ours(hidden: Tensor = hidden, head: Head = head, token: Tensor = token) -> Tensor:
            return hidden_log_probs(hidden, head, token)[0].mean()

        def ours_entropy(hidden: Tensor = hidden, head: Head = head, token: Tensor = token) -> Tensor:
            logp, entropy = hidden_log_probs(hidden, head, token, with_entropy=True)
            assert entropy is not None
            return logp.mean() + entropy.mean()

        def liger(hidden: Tensor = hidden, weight: Tensor = weight, token: Tensor = token) -> Tensor:
            from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

            found = LigerFusedLinearCrossEntropyFunction.apply(hidden, weight, token)
            return found[0] if isinstance(found, tuple) else found

        def verl(hidden: Tensor = hidden, weight: Tensor = weight, token: Tensor = token) -> Tensor:
            from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

            logp, entropy = linear_cross_entropy(hidden[None], weight, token[None], 1.0, "none")
            return logp.mean() + entropy.mean()

        for key, forward in (
            ("ours, log-probs", ours),
            ("ours, log-probs and entropy", ours_entropy),
            ("Liger's fused linear cross entropy", liger),
            ("verl's linear_cross_entropy (with entropy)", verl),
        ):
            try:
                both = partial(gradients_of, forward, (hidden, weight))
                out[f"{name} {key}"] = ms(both, 3)
                out[f"{name} {key}, MB"] = peak_mb(both)
                line(f"{name} {key}", out[f"{name} {key}"], note=f"peak {out[f'{name} {key}, MB']:.0f} MB")
            except ImportError as error:
                print(f"  {name} {key}: not here ({error})")
            except Exception as error:
                print(f"  {name} {key}: {type(error).__name__}: {str(error)[:200]}")


def gradients_of(forward: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(forward(), inputs)


def summary(report: Report) -> None:
    """The short table: what is asked for, and what came out."""
    print("\n== summary")
    for name, figures in report.figures.items():
        if "ICT on top" in figures:
            print(
                f"  {name:16} ETS/GMTS {figures['ETS/GMTS on top']:.2%} (3%)   ICT {figures['ICT on top']:.2%} (10%)"
                f"   head {figures['head, log-probs']:.2f} / {figures['head with entropy and purity']:.2f}"
                f" / {figures['head with JS as well']:.2f} ms   pass {figures['pass']:.1f} ms"
            )
        if "bytes bound" in figures:
            print(f"  {name:16} {figures['JS kernel']:.2f} ms, {figures['JS kernel'] / figures['bytes bound']:.2f}x "
                  "of its bytes (2x)")  # fmt: skip
        if "best" in figures:
            print(f"  {name:22} best: {figures['best']}, {figures[figures['best']]:.3f} ms")
    print(f"  failed: {', '.join(report.failed) or 'nothing'}")
