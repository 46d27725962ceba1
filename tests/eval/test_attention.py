from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eval.engines import attention as module_under_test
from eval.engines.attention import attention
from eval.engines.key_value_cache import GrowingLayer


class Layer(nn.Module):
    num_key_value_groups = 3
    is_causal = True


def states(queries: int, keys: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 6, queries, 4), (2, 2, keys, 4), (2, 2, keys, 4))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def reference(query: Tensor, key: Tensor, value: Tensor, is_seen: Tensor) -> Tensor:
    """Softmax attention written out for each row, head and query."""
    result = torch.zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3], dtype=torch.float64)
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            for place in range(query.shape[2]):
                seen = is_seen[row, place].nonzero()[:, 0]
                score = key[row, head // 3, seen] @ query[row, head, place] * 0.5
                result[row, place, head] = score.softmax(0) @ value[row, head // 3, seen]
    return result


@pytest.mark.parametrize("max_scores", [1 << 21, 0], ids=["products", "fused kernel"])
@pytest.mark.parametrize("kind", ["causal", "masked", "one query"])
def test_attention_is_the_softmax_of_the_definition(
    kind: str, max_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_under_test, "MAX_SCORES", max_scores)
    queries = 1 if kind == "one query" else 5
    query, key, value = states(queries, 5)
    is_seen = torch.ones(2, queries, 5, dtype=torch.bool)
    mask: Any = None
    if kind == "causal":
        is_seen = is_seen.tril()
    if kind == "masked":
        is_seen = is_seen.tril()
        is_seen[1, :, 0] = False
        is_seen[1, 0, 0] = True
        mask = is_seen[:, None]
    found, weights = attention(Layer(), query, key, value, mask)
    assert weights is None
    torch.testing.assert_close(found, reference(query, key, value, is_seen), rtol=0, atol=1e-12)


def test_a_query_that_sees_nothing_stays_finite() -> None:
    found, _ = attention(Layer(), *states(2, 3), torch.zeros(2, 1, 2, 3, dtype=torch.bool))
    assert bool(found.isfinite().all())


def test_keys_of_a_cache_on_a_cpu_lie_turned_through_growth_and_choice_of_rows() -> None:
    _, key, value = states(1, 40)
    layer = GrowingLayer(room=3)
    for start in range(0, 40, 4):
        layer.update(key[:, :, start : start + 4], value[:, :, start : start + 4])
    layer.batch_select_indices(torch.tensor([1, 0, 1]))
    assert torch.equal(layer.keys, key[[1, 0, 1]])
    assert torch.equal(layer.values, value[[1, 0, 1]])
    assert layer.keys.stride(2) == 1
