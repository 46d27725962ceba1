"""The kernels' errors against float64 on the device: ragged cells, −inf, cap, bias, odd sizes, fresh inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from gpu_work import (
    Sizes,
    gap,
)
from torch import Tensor

from trainers.head.fused import OutputGradients, Tuning, gradients, group_distances, token_logp, token_statistics
from trainers.head.operators import Head


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
