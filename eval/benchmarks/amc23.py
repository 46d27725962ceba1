"""AMC 2023: the 40-question set of Qwen2.5-Math, not the 83-question `AMC`. The hub copy writes 27.0 for 27."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="amc23",
    purpose="evaluation",
    file="amc23.jsonl",
    hub=(
        HubSource(
            repository="math-ai/amc23",
            split="test",
            revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
            read=fields("question", "answer"),
        ),
    ),
    count=40,
    digest="4e58761736ee0993b9cfcdf5821d5b48bdea36fc9ac8d5ce9b820e52603d179d",
    kind="integer",
    licence="AoPS problem text",
)
