"""OlympiadBench OE_TO_maths_en_COMP: open-ended, text only, mathematics, English. Source: arXiv 2402.14008."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, RawRow


def _read(row: RawRow) -> RawRow:
    return {"question": row["question"], "answer": row["final_answer"][0].strip().strip("$"), "error": row.get("error")}


DECLARATION = Declaration(
    name="olympiadbench",
    purpose="evaluation",
    file="olympiadbench.jsonl",
    hub=(
        HubSource(
            repository="Hothan/OlympiadBench",
            config="OE_TO_maths_en_COMP",
            split="train",
            read=_read,
        ),
    ),
    count=675,
    digest="5b9c44d6bba07dbda8b02033af7fe1db9013512a63531de047ac37fc6a5ef836",
    kind="expression",
    licence="Apache-2.0 (OpenBMB/OlympiadBench)",
    note="675 rows; a copy with 674 also circulates; hub revision unconfirmed: the digest guards it",
)
