"""What the GPU benchmarks share: sizes, clocks, peaks, synthetic heads and hidden states, and the naive ways."""

from __future__ import annotations

import statistics as middle
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.head.operators import Head

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


def gap(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max())


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
