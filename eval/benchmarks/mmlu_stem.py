"""MMLU, the STEM subjects of Qwen2.5-Math: 3,018 questions (3,153 with anatomy). Source: arXiv 2009.03300."""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, RawRow

# In the order of the Qwen2.5-Math copy, which has no anatomy.
SUBJECTS = (
    "college_biology",
    "astronomy",
    "electrical_engineering",
    "high_school_biology",
    "machine_learning",
    "abstract_algebra",
    "high_school_mathematics",
    "high_school_computer_science",
    "college_chemistry",
    "high_school_chemistry",
    "computer_security",
    "conceptual_physics",
    "high_school_physics",
    "college_physics",
    "high_school_statistics",
    "elementary_mathematics",
    "college_mathematics",
    "college_computer_science",
)


def _read(row: RawRow) -> RawRow | None:
    return {"question": row["question"], "choices": row["choices"], "answer": "ABCD"[row["answer"]]}


DECLARATION = Declaration(
    name="mmlu_stem",
    purpose="evaluation",
    file="mmlu_stem.jsonl",
    hub=tuple(
        HubSource(
            repository="cais/mmlu",
            config=subject,
            split="test",
            revision="c30699e8356da336a370243923dbaf21066bb9fe",
            read=_read,
        )
        for subject in SUBJECTS
    ),
    count=3018,
    digest="fc4d50d952702b16e843c560a74a5c0ad6de68876158e8a8dbf16173f8605fe0",
    kind="choice",
    licence="MIT (hendrycks/test)",
    max_new_tokens=2048,
    note="3,018 questions; 3,153 with anatomy",
)
