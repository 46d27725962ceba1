"""GSM8K train: 7,473 grade-school word problems. Source: Cobbe et al., arXiv 2110.14168."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource
from eval.benchmarks.gsm8k import read_row

DECLARATION = Declaration(
    name="gsm8k_train",
    purpose="training",
    file="gsm8k_train.jsonl",
    hub=(
        HubSource(
            repository="openai/gsm8k",
            config="main",
            split="train",
            revision="740312add88f781978c0658806c59bc2815b9866",
            read=read_row,
        ),
    ),
    count=7473,
    digest="dc5409813748912407e9f07314ecd64fca5e4ab513c181a3844b57f3deac8bc0",
    kind="integer",
    licence="MIT",
    max_new_tokens=1024,
)
