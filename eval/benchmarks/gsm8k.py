"""GSM8K test: 1,319 grade-school word problems. Source: Cobbe et al., arXiv 2110.14168."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, RawRow


def read_row(row: RawRow) -> RawRow:
    """Take what follows the last `####` of a worked solution, without thousands separators."""
    return {"question": row["question"], "answer": row["answer"].rsplit("####", 1)[1].strip().replace(",", "")}


DECLARATION = Declaration(
    name="gsm8k",
    purpose="evaluation",
    file="gsm8k_test.jsonl",
    hub=(
        HubSource(
            repository="openai/gsm8k",
            config="main",
            split="test",
            revision="740312add88f781978c0658806c59bc2815b9866",
            read=read_row,
        ),
    ),
    count=1319,
    digest="098fbe2e9803f15846bfcb58d162f50c98893a254dbd7b270b74ef6d23c5cd98",
    kind="integer",
    licence="MIT",
    max_new_tokens=1024,
)
