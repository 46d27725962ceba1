"""The 4,500 rows of MATH-12K that are MATH test minus MATH-500. Source: arXiv 2305.20050.

A file of its own, because the other 7,500 rows (MATH train) are not in the local data folder: training on it is not
training on MATH-12K, and a table must not say so.
"""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration

DECLARATION = Declaration(
    name="math_train_part",
    purpose="training",
    file="math_train_part.jsonl",
    hub=(),
    count=4500,
    digest="e1616f503b6bbed22ccedbc6b8d44b53e0d70ac57f44f17b7ddc39291b00f329",
    kind="expression",
    licence="MIT (hendrycks/math)",
    note="4,500 of the 12,000 rows of MATH-12K",
)
