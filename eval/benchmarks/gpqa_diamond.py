"""GPQA diamond: 198 expert questions, four options. Gated: read from the hub, never redistributed.

Source: arXiv 2311.12022. The options are permuted by a hash of the question, so every reader sees the same order.
"""

from __future__ import annotations

import hashlib
from itertools import permutations

from eval.benchmarks.declaration import Declaration, HubSource, RawRow


def _read(row: RawRow) -> RawRow:
    options = [row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
    order = permutation(row["Question"])
    return {
        "question": row["Question"],
        "choices": [options[index] for index in order],
        "answer": "ABCD"[order.index(0)],
    }


def permutation(question: str) -> tuple[int, ...]:
    """Return the order in which the four options of a question are shown."""
    orders = tuple(permutations(range(4)))
    value = int.from_bytes(hashlib.sha256(question.strip().encode()).digest()[:8], "big")
    return orders[value % len(orders)]


DECLARATION = Declaration(
    name="gpqa_diamond",
    purpose="evaluation",
    file="gpqa_diamond.jsonl",
    hub=(
        HubSource(
            repository="Idavidrein/gpqa",
            config="gpqa_diamond",
            split="train",
            revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
            read=_read,
        ),
    ),
    count=198,
    digest=None,
    kind="choice",
    licence="CC BY 4.0, gated: the authors ask that it not be posted",
    note="gated: `huggingface-cli login`, accept the terms, then `orch data fetch gpqa_diamond`; "
    "digest unconfirmed: revision and count guard it",
)
