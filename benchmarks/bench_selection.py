"""What scoring costs beside the old-log-prob pass that every algorithm needs, and beside the naive way.

    python benchmarks/bench_selection.py [--tokens 256] [--repeats 3] [--device cpu|cuda]

On a GPU `gpu_selection.py` takes over; what follows is the CPU's part.

Head widths and vocabulary of Qwen2.5 with synthetic hidden states. The transformer below the head is one real decoder
layer, timed and multiplied by the number of layers. Times are CPU seconds of one thread (wall time on a GPU), median
and range of interleaved repeats. The naive way is what the papers' public code does: another forward pass,
materialised logits, a softmax for each statistic.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

from trainers.head.deviation import group_deviation
from trainers.head.distribution import hidden_logp, hidden_statistics
from trainers.head.operators import Head
from trainers.recipe import Selection
from trainers.selection import Tokens, select

VOCABULARY = 151_936
GROUP = 16
GROUP_TOKENS = GROUP * 2048
SHAPES = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2},
}
LAYERS = {"0.5B": 24, "1.5B": 28}


class Case:
    """One model's head, one decoder layer, and the hidden states of one prompt group."""

    def __init__(self, name: str, num_tokens: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        width = SHAPES[name]["hidden_size"]
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.hidden = torch.randn(num_tokens, width, generator=generator).to(device, dtype)
        weight = torch.randn(VOCABULARY, width, generator=generator) * 3 / width**0.5
        self.head = Head(weight_VD=weight.to(device, dtype))
        self.token = torch.randint(VOCABULARY, (num_tokens,), generator=generator).to(device)
        self.rows, self.length = GROUP, num_tokens // GROUP
        self.cell = torch.arange(self.length).repeat(GROUP).to(device)
        config = Qwen2Config(**SHAPES[name], num_hidden_layers=1, attn_implementation="sdpa")
        self.layer = Qwen2DecoderLayer(config, 0).to(device, dtype).requires_grad_(False)
        places = torch.arange(self.length, device=device)[None]
        self.rotary = Qwen2RotaryEmbedding(config).to(device)(self.hidden[None], places)

    def run_layer(self) -> None:
        """Run one decoder layer over the group."""
        hidden = self.hidden.view(self.rows, self.length, -1)
        self.layer(hidden, position_embeddings=self.rotary)

    def run_selection(self, method: str) -> None:
        """Score and select among the group's tokens."""
        shape = (self.rows, self.length)
        zeros = torch.zeros(self.rows, dtype=torch.int64, device=self.hidden.device)
        values = torch.rand(shape, device=self.hidden.device)
        tokens = Tokens(
            mask_BT=torch.ones(shape, dtype=torch.bool, device=self.hidden.device),
            advantage_B=values[:, 0],
            group_B=zeros,
            uid_B=torch.arange(self.rows, device=self.hidden.device),
            scope_B=zeros,
            logp_BT=values,
            entropy_BT=values,
            purity_BT=values,
            weight_BT=values,
            deviation_BT=None,
            draw_seed=0,
        )
        select(tokens, Selection(method=method, ratio=0.2), ratio=0.2)

    def naive_entropy(self) -> torch.Tensor:
        """Entropies from materialised logits, softmax by softmax."""
        logits = torch.nn.functional.linear(self.hidden, self.head.weight_VD).float()
        p = torch.softmax(logits, -1)
        return -(p * torch.log_softmax(logits, -1)).sum(-1)

    def naive_ict(self) -> torch.Tensor:
        """JS against the group mean from materialised logits, as a sum of two KLs."""
        logits = torch.nn.functional.linear(self.hidden, self.head.weight_VD).float()
        p = torch.softmax(logits, -1).view(self.rows, self.length, -1)
        mean = p.mean(0, keepdim=True).expand_as(p)
        middle = 0.5 * (p + mean)
        to_middle = (p * (p.clamp_min(1e-12).log() - middle.clamp_min(1e-12).log())).sum(-1)
        from_middle = (mean * (mean.clamp_min(1e-12).log() - middle.clamp_min(1e-12).log())).sum(-1)
        return 0.5 * (to_middle + from_middle)


def measure(work: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each piece of work, pieces interleaved so that drift hits them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, piece in work.items():
            clock = time.process_time if device == "cpu" else time.perf_counter
            started = clock()
            piece()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(clock() - started)
    return seconds


def times(name: str, num_tokens: int, repeats: int, device: str) -> None:
    case = Case(name, num_tokens, device)
    with torch.no_grad():
        seconds = measure(
            {
                "layer": case.run_layer,
                "logp": lambda: hidden_logp(case.hidden, case.head, case.token),
                "statistics": lambda: hidden_statistics(case.hidden, case.head, case.token),
                "select": lambda: case.run_selection("gmts"),
                "ict": lambda: group_deviation(case.hidden, case.head, case.token, case.cell),
                "naive entropy": case.naive_entropy,
                "naive ict": case.naive_ict,
            },
            repeats,
            device,
        )
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    trunk = middle["layer"] * LAYERS[name]
    base = trunk + middle["logp"]
    extra = max(middle["statistics"] - middle["logp"], 0) + middle["select"]
    extra_ict = middle["ict"] - middle["logp"] + middle["select"]
    print(f"\n{name}: {num_tokens} tokens, V={VOCABULARY}, n={repeats}")
    for key, values in seconds.items():
        print(f"  {key:14} {middle[key]:7.3f} s  ({min(values):.3f} to {max(values):.3f})")
    print(f"  old-log-prob pass ({LAYERS[name]} layers + head): {base:.2f} s, head share {middle['logp'] / base:.0%}")
    print(f"  ETS/GMTS on top: {extra / base:6.1%} (target 3%)")
    print(f"  ICT on top:      {extra_ict / base:6.1%} (target 25%)")
    for method, ours, theirs in (
        ("GMTS", extra, middle["naive entropy"] - middle["logp"]),
        ("ICT", extra_ict, middle["naive ict"] - middle["logp"]),
    ):
        again = trunk + middle["logp"] + theirs
        print(
            f"  naive {method} on top: {theirs / base:6.1%} in the same pass, {theirs / ours:.0f} times ours;", end=""
        )
        print(f" {again / base:6.1%} with a pass of its own, {again / ours:.0f} times ours (target 3)")


def peak_memory(what: str, name: str, num_tokens: int) -> None:
    """Print, from a process of its own, by how many MB the work raises the peak resident memory (Linux)."""
    case = Case(name, num_tokens, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, without what building the case took
    before = resident_mb("VmRSS")
    with torch.no_grad():
        if what == "naive":
            case.naive_ict()
        else:
            group_deviation(case.hidden, case.head, case.token, case.cell)
    print(resident_mb("VmHWM") - before)


def resident_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def memory(num_tokens: int) -> None:
    """Compare peaks where the naive way fits, and set both against a group of 16 × 2048 tokens."""

    def peak(what: str, count: int) -> float:
        command = [sys.executable, __file__, "--peak", what, "--tokens", str(count)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    full_mb = GROUP_TOKENS * VOCABULARY * 4 / 2**20
    ours, naive = peak("ours", 4 * num_tokens), peak("naive", num_tokens)
    naive_full = naive / num_tokens * GROUP_TOKENS
    print(f"\nICT memory beyond weights and hidden states, group of {GROUP} × 2048 tokens, V={VOCABULARY}")
    print(f"  its full float32 logits: {full_mb:.0f} MB")
    print(
        f"  ours:  {ours:.0f} MB at any length (measured at {4 * num_tokens} tokens), {ours / full_mb:.1%} (target 5%)"
    )
    print(
        f"  naive: {naive:.0f} MB at {num_tokens} tokens, hence {naive_full:.0f} MB: {naive_full / ours:.0f} times ours"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda", "interpreter"], default="cpu")
    parser.add_argument("--peak", choices=["ours", "naive"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device != "cpu":
        from gpu_selection import run  # beside this file

        sys.exit(run(asked.device))
    torch.set_num_threads(1)
    if asked.peak:
        peak_memory(asked.peak, "0.5B", asked.tokens)
        return
    print(
        "scores and selection beside the old-log-prob pass;", "one CPU thread" if asked.device == "cpu" else "one GPU"
    )
    for name in SHAPES:
        times(name, asked.tokens, asked.repeats, asked.device)
    if asked.device == "cpu":
        memory(asked.tokens)


if __name__ == "__main__":
    main()
