"""AIME 2023, I and II. Source: MAA; problem I-15 is missing from the copies in circulation, hence 29."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, RawRow

# Problem I-15 has no counterpart in the 29-question set that papers report, so the hub copy is cut to match.
_LAST_OF_FIRST_CONTEST = 15


def _read(row: RawRow) -> RawRow | None:
    if row.get("_repository") == "MathArena/aime_2023_I" and int(row["problem_idx"]) == _LAST_OF_FIRST_CONTEST:
        return None
    return {"question": row["problem"], "answer": str(row["answer"])}


DECLARATION = Declaration(
    name="aime2023",
    purpose="evaluation",
    file="aime2023.jsonl",
    hub=(
        HubSource(repository="MathArena/aime_2023_I", split="train", read=_read),
        HubSource(repository="MathArena/aime_2023_II", split="train", read=_read),
    ),
    count=29,
    digest="106e30a6e8e2765c33c5bf5afea2d67c63ff65acac442d92cafc8984c1a7384f",
    kind="integer",
    licence="AoPS problem text; MIT data set card",
    note="29 of 30 questions: I-15 is missing in circulation; hub revisions unconfirmed: the digest guards them",
)
