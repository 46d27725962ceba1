"""Minerva: 272 questions of MIT OpenCourseWare with numbers, units and formulas. Source: arXiv 2206.14858.

Not to be confused with lm-evaluation-harness's `minerva_math`, which is Hendrycks MATH.
"""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="minerva_math",
    purpose="evaluation",
    file="minerva_math.jsonl",
    hub=(
        HubSource(
            repository="math-ai/minervamath",
            split="test",
            revision="ee46ddc498933b1977577953250ca5c66be64f96",
            read=fields("question", "answer"),
        ),
    ),
    count=272,
    digest="ba69c6837c81d6296806a856ec8bfdc8ae207f02924a2b71bf3e0b23a5025eac",
    kind="expression",
    licence="MIT OpenCourseWare (CC BY-NC-SA)",
    note="numeric golds are compared at 1e-6 relative; several copies accept 1 % or 1e-4",
)
