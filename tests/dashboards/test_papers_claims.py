"""Claims against printed numbers, and verdicts from measured ones."""

import math
from decimal import Decimal

import pytest

from dashboards.papers.claims import Measured, check_claim, combinations_of, contrast_of, judge, rounding_error
from dashboards.papers.load import load_papers
from dashboards.papers.published import CellRef, Claim, ClaimKind, Contrast

PAPERS = load_papers()


def claim(
    kind: ClaimKind, *, parts: int = 1, stated: str | None = None, bounds: tuple[float, float] | None = None
) -> Claim:
    contrast = Contrast(plus=(CellRef(table="t", row="r", column="c"),))
    return Claim(
        id="claim", quote="", place="", kind=kind, stated=stated, bounds=bounds, contrasts=(contrast,) * parts
    )  # fmt: skip


def measured(difference: float, standard_error: float) -> Measured:
    return Measured(difference=difference, standard_error=standard_error)


def test_a_stated_gain_is_the_difference_of_two_printed_cells() -> None:
    table = PAPERS["gmts_table1"]
    check = check_claim(table.claims[0], PAPERS)
    assert check.found == (Decimal("1.55"),)
    assert check.outcome == "holds"


def test_a_claim_on_numbers_that_are_not_printed_cannot_be_checked() -> None:
    table = PAPERS["ets_results"]
    assert {claim.id: check_claim(claim, PAPERS).outcome for claim in table.claims}["gain_32b_aime2025"] == "unprinted"
    assert {claim.id: check_claim(claim, PAPERS).outcome for claim in table.claims}["longer_responses_help"] == "holds"


def test_a_contrast_carries_the_rounding_of_its_cells() -> None:
    refs = [CellRef(table="gmts_table1", row=row, column="avg") for row in ("dapo_gmts_top_20", "dapo_ets_top_20")]
    contrast = contrast_of(Contrast(plus=(refs[0],), minus=(refs[1],)), PAPERS)
    assert contrast is not None
    assert contrast.error == Decimal("0.010")
    assert rounding_error(Decimal("63.5")) == Decimal("0.05")


@pytest.mark.parametrize(
    ("difference", "standard_error", "verdict", "inside"),
    [
        (1.6, 0.4, "reproduced", True),
        (5.0, 0.4, "reproduced", False),
        (1.6, 1.0, "underpowered", True),
        (-0.5, 0.4, "underpowered", False),
        (-1.6, 0.4, "contradicted", False),
    ],
)
def test_a_stated_gain_is_judged_by_its_sign(
    difference: float, standard_error: float, verdict: str, inside: bool
) -> None:
    found = judge(claim("equals", stated="+1.55"), [measured(difference, standard_error)])
    assert (found.verdict, found.is_stated_inside) == (verdict, inside)


def test_a_stated_loss_is_judged_on_its_own_side() -> None:
    assert judge(claim("equals", stated="-1.08"), [measured(-1.0, 0.3)]).verdict == "reproduced"
    assert judge(claim("equals", stated="-1.08"), [measured(1.0, 0.3)]).verdict == "contradicted"


def test_a_claim_of_many_parts_needs_all_and_falls_with_one() -> None:
    both = claim("greater", parts=2)
    assert judge(both, [measured(2, 0.5), measured(3, 0.5)]).verdict == "reproduced"
    assert judge(both, [measured(2, 0.5), measured(0.1, 0.5)]).verdict == "underpowered"
    assert judge(both, [measured(2, 0.5), measured(-3, 0.5)]).verdict == "contradicted"


def test_similar_means_that_the_whole_interval_is_inside_the_bounds() -> None:
    similar = claim("within", bounds=(-2, 2))
    assert judge(similar, [measured(0.5, 0.5)]).verdict == "reproduced"
    assert judge(similar, [measured(0.5, 2)]).verdict == "underpowered"
    assert judge(similar, [measured(5, 0.5)]).verdict == "contradicted"


def test_rising_gains_are_judged_by_their_steps() -> None:
    rising = claim("rising", parts=3)
    assert combinations_of(rising, 3) == [[-1, 1, 0], [0, -1, 1]]
    assert judge(rising, [measured(1, 0.1), measured(1, 0.1)]).verdict == "reproduced"
    assert judge(rising, [measured(1, 0.1), measured(-1, 0.1)]).verdict == "contradicted"


def test_a_mean_of_gains_is_one_number() -> None:
    assert combinations_of(claim("mean", parts=4, stated="4.58"), 4) == [[0.25] * 4]
    assert combinations_of(claim("greater", parts=2), 2) == [[1, 0], [0, 1]]


def test_a_measurement_that_is_not_a_number_judges_nothing() -> None:
    assert judge(claim("equals", stated="+1"), [measured(math.nan, 0.5)]).verdict == "underpowered"
    assert judge(claim("equals", stated="+1"), [measured(1, math.inf)]).verdict == "underpowered"
