"""The audit finds what is wrong from the numbers: in made-up tables with one planted fault each, and in the papers."""

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.papers.agreement import find_conflicting_rows, find_duplicated_rows, find_outliers, find_wrong_emphasis
from dashboards.papers.arithmetic import find_unsupported_claims, find_wrong_averages
from dashboards.papers.audit import CHECKS, audit
from dashboards.papers.denominators import at_least, find_impossible_scores, find_too_few_seeds, is_possible
from dashboards.papers.finding import Finding
from dashboards.papers.load import load_papers
from dashboards.papers.published import Cell, PublishedTable, Row

PAPERS = load_papers()
FINDINGS = audit(PAPERS)


def findings(check: str, table: str, *, row: str | None = None, column: str | None = None) -> list[Finding]:
    return [
        finding
        for finding in FINDINGS
        if (finding.check, finding.table) == (check, table)
        and (row is None or row in finding.rows)
        and (column is None or column in finding.columns)
    ]


def edit(table: PublishedTable, row_id: str, column_id: str, text: str) -> PublishedTable:
    """The table with one number changed."""
    index = [column.id for column in table.columns].index(column_id)
    return replace(table, rows=tuple(_edit(row, index, text) if row.id == row_id else row for row in table.rows))


def _edit(row: Row, index: int, text: str) -> Row:
    old = row.cells[index]
    assert old is not None
    return replace(row, cells=(*row.cells[:index], replace(old, text=text), *row.cells[index + 1 :]))


def test_the_repeated_row_of_the_larger_model_is_found() -> None:
    (found,) = findings("duplicate", "gmts_table2")
    assert "Table 5" in found.message
    assert "Qwen2.5-Math-7B and Qwen2.5-Math-1.5B" in found.message
    assert findings("conflict", "gmts_table1", row="dapo")


def test_the_outlier_that_makes_an_average_is_found_with_the_gain_it_makes() -> None:
    (outlier,) = findings("outlier", "gmts_table4")
    assert outlier.rows == ("dapo_ets_top_90",)
    assert outlier.columns == ("olympiadbench",)
    (driven,) = [found for found in findings("driven", "gmts_table4") if found.severity == "doubt"]
    assert "+2.19" in driven.message
    assert "-0.52" in driven.message


def test_a_random_choice_that_beats_training_on_all_tokens_is_found() -> None:
    (found,) = findings("control", "ict_random")
    assert "GRPO 61.51/81.71 (Table 1)" in found.message
    assert "GRPO 57.45/78.45 (Table 2)" in found.message
    (conflict,) = findings("conflict", "ict_table1")
    assert "61.51 and 57.45" in conflict.message


def test_denominators_that_fit_no_thirty_questions_are_found_with_those_that_do() -> None:
    (small,) = findings("denominator", "ict_table1", row="stapo_0_5b", column="aime2024_p4")
    assert "fit 44 questions" in small.message
    (large,) = findings("denominator", "ict_table1", row="ict_7b", column="aime2023_p4")
    assert "10 of the 10 that are not 0 fit 59 questions" in large.message


def test_rows_evaluated_with_fifteen_samples_are_found() -> None:
    for row in ("dapo_ets_bottom_80", "dapo_ets_bottom_90", "dapo_gmts_bottom_80", "dapo_gmts_bottom_90"):
        assert any(
            found.message.endswith("but with K = 15") for found in findings("denominator", "gmts_table5", row=row)
        )
    assert not findings("denominator", "gmts_table3")


def test_means_over_seeds_that_look_like_one_seed_are_found() -> None:
    assert [found.table for found in FINDINGS if found.check == "seeds"] == ["ict_table1"]


def test_wrong_averages_are_found_and_right_ones_are_not() -> None:
    wrong = {(found.rows[0], found.columns[0]) for found in FINDINGS if found.check == "average"}
    assert wrong == {
        ("base_0_5b", "avg_p1"), ("base_0_5b", "avg_p4"), ("entropy_20_0_5b", "avg_p1"), ("entropy_20_0_5b", "avg_p4"),
        ("stapo_0_5b", "avg_p4"),
    }  # fmt: skip


def test_a_gain_over_other_rows_than_stated_is_found_with_those_rows() -> None:
    (found,) = findings("claim", "ict_table1", row="ict_1_5b", column="avg_p1")
    assert "it is given by comparing with the mean of Base, GRPO, 20-Entropy, STAPO" in found.message


def test_a_pass4_that_is_the_mean_of_two_metrics_is_found() -> None:
    told = [found.message for found in findings("claim", "ict_table1") if "26.04" in found.message]
    assert any("it is given by the mean of pass@1 and pass@4" in message for message in told)


