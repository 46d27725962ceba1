"""Audit the published tables: whatever cannot be, does not agree, or does not follow from the printed numbers.

Nothing here knows a table: every check works from the numbers and from what each row and column is.
"""

from __future__ import annotations

from collections.abc import Callable

from dashboards.papers.agreement import (
    find_conflicting_rows,
    find_duplicated_rows,
    find_outliers,
    find_strong_controls,
    find_wrong_emphasis,
)
from dashboards.papers.arithmetic import find_restated_differently, find_unsupported_claims, find_wrong_averages
from dashboards.papers.comparisons import find_driven_averages, find_gains_within_noise, find_omitted_comparisons
from dashboards.papers.denominators import find_impossible_scores, find_too_few_seeds
from dashboards.papers.finding import Finding
from dashboards.papers.published import Papers

CHECKS: tuple[Callable[[Papers], list[Finding]], ...] = (
    find_wrong_averages,
    find_unsupported_claims,
    find_restated_differently,
    find_omitted_comparisons,
    find_driven_averages,
    find_duplicated_rows,
    find_conflicting_rows,
    find_strong_controls,
    find_outliers,
    find_impossible_scores,
    find_too_few_seeds,
    find_wrong_emphasis,
    find_gains_within_noise,
)


def audit(papers: Papers) -> list[Finding]:
    """Run every check; doubts first, then in the order of the tables."""
    order = list(papers)
    findings = [finding for check in CHECKS for finding in check(papers)]
    return sorted(findings, key=lambda finding: (finding.severity != "doubt", order.index(finding.table)))
