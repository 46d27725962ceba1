"""AIME 2024, I and II: 30 questions, integers 0–999. Source: MAA, as circulated."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="aime2024",
    purpose="evaluation",
    file="aime2024.jsonl",
    hub=(
        HubSource(
            repository="HuggingFaceH4/aime_2024",
            split="train",
            revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            read=fields("problem", "answer"),
        ),
    ),
    count=30,
    digest="4b40d6817ae7a7b646312eaa87f5bff83f7005d45c350290c5666af1c9e027d2",
    kind="integer",
    licence="AoPS problem text",
)
