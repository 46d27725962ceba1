"""Randomness without state: seeds derived by hash, and uniforms that are a function of (seed, counter).

A sample drawn from these depends on its own seed alone: neither on its batch neighbours nor on the order of work, so
resuming, re-batching and moving to another machine draw the same numbers.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

_GAMMA = 0x9E3779B97F4A7C15
_WORD = 0xFFFFFFFFFFFFFFFF


def derive_seed(*parts: str | int) -> int:
    """Return a 63-bit seed, a hash of the parts in order: `derive_seed(seed, "rollout", step, index)`.

    The parts 1 and "1" differ, and so do ("a", "b") and ("ab",).
    """
    text = json.dumps(parts, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniforms(seeds_B: NDArray[np.uint64], counter: int) -> NDArray[np.float64]:
    """Return one uniform in [0, 1) for each seed, a pure function of (seed, counter).

    Args:
        seeds_B: B seeds; neighbouring integers are as good as hashed ones.
        counter: index into each seed's stream, for example the token position.

    Source: the finaliser of splitmix64; Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    position = np.uint64(counter * _GAMMA & _WORD)
    with np.errstate(over="ignore"):
        words_B = _mix(_mix(seeds_B + np.uint64(_GAMMA)) + position)
    return (words_B >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words_B: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words_B = (words_B ^ (words_B >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words_B = (words_B ^ (words_B >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words_B ^ (words_B >> np.uint64(31))
