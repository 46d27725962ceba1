"""What the head takes beyond weights and hidden states, at the shapes of real models, by tensors without data.

Kernels write into memory that their callers allocate, so that memory is the same whether they run: here they do not.
"""

from weakref import WeakSet

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.head.distribution import hidden_logp, hidden_statistics
from trainers.head.log_probs import hidden_log_probs, kept_chunks
from trainers.head.operators import Head

WIDTHS = {"0.5B": 896, "1.5B": 1536, "7B": 3584, "8B": 4096}
VOCABULARY = 151_936
MB = 2**20


class Peak(TorchDispatchMode):
    """Counts the bytes of storages that are alive, those that were before left out."""

    def __init__(self, *known):
        super().__init__()
        self._known = {value.untyped_storage()._cdata for value in known}
        self._alive = WeakSet()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self._known:
                self._alive.add(value.untyped_storage())
        self.bytes = max(self.bytes, sum(storage.nbytes() for storage in self._alive))
        return out


class NoLaunch:
    """Stands for a kernel."""

    def __getitem__(self, grid):
        return lambda **arguments: None


@pytest.fixture
def kernels_do_not_run(monkeypatch):
    pytest.importorskip("triton", reason="the extra dev brings Triton on Linux")
    from trainers.head import fused

    for name in ("statistics_kernel", "combine_kernel", "distance_kernel", "gradient_kernel"):
        monkeypatch.setattr(fused, name, NoLaunch())
    # On CUDA a product comes out in float32 without a copy of its factors.
    monkeypatch.setattr(
        fused, "products", lambda hidden, weight: hidden.new_empty(len(hidden), len(weight), dtype=torch.float32)
    )
    monkeypatch.setattr(fused, "_add_product", lambda total, left, right: total.add_(torch.empty_like(total)))


def peak_mb(work, width, num_tokens, dtype):
    """Return the peak of some work on (hidden, head, token), and the size of the head's gradient."""
    with FakeTensorMode():
        hidden_ND = torch.empty(num_tokens, width, dtype=dtype)
        weight_VD = torch.empty(VOCABULARY, width, dtype=dtype, requires_grad=True)
        token_N = torch.zeros(num_tokens, dtype=torch.int64)
        with Peak(hidden_ND, weight_VD, token_N) as peak:
            work(hidden_ND, Head(weight_VD=weight_VD), token_N)
        return peak.bytes / MB, weight_VD.nbytes / MB


def fused_update(with_entropy):
    def work(hidden_ND, head, token_N):
        leaf_ND = hidden_ND.detach().requires_grad_()
        logp_N, entropy_N = hidden_log_probs(leaf_ND, head, token_N, with_entropy=with_entropy, implementation="triton")
        (logp_N.sum() if entropy_N is None else logp_N.sum() + entropy_N.sum()).backward()

    return work


def chunked_update(hidden_ND, head, token_N):
    for cut in kept_chunks(hidden_ND, head):
        leaf_ND = hidden_ND[cut].detach().requires_grad_()
        hidden_log_probs(leaf_ND, head, token_N[cut], with_entropy=True)[0].sum().backward()


@pytest.mark.parametrize("num_tokens", [4096, 20_480])
@pytest.mark.parametrize("model", WIDTHS)
def test_kernels_stay_within_their_bounds(model, num_tokens, kernels_do_not_run):
    width, dtype = WIDTHS[model], torch.bfloat16
    for scoring in (
        lambda *inputs: hidden_logp(*inputs, implementation="triton"),
        lambda *inputs: hidden_statistics(*inputs, implementation="triton"),
    ):
        assert 100 < peak_mb(scoring, width, num_tokens, dtype)[0] <= 1024
    for with_entropy in (False, True):
        peak, gradient = peak_mb(fused_update(with_entropy), width, num_tokens, dtype)
        assert 400 < peak - gradient <= 2048


@pytest.mark.parametrize("num_tokens", [1024, pytest.param(20_480, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "model", ["0.5B", pytest.param("1.5B", marks=pytest.mark.slow), pytest.param("7B", marks=pytest.mark.slow), "8B"]
)
def test_plain_torch_stays_within_the_same_bounds(model, num_tokens):
    width, dtype = WIDTHS[model], torch.bfloat16
    assert 500 < peak_mb(hidden_statistics, width, num_tokens, dtype)[0] <= 1024
    peak, gradient = peak_mb(chunked_update, width, num_tokens, dtype)
    assert 200 < peak - 2 * gradient <= 2048, "the sum of gradients, and a chunk's before it is added"
