"""The fused head on a GPU: what scoring and updating cost beside the passes they are part of, beside floors and peers.

    python benchmarks/bench_head.py [--models 0.5B 1.5B 7B] [--length 1024] [--repeats 7] [--json FILE]

Widths and vocabulary of Qwen2.5, bfloat16, synthetic hidden states of one prompt group of 16 responses. Times are
CUDA events, median (minimum to maximum) of interleaved repeats; the transformer below the head is one real decoder
layer times their number. Floors: the head's multiplications at the rate that a large product reached in this run, and
the bytes that must move (logits written once and read once, or twice for JS) at the rate of a copy in this run.
First every kernel is compared with float64 on fresh random values.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

from trainers import kernels
from trainers.api import Selection
from trainers.deviation import group_deviation, js_divergence
from trainers.distribution import CHUNK, Head, hidden_logp, hidden_statistics, scaled, statistics
from trainers.fused_head import head_logp
from trainers.selection import Tokens, select

VOCABULARY = 151_936
GROUP = 16
SHAPES = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4},
}
LAYERS = {"0.5B": 24, "1.5B": 28, "7B": 28}
GOALS = {"ETS, GMTS": 0.03, "ICT": 0.10}


class Case:
    """One model's head, one decoder layer, and the hidden states of one prompt group."""

    def __init__(self, name: str, length: int) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        width = SHAPES[name]["hidden_size"]
        self.num_tokens, self.length, self.width = GROUP * length, length, width
        self.hidden = torch.randn(self.num_tokens, width, generator=generator, device="cuda").bfloat16()
        weight = torch.randn(VOCABULARY, width, generator=generator, device="cuda") * 3 / width**0.5
        self.head = Head(weight_VD=weight.bfloat16())
        self.token = torch.randint(VOCABULARY, (self.num_tokens,), generator=generator, device="cuda")
        self.cell = torch.arange(length, device="cuda").repeat(GROUP)
        config = Qwen2Config(**SHAPES[name], num_hidden_layers=1, attn_implementation="sdpa")
        self.layer = Qwen2DecoderLayer(config, 0).to("cuda", torch.bfloat16).requires_grad_(False)
        places = torch.arange(length, device="cuda")[None]
        self.rotary = Qwen2RotaryEmbedding(config).to("cuda")(self.hidden[None], places)
        self.small = slice(0, CHUNK // VOCABULARY // GROUP * GROUP)
        """As many tokens as one chunk of logits has: what the naive ways hold at once."""

    def run_layer(self) -> None:
        """Run one decoder layer over the group."""
        self.layer(self.hidden.view(GROUP, self.length, -1), position_embeddings=self.rotary)

    def products(self) -> None:
        """The head alone, chunk by chunk."""
        for rows in self.head.chunks(self.num_tokens):
            self.head.raw_logits(self.hidden[rows])

    def select(self, method: str) -> None:
        """Select among the group's tokens."""
        shape = (GROUP, self.length)
        zeros = torch.zeros(GROUP, dtype=torch.int64, device="cuda")
        values = torch.rand(shape, device="cuda")
        tokens = Tokens(
            mask_BT=torch.ones(shape, dtype=torch.bool, device="cuda"),
            advantage_B=values[:, 0],
            group_B=zeros,
            uid_B=torch.arange(GROUP, device="cuda"),
            scope_B=zeros,
            logp_BT=values,
            entropy_BT=values,
            purity_BT=values,
            weight_BT=values,
            deviation_BT=None,
            draw_seed=0,
        )
        select(tokens, Selection(method=method, ratio=0.2), ratio=0.2)

    def torch_statistics(self) -> None:
        """What the platform did before it had kernels."""
        for rows in self.head.chunks(self.num_tokens):
            statistics(scaled(self.head.raw_logits(self.hidden[rows]), 1.0), self.token[rows])

    def naive_entropy(self, hidden: Tensor) -> Tensor:
        """Take entropies softmax by softmax."""
        logits = torch.nn.functional.linear(hidden, self.head.weight_VD).float()
        p = torch.softmax(logits, -1)
        return -(p * torch.log_softmax(logits, -1)).sum(-1)

    def naive_js(self, hidden: Tensor) -> Tensor:
        """Take JS against the group's mean as a sum of two KLs."""
        logits = torch.nn.functional.linear(hidden, self.head.weight_VD).float()
        p = torch.softmax(logits, -1).view(GROUP, -1, VOCABULARY)
        mean = p.mean(0, keepdim=True).expand_as(p)
        middle = 0.5 * (p + mean)
        to_middle = (p * (p.clamp_min(1e-12).log() - middle.clamp_min(1e-12).log())).sum(-1)
        from_middle = (mean * (mean.clamp_min(1e-12).log() - middle.clamp_min(1e-12).log())).sum(-1)
        return 0.5 * (to_middle + from_middle)

    def over_chunks(self, work: Callable[[Tensor], Any]) -> Callable[[], None]:
        """Return the work over the whole group, as many tokens at once as a chunk of logits has."""

        def run() -> None:
            for start in range(0, self.num_tokens, self.small.stop):
                part = self.hidden[start : start + self.small.stop]
                work(part[: len(part) // GROUP * GROUP])

        return run

    def fused_update(self) -> None:
        """Make gradients of hidden states and head without logits."""
        hidden = self.hidden.detach().requires_grad_()
        head = Head(weight_VD=self.head.weight_VD.detach().requires_grad_())
        logp, _ = head_logp(hidden, head, self.token)
        torch.autograd.backward(logp.mean())

    def naive_update(self) -> None:
        """A chunk of the group at a time, each with logits, log-softmax and their gradients held."""
        weight = self.head.weight_VD.detach().requires_grad_()
        for start in range(0, self.num_tokens, self.small.stop):
            hidden = self.hidden[start : start + self.small.stop].detach().requires_grad_()
            logits = torch.nn.functional.linear(hidden, weight).float()
            token = self.token[start : start + self.small.stop]
            logp = torch.log_softmax(logits, -1).gather(1, token[:, None])
            torch.autograd.backward(logp.sum() / self.num_tokens)


def measure(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each piece of work, pieces interleaved, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, piece in work.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            piece()
            end.record()
            torch.cuda.synchronize()
            if repeat:
                found[name].append(begin.elapsed_time(end))
    return found


def peak_mb(work: Callable[[], object]) -> float:
    """Memory that the work takes beyond what is there."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def ceilings() -> dict[str, float]:
    """Bytes a second of a copy (read and written), and operations a second of a bfloat16 product, in this run."""
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    left, right = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    copy = median(measure({"": lambda: target.copy_(source)}, 7)[""])
    product = median(measure({"": lambda: left @ right}, 7)[""])
    return {"bytes_per_s": 2 * source.nbytes / copy * 1e3, "flop_per_s": 2 * 8192**3 / product * 1e3}


def check() -> dict[str, float]:
    """Largest errors against float64, over types, temperatures, ragged cells and −inf."""
    worst: dict[str, float] = {}
    generator = torch.Generator("cuda").manual_seed(torch.seed() % 2**63)
    for vocabulary, dtype in ((VOCABULARY, torch.float32), (VOCABULARY, torch.bfloat16), (50_257, torch.float16)):
        sizes = [1, 2, 3, 5, 16, 16, 7, 14]
        num_rows, temperature = sum(sizes), 0.6
        logits = (torch.randn(num_rows, vocabulary, generator=generator, device="cuda") * 3).to(dtype)
        logits[:, ::5] = -float("inf")
        logits[3, :5000] = -float("inf")
        token = torch.randint(2000, 9000, (num_rows,), generator=generator, device="cuda") * 5 + 1
        got = kernels.chunk_statistics(logits, token, temperature=temperature)
        logp = torch.log_softmax(logits.double() / temperature, -1)
        p = logp.exp()
        entropy = -torch.where(p > 0, p * logp, 0.0).sum(-1)
        lse = torch.logsumexp(logits.double() / temperature, -1)
        want = (logp.gather(1, token[:, None])[:, 0], entropy, p.square().sum(-1), lse)
        for name, one, other in zip(("logp", "entropy", "purity", "lse"), got, want, strict=True):
            worst[name] = max(worst.get(name, 0.0), float((one - other).abs().max()))
        row = torch.randperm(num_rows, generator=generator, device="cuda")
        first = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()], device="cuda")
        deviation = kernels.chunk_deviation(logits, got[3], row, first, temperature=temperature)
        for begin, end in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
            members = p[row[begin:end]]
            js = js_divergence(members.clone(), members.mean(0, keepdim=True).expand_as(members).clone())
            if end - begin > 1:
                error = float((deviation[row[begin:end]] - js).abs().max())
                worst["js"] = max(worst.get("js", 0.0), error)
        g, h = torch.randn(2, num_rows, generator=generator, device="cuda")
        out = torch.empty_like(logits, dtype=torch.float32)
        kernels.chunk_gradient(
            logits, token, got[3], g, temperature=temperature, entropy_N=got[1], entropy_gradient_N=h, out_NV=out
        )
        exact = -(p * g[:, None].double()) - torch.where(p > 0, h[:, None] * p * (logp + entropy[:, None]), 0.0)
        exact.scatter_add_(1, token[:, None], g[:, None].double())
        worst["gradient"] = max(worst.get("gradient", 0.0), float((out - exact / temperature).abs().max()))
    return worst


def variants(case: Case) -> dict[str, float]:
    """Milliseconds of each kernel on one chunk, by block, warps and shares of the vocabulary."""
    logits = case.head.raw_logits(case.hidden[case.small])
    token = case.token[case.small]
    lse = kernels.chunk_statistics(logits, token, temperature=1.0)[3]
    row = torch.arange(len(token), device="cuda")
    first = torch.arange(0, len(token) + 1, GROUP, device="cuda")
    work: dict[str, Callable[[], object]] = {}
    for block, warps in ((2048, 4), (4096, 4), (4096, 8), (8192, 8), (8192, 16)):
        work[f"statistics {block} {warps}"] = lambda block=block, warps=warps: kernels.chunk_statistics(
            logits, token, temperature=1.0, block=block, num_warps=warps
        )
    for block, warps, shares in ((512, 4, 16), (1024, 4, 8), (1024, 4, 16), (1024, 8, 16), (2048, 8, 8), (2048, 8, 16)):
        work[f"js {block} {warps} {shares}"] = lambda b=block, w=warps, s=shares: kernels.chunk_deviation(
            logits, lse, row, first, temperature=1.0, block=b, num_warps=w, shares=s
        )
    for block, warps in ((1024, 4), (2048, 4), (4096, 8)):
        out = torch.empty_like(logits, dtype=torch.bfloat16)
        work[f"gradient {block} {warps}"] = lambda b=block, w=warps, o=out: kernels.chunk_gradient(
            logits, token, lse, lse, temperature=1.0, out_NV=o, block=b, num_warps=w
        )
    return {name: median(values) for name, values in measure(work, 7).items()} | {"logits_mb": logits.nbytes / 2**20}


def compare(name: str, length: int, repeats: int, ceiling: dict[str, float]) -> dict[str, Any]:
    case = Case(name, length)
    entropy_of, hidden, head, token = case.naive_entropy, case.hidden, case.head, case.token
    compiled = torch.compile(entropy_of) if name == "0.5B" else None
    work: dict[str, Callable[[], object]] = {
        "decoder layer": case.run_layer,
        "head's product alone": case.products,
        "log-probs": lambda: hidden_logp(hidden, head, token),
        "with entropy and purity": lambda: hidden_statistics(hidden, head, token),
        "with JS as well": lambda: group_deviation(hidden, head, token, case.cell),
        "selection": lambda: case.select("gmts"),
        "before: with entropy and purity": case.torch_statistics,
        "naive entropy": case.over_chunks(entropy_of),
        "naive JS": case.over_chunks(case.naive_js),
    }
    if compiled is not None:
        work["naive entropy, compiled"] = case.over_chunks(compiled)
    with torch.no_grad():
        times = measure(work, repeats)
        memory = {
            "scoring": peak_mb(lambda: group_deviation(hidden, head, token, case.cell)),
            "naive JS of one chunk": peak_mb(lambda: case.naive_js(hidden[case.small])),
        }
    updates: dict[str, Callable[[], object]] = {"update, fused": case.fused_update, "update, naive": case.naive_update}
    updates |= peer_updates(case)
    times |= measure(updates, repeats)
    memory |= {name: peak_mb(piece) for name, piece in updates.items()}
    middle = {key: median(values) for key, values in times.items()}
    base = middle["decoder layer"] * LAYERS[name] + middle["log-probs"]
    logits = case.num_tokens * VOCABULARY * 4
    floor = 2 * case.num_tokens * VOCABULARY * case.width / ceiling["flop_per_s"] * 1e3
    extra = {
        "ETS, GMTS": (middle["with entropy and purity"] - middle["log-probs"] + middle["selection"]) / base,
        "ICT": (middle["with JS as well"] - middle["log-probs"] + middle["selection"]) / base,
    }
    js = middle["with JS as well"] - middle["with entropy and purity"]
    print(f"\n{name}: {GROUP} × {length} tokens, V = {VOCABULARY}, n = {repeats}, milliseconds")
    for key, values in times.items():
        print(f"  {key:32} {middle[key]:9.2f}  ({min(values):.2f} to {max(values):.2f})")
    print(f"  floor of the head's product {floor:.2f}, of one pass over its float32 logits ", end="")
    print(f"{logits / ceiling['bytes_per_s'] * 1e3:.2f}; old-log-prob pass {base:.1f}")
    for method, share in extra.items():
        print(f"  {method} on top of the pass: {share:.1%} (goal {GOALS[method]:.0%})")
    print(f"  JS alone {js:.2f}, {js / (logits / ceiling['bytes_per_s'] * 1e3):.2f}× its bytes (goal 2×)")
    print("  MB beyond weights and hidden states: " + ", ".join(f"{key} {value:.0f}" for key, value in memory.items()))
    return {"times_ms": times, "memory_mb": memory, "on_top": extra, "variants": show(variants(case))}


def peer_updates(case: Case) -> dict[str, Callable[[], object]]:
    """Fused heads of verl and Liger, where they are installed; each gives log-probs with gradients."""
    found: dict[str, Callable[[], object]] = {}
    try:
        from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

        def by_verl() -> None:
            hidden = case.hidden.detach().requires_grad_()
            weight = case.head.weight_VD.detach().requires_grad_()
            logp, _ = linear_cross_entropy(hidden, weight, case.token, 1.0, "none")
            torch.autograd.backward(logp.mean())

        by_verl()
        found["update, verl's fused kernel"] = by_verl
    except Exception as error:
        print(f"verl's linear_cross_entropy is not measured: {error!r}"[:200])
    try:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        def by_liger() -> None:
            hidden = case.hidden.detach().requires_grad_()
            weight = case.head.weight_VD.detach().requires_grad_()
            torch.autograd.backward(liger_fused_linear_cross_entropy(hidden, weight, case.token))

        by_liger()
        found["update, Liger's fused kernel"] = by_liger
    except Exception as error:
        print(f"Liger's fused linear cross entropy is not measured: {error!r}"[:200])
    return found


def show(found: dict[str, float]) -> dict[str, float]:
    print("  one chunk, by block, warps (and shares): " + ", ".join(f"{key}: {ms:.3f}" for key, ms in found.items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device, ceiling, errors = torch.cuda.get_device_name(), ceilings(), check()
    print(f"{device}, torch {torch.__version__}: copy {ceiling['bytes_per_s'] / 1e12:.2f} TB/s, ", end="")
    print(f"product {ceiling['flop_per_s'] / 1e12:.0f} TFLOP/s")
    print("largest error against float64: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    results: dict[str, Any] = {"device": device, "ceilings": ceiling, "errors": errors}
    for name in options.models:
        results[name] = compare(name, options.length, options.repeats, ceiling)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
