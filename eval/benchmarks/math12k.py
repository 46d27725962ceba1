"""MATH-12K: MATH train plus MATH test minus MATH-500, 12,000 rows. Source: Lightman et al., arXiv 2305.20050."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="math12k",
    purpose="training",
    file="math12k.jsonl",
    hub=(
        HubSource(
            repository="hiyouga/math12k",
            split="train",
            read=fields("problem", "answer"),
        ),
    ),
    count=12000,
    digest=None,
    kind="expression",
    licence="MIT (hendrycks/math)",
    note="hub only, revision and digest unconfirmed (never at hand here): only the count guards it; "
    "`math_train_part` is the 4,500 of its rows that come from the MATH test split",
)
