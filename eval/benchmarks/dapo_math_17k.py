"""DAPO-Math-17k: 17,398 distinct questions with integer answers. Source: arXiv 2503.14476.

The original upload repeats each question a hundred times inside a prompt; the processed copy holds the bare questions.
"""

from __future__ import annotations

from eval.benchmarks.declaration import Declaration, HubSource, fields

DECLARATION = Declaration(
    name="dapo_math_17k",
    purpose="training",
    file="dapo_math_17k.jsonl",
    hub=(
        HubSource(
            repository="open-r1/DAPO-Math-17k-Processed",
            config="all",
            split="train",
            revision="31dd309567e3da778038cc87d868b6097a3ccf68",
            read=fields("prompt", "solution"),
        ),
    ),
    count=17398,
    digest=None,
    kind="expression",
    licence="Apache-2.0",
    note="hub only, digest unconfirmed (never at hand here): revision and count guard it",
)