def test_what_the_text_leaves_out_is_found() -> None:
    (ratio,) = findings("omitted", "gmts_table4")
    assert "GMTS Top (50%)" in ratio.message
    assert "-1.29" in ratio.message
    (benchmark,) = findings("omitted", "gmts_table3")
    assert benchmark.columns == ("olympiadbench",)


def test_one_gain_stated_with_two_numbers_is_found() -> None:
    (found,) = findings("restated", "ict_table1")
    assert "4.37" in found.message
    assert "+3.37" in found.message
    assert "+5.20" in findings("restated", "gmts_table3")[0].message


def test_stated_gains_that_the_tables_give_are_not_doubted() -> None:
    assert not findings("claim", "gmts_table1")
    assert not findings("claim", "gmts_table2")
    assert not findings("claim", "gmts_table5")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_clean_table_gives_no_finding(check: object) -> None:
    """Table 3 without its claims: right averages, possible scores, no other table to disagree with."""
    clean = {"gmts_table3": replace(PAPERS["gmts_table3"], claims=())}
    assert callable(check)
    assert check(clean) == []


def test_a_planted_average_is_found_and_only_it() -> None:
    table = edit(PAPERS["gmts_table2"], "grpo", "avg", "49.65")
    (found,) = find_wrong_averages({table.id: table})
    assert (found.rows, found.columns) == (("grpo",), ("avg",))
    assert "49.45" in found.message


def test_an_average_off_by_what_rounding_allows_is_not_doubted() -> None:
    table = edit(PAPERS["gmts_table2"], "grpo", "avg", "49.44")
    assert find_wrong_averages({table.id: table}) == []


def test_a_planted_claim_is_found() -> None:
    table = PAPERS["gmts_table2"]
    claim = replace(table.claims[0], stated="+1.53")
    (found,) = find_unsupported_claims({table.id: replace(table, claims=(claim,))})
    assert "states +1.53" in found.message
    assert "is 1.33" in found.message


def test_a_planted_score_between_two_grid_points_is_found() -> None:
    assert find_impossible_scores({"gmts_table3": PAPERS["gmts_table3"]}) == []
    table = edit(PAPERS["gmts_table3"], "dapo", "aime2024", "33.22")
    (found,) = find_impossible_scores({table.id: table})
    assert found.rows == ("dapo",)
    assert "33.22" in found.message


def test_a_planted_mark_on_the_third_best_is_found() -> None:
    table = PAPERS["gmts_table3"]
    row = table.row("dapo_ets_top_20")
    marked = replace(row, block="dapo", cells=(Cell(text="34.58", emphasis="bold"), *row.cells[1:]))
    wrong = replace(table, rows=(*table.rows[:2], marked, table.rows[3]))
    (found,) = find_wrong_emphasis({table.id: wrong})
    assert "is number 2 of its block" in found.message


def test_a_planted_copy_of_a_row_is_found_as_duplicate_not_as_conflict() -> None:
    table = PAPERS["gmts_table3"]
    copied = replace(table.row("dapo"), id="copy", arm=replace(table.row("dapo").arm, method="gmts", ratio=0.1))
    papers = {table.id: replace(table, rows=(*table.rows, copied))}
    assert [found.rows for found in find_duplicated_rows(papers)] == [("dapo", "copy")]
    assert find_conflicting_rows(papers) == []


def test_too_few_rows_make_no_outlier() -> None:
    table = edit(PAPERS["gmts_table3"], "dapo", "aime2024", "90.00")
    assert find_outliers({table.id: table}) == []


def test_more_seeds_make_scores_that_one_seed_cannot() -> None:
    table = PAPERS["ict_table2"]
    assert find_too_few_seeds({table.id: table}) == []


@given(total=st.integers(1, 3000), data=st.data())
def test_every_count_prints_as_a_possible_score(total: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, total))
    exact = Decimal(100 * k) / Decimal(total)
    assert is_possible(exact.quantize(Decimal("0.01")), total)
    assert is_possible(Decimal(math.floor(exact * 100)) / Decimal("100.00"), total)


def test_a_score_between_grid_points_is_impossible() -> None:
    assert not is_possible(Decimal("15.33"), 480)
    assert is_possible(Decimal("15.33"), 450)
    assert is_possible(Decimal("18.12"), 480)


def test_the_chance_of_at_least_so_many_events_is_the_binomial_tail() -> None:
    wanted = sum(math.comb(5, k) * 0.3**k * 0.7 ** (5 - k) for k in (3, 4, 5))
    assert at_least(3, [0.3] * 5) == pytest.approx(wanted)
    assert at_least(0, []) == 1.0
    assert at_least(2, [0.5, 0.25]) == pytest.approx(0.125)


def test_every_finding_says_where_it_stands() -> None:
    for found in FINDINGS:
        table = PAPERS[found.table]
        assert found.place.startswith(table.place()), found
        assert found.message
        for row in found.rows:
            assert any(row == own.id for paper in PAPERS.values() for own in paper.rows), found
