"""Draws tokens from logits, and says what the distribution they came from looks like. Shapes: B rows, V vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLED_ELEMENTS = 1 << 25
"""Probabilities held in float64 at once while drawing: 256 MiB."""
_BLOCK = 256
"""Tokens summed at once: a running sum over a whole vocabulary costs more than its softmax."""


def draw(logits_BV: Tensor, uniform_B: Tensor, *, temperature: float, top_p: float = 1.0) -> Tensor:
    """Return one token a row by inverse CDF, or the likeliest at temperature 0; ties go to the lowest id.

    Args:
        logits_BV: any float type; the softmax is taken in float32 at the temperature, the CDF in float64.
        uniform_B: float64 in [0, 1).
        temperature: 0 or above.
        top_p: keep the smallest set of likeliest tokens whose probabilities sum to at least this.
    """
    if temperature == 0:
        return logits_BV.argmax(dim=-1)
    rows = max(1, SAMPLED_ELEMENTS // logits_BV.shape[-1])
    pieces = zip(torch.split(logits_BV, rows), torch.split(uniform_B, rows), strict=True)
    drawn = [_draw_piece(logits, uniform, temperature, top_p) for logits, uniform in pieces]
    return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


def statistics(logits_BV: Tensor, token_B: Tensor, *, temperature: float) -> Tensor:
    """Return log-prob of the given tokens, entropy and purity of their distributions: float32 (3, B).

    Source of the form of the entropy: docs/methods.md#numerics; probabilities of 0 add nothing to it.
    """
    rows = max(1, SAMPLED_ELEMENTS // logits_BV.shape[-1])
    pieces = zip(torch.split(logits_BV, rows), torch.split(token_B, rows), strict=True)
    return torch.cat([_statistics_piece(logits, token, temperature) for logits, token in pieces], dim=1)


def _statistics_piece(logits_BV: Tensor, token_B: Tensor, temperature: float) -> Tensor:
    logp_BV = (logits_BV.float() / temperature).log_softmax(dim=-1)
    probability_BV = logp_BV.exp()
    chosen_B = logp_BV.gather(1, token_B[:, None])[:, 0]
    entropy_B = -(probability_BV * logp_BV.clamp(min=torch.finfo(torch.float32).min)).sum(dim=-1)
    return torch.stack([chosen_B, entropy_B, probability_BV.square().sum(dim=-1)])


def _draw_piece(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    scaled_BV = logits_BV.float()
    if temperature != 1.0:
        scaled_BV = scaled_BV / temperature
    probability_BV = scaled_BV.softmax(dim=-1)
    if top_p >= 1.0:
        return _inverse_cdf(probability_BV, uniform_B)
    sorted_BV, token_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
    mass_before_BV = sorted_BV.cumsum(dim=-1, dtype=torch.float64) - sorted_BV
    place_B = _inverse_cdf(sorted_BV.masked_fill(mass_before_BV >= top_p, 0.0), uniform_B)
    return token_BV.gather(1, place_B[:, None])[:, 0]


def _inverse_cdf(mass_BV: Tensor, uniform_B: Tensor) -> Tensor:
    size = mass_BV.shape[-1]
    if size <= _BLOCK:
        cdf_BV = mass_BV.cumsum(dim=-1, dtype=torch.float64)
        return _first_above(cdf_BV, uniform_B[:, None] * cdf_BV[:, -1:])[:, 0]
    whole = size // _BLOCK * _BLOCK
    blocks = (mass_BV[:, :whole].reshape(len(mass_BV), -1, _BLOCK), mass_BV[:, None, whole:])
    cdf_BN = torch.cat([some.sum(dim=-1, dtype=torch.float64) for some in blocks], dim=1).cumsum(dim=-1)
    target_B1 = uniform_B[:, None] * cdf_BN[:, -1:]
    block_B1 = _first_above(cdf_BN, target_B1)
    before_B1 = torch.nn.functional.pad(cdf_BN, (1, 0)).gather(1, block_B1)
    token_BK = block_B1 * _BLOCK + torch.arange(_BLOCK, device=mass_BV.device)
    mass_BK = mass_BV.gather(1, token_BK.clamp(max=size - 1)).masked_fill(token_BK >= size, 0.0)
    place_B1 = _first_above(mass_BK.cumsum(dim=-1, dtype=torch.float64), target_B1 - before_B1)
    return (block_B1 * _BLOCK + place_B1)[:, 0]


def _first_above(cdf_BN: Tensor, target_B1: Tensor) -> Tensor:
    total_B1 = cdf_BN[:, -1:]
    # A rounded target may reach the total, beyond the last place of positive mass.
    target_B1 = torch.minimum(target_B1, total_B1.nextafter(torch.zeros_like(total_B1)))
    return torch.searchsorted(cdf_BN, target_B1, right=True)
