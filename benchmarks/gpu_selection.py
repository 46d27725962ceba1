"""The GPU part of `bench_selection.py`: kernels against float64, ceilings of the machine, times, memory, tuning.

Every time stands beside its floor: FLOP over the measured matrix rate, or bytes over the measured copy bandwidth. A
section that fails is reported, and the others go on; the exit status says so. With $OUT set, all figures also go to
$OUT/selection.json. `--device interpreter` walks through the same code on a CPU at toy sizes.
"""

from __future__ import annotations

import json
import os
import statistics as middle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

from trainers.api import Selection
from trainers.deviation import group_deviation
from trainers.distribution import hidden_logp, hidden_statistics
from trainers.fused import (
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
from trainers.head import Head
from trainers.log_probs import hidden_log_probs
from trainers.selection import Tokens, select

GROUP = 16
MODELS = {
    "0.5B": (24, {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}),
    "1.5B": (28, {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}),
    "7B": (28, {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the work is: what is measured, or a toy for the interpreter."""

    device: str
    vocabulary: int = 151_936
    tokens: int = 8192
    group_positions: int = 2048
    step_groups: int = 64
    memory_tokens: tuple[int, ...] = (4096, 20_480)
    check_vocabularies: tuple[int, ...] = (151_936, 5003, 77)
    models: tuple[str, ...] = tuple(MODELS)
    repeats: int = 7


TOY = Sizes(
    device="cpu",
    vocabulary=640,
    tokens=32,
    group_positions=3,
    step_groups=2,
    memory_tokens=(32,),
    check_vocabularies=(301,),
    models=("0.5B",),
    repeats=1,
)


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


def ms(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some work in milliseconds, by events, after two warm-ups."""
    work()
    if not torch.cuda.is_available():
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * 1e3
    work()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return middle.median(times)


def graph_ms(work: Callable[[], object], repeats: int) -> float:
    """The same by replays of a CUDA graph: without what launching costs the host."""
    if not torch.cuda.is_available():
        return ms(work, repeats)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return ms(graph.replay, repeats)


def peak_mb(work: Callable[[], object]) -> float:
    """Return by how many MB (2^20 bytes) some work raises what torch has allocated at its peak."""
    if not torch.cuda.is_available():
        work()
        return 0.0
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def line(name: str, value_ms: float, floor_ms: float | None = None, note: str = "") -> None:
    floor = "" if floor_ms is None else f"   floor {floor_ms:8.3f} ms  {value_ms / floor_ms:5.2f}x"
    print(f"  {name:44} {value_ms:9.3f} ms{floor}  {note}", flush=True)


def a_head(sizes: Sizes, width: int, *, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Head:
    generator = torch.Generator(sizes.device).manual_seed(seed)
    weight = torch.randn(sizes.vocabulary, width, generator=generator, device=sizes.device) * 3 / width**0.5
    return Head(weight_VD=weight.to(dtype))


def hidden_states(
    sizes: Sizes, tokens: int, width: int, *, dtype: torch.dtype = torch.bfloat16
) -> tuple[Tensor, Tensor]:
    """Random hidden states whose groups share most of their direction, as those of one prompt do; and tokens."""
    generator = torch.Generator(sizes.device).manual_seed(1)
    common = torch.randn(1 + tokens // GROUP, width, generator=generator, device=sizes.device)
    own = torch.randn(tokens, width, generator=generator, device=sizes.device)
    hidden = common[torch.arange(tokens, device=sizes.device) // GROUP] * 0.9 + own * 0.45
    token = torch.randint(sizes.vocabulary, (tokens,), generator=generator, device=sizes.device)
    return hidden.to(dtype), token


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


def check(sizes: Sizes, out: dict[str, Any]) -> None:
    """Print the largest errors of fresh random inputs against float64: ragged cells, −inf, cap, bias, odd sizes."""
    print("  max |error| against float64; gradients: relative in norm")
    for vocabulary in sizes.check_vocabularies:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            for capped in (False, True):
                found = errors(sizes.device, vocabulary, dtype, capped=capped)
                key = f"V={vocabulary} {str(dtype)[6:]}{', cap 30, bias with -inf, T=.6' if capped else ''}"
                out[key] = found
                print(f"  {key}\n    " + "  ".join(f"{name} {value:.1e}" for name, value in found.items()), flush=True)


def errors(device: str, vocabulary: int, dtype: torch.dtype, *, capped: bool) -> dict[str, float]:
    width, sizes_of_cells = 64, [1, 5, 16, 3, 16, 7]
    tokens = sum(sizes_of_cells)
    hidden = torch.randn(tokens, width, device=device).to(dtype)
    weight = (torch.randn(vocabulary, width, device=device) * 0.5).to(dtype)
    token = torch.randint(vocabulary, (tokens,), device=device)
    bias = None
    if capped:
        bias = torch.randn(vocabulary, device=device).to(dtype)
    head = Head(weight_VD=weight, bias_V=bias, temperature=0.6 if capped else 1.0, softcap=30.0 if capped else None)
    if not capped and dtype == torch.float32:  # barred tokens: a bias of −inf
        bias = torch.zeros(vocabulary, device=device)
        bias[::7] = -torch.inf
        bias[token] = 0.0
        head = replace(head, bias_V=bias)
    start = torch.tensor([0, *sizes_of_cells], device=device).cumsum(0)
    exact = exact_statistics(hidden, head, token)
    found = token_statistics(hidden, head, token)
    result = {name: gap(getattr(found, f"{name}_N"), exact[name]) for name in ("logp", "entropy", "purity", "lse")}
    result["logp alone"] = gap(token_logp(hidden, head, token)[0], exact["logp"])
    narrow = Tuning(workspace_bytes=4 * vocabulary * 9)  # several chunks
    for distance, leave_one_out in (("js", False), ("js", True), ("kl", False), ("wasserstein", False)):
        expected = exact_distance(exact["p"], sizes_of_cells, distance, leave_one_out)
        value, _ = group_distances(
            hidden, head, token, start, distance=distance, leave_one_out=leave_one_out, tuning=narrow
        )
        scale = float(expected.abs().max()) if distance == "wasserstein" else 1.0
        result[distance + (" loo" if leave_one_out else "")] = gap(value, expected) / scale
    g, h = torch.randn(2, tokens, device=device)
    expected_gradients = exact_gradients(hidden, head, token, g, h)
    outputs = OutputGradients(
        token_N=token, lse_N=found.lse_N, logp_gradient_N=g, entropy_N=found.entropy_N, entropy_gradient_N=h
    )
    for name, value, expected in zip(
        ("d hidden", "d weight"), gradients(hidden, head, outputs, tuning=narrow)[:2], expected_gradients, strict=True
    ):
        assert value is not None
        result[name] = float((value.double() - expected).norm() / expected.norm())
    return result


def exact_logits(hidden: Tensor, head: Head) -> Tensor:
    z = hidden.double() @ head.weight_VD.double().T
    if head.bias_V is not None:
        z = z + head.bias_V.double()
    if head.softcap is not None:
        z = torch.tanh(z / head.softcap) * head.softcap
    return z / head.temperature


def exact_statistics(hidden: Tensor, head: Head, token: Tensor) -> dict[str, Tensor]:
    z = exact_logits(hidden, head)
    lse = torch.logsumexp(z, -1)
    logp = z - lse[:, None]
    p = logp.exp()
    return {
        "logp": logp.gather(1, token[:, None])[:, 0],
        "entropy": -torch.where(p > 0, p * logp, 0.0).sum(-1),
        "purity": p.square().sum(-1),
        "lse": lse,
        "p": p,
    }


def exact_distance(p: Tensor, sizes_of_cells: list[int], distance: str, leave_one_out: bool) -> Tensor:
    def kl(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(a > 0, a * (a.clamp(min=1e-300) / b.clamp(min=1e-300)).log(), 0.0).sum(-1)

    parts = []
    for cell in p.split(sizes_of_cells):
        n = len(cell)
        mean = (cell.sum(0) - cell) / max(n - 1, 1) if leave_one_out else cell.mean(0).expand_as(cell)
        half = (cell + mean) / 2
        value = {
            "js": lambda: (kl(cell, half) + kl(mean, half)) / 2,  # noqa: B023
            "kl": lambda: kl(cell, mean),  # noqa: B023
            "wasserstein": lambda: (cell - mean).cumsum(-1).abs().sum(-1),  # noqa: B023
        }[distance]()
        parts.append(value if n > 1 else torch.zeros_like(value))
    return torch.cat(parts)


def exact_gradients(hidden: Tensor, head: Head, token: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    hidden, weight = hidden.double().requires_grad_(), head.weight_VD.double().requires_grad_()
    logp = torch.log_softmax(exact_logits(hidden, replace(head, weight_VD=weight)), -1)
    entropy = -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)
    loss = (logp.gather(1, token[:, None])[:, 0] * g.double()).sum() + (entropy * h.double()).sum()
    first, second = torch.autograd.grad(loss, (hidden, weight))
    return first, second


def gap(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max())


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


def naive_entropy(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1)
    return -(p * torch.log_softmax(logits, -1)).sum(-1)


def naive_js(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1).view(-1, GROUP, logits.shape[-1])
    mean = p.mean(1, keepdim=True).expand_as(p)
    half = 0.5 * (p + mean)
    to_half = (p * (p.clamp_min(1e-12).log() - half.clamp_min(1e-12).log())).sum(-1)
    from_half = (mean * (mean.clamp_min(1e-12).log() - half.clamp_min(1e-12).log())).sum(-1)
    return 0.5 * (to_half + from_half)


def naive_logp(logits: Tensor, token: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, token[:, None])[:, 0]


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
