from __future__ import annotations

import numpy as np

from eval.seeds import derive_seed, uniforms


def test_a_derived_seed_is_fixed_for_ever_and_fits_63_bits() -> None:
    assert derive_seed(0, "rollout", 3) == 1210312024065380532
    assert all(0 <= derive_seed("fits", index) < 2**63 for index in range(1000))


def test_parts_of_a_seed_are_not_confused() -> None:
    seeds = [
        derive_seed(1),
        derive_seed("1"),
        derive_seed("ab"),
        derive_seed("a", "b"),
        derive_seed("b", "a"),
        derive_seed("a,b"),
    ]
    assert len(set(seeds)) == len(seeds)


def test_uniforms_follow_the_published_finaliser() -> None:
    def reference(seed: int, counter: int) -> float:
        def mix(word: int) -> int:
            word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
            return word ^ (word >> 31)

        gamma = 0x9E3779B97F4A7C15
        return (mix((mix((seed + gamma) % 2**64) + counter * gamma) % 2**64) >> 11) / 2**53

    seeds = np.array([0, 1, 2**63 - 1, 2**64 - 1], dtype=np.uint64)
    for counter in (0, 1, 4096, 2**40):
        expected = [reference(int(seed), counter) for seed in seeds]
        assert uniforms(seeds, counter).tolist() == expected


def test_a_uniform_does_not_depend_on_the_batch_around_it() -> None:
    seeds = np.arange(100, dtype=np.uint64)
    together = uniforms(seeds, 7)
    alone = np.concatenate([uniforms(seeds[row : row + 1], 7) for row in reversed(range(100))])[::-1]
    assert together.tolist() == alone.tolist()


def test_uniforms_are_uniform_and_uncorrelated_over_seeds_and_counters() -> None:
    table = np.stack([uniforms(np.arange(2000, dtype=np.uint64), counter) for counter in range(50)])
    counts, _ = np.histogram(table, bins=20, range=(0, 1))
    expected = table.size / 20
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(table[0], table[1])[0, 1]) < 0.08
    assert abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]) < 0.5
    assert 0.0 <= table.min()
    assert table.max() < 1.0
