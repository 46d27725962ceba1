"""MATH-500: 500 questions of the MATH test split. Source: Lightman et al., arXiv 2305.20050."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="math500",
    purpose="evaluation",
    file="math500.jsonl",
    hub=(
        HubSource(
            repository="HuggingFaceH4/MATH-500",
            split="test",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            read=fields("problem", "answer"),
        ),
    ),
    count=500,
    digest="4a4f70711830432024f8a3b1f2c6d3dbb187c19cb7be2dbc491fae2831918be7",
    kind="expression",
    licence="MIT (hendrycks/math)",
)
