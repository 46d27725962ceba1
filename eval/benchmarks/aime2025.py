"""AIME 2025, I and II: 30 questions, integers 0–999. Source: MAA, as circulated."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="aime2025",
    purpose="evaluation",
    file="aime2025.jsonl",
    hub=(
        HubSource(
            repository="math-ai/aime25",
            split="test",
            revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
            read=fields("problem", "answer"),
        ),
    ),
    count=30,
    digest="7c4c07a9d7e50c4f398cebff1701e365f5804cceca5fd8e27aee1346c7c1184a",
    kind="integer",
    licence="AoPS problem text",
)
