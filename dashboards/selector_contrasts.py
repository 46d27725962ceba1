"""Selector against selector on as many tokens: the comparison that the papers are about, and tables show first.

Which those are is for `orchestrator.plan.contrasts` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from dashboards.cells import Found, make_cell
from dashboards.frame import AXIS
from dashboards.more_seeds import MoreSeeds, more_seeds
from eval.comparison import Difference, holm
from orchestrator.plan.contrasts import ArmTraits, selector_pairs
from trainers.methods import CONTROL, METHODS


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorContrast:
    """One selector minus another, on the average of the benchmarks."""

    arm: str
    reference_arm: str
    labels: tuple[str, ...]
    """Place of the first in the grid, one text a label column."""
    method: str
    reference: str
    """Method of the second."""
    found: Difference
    p_adjusted: float | None
    """Holm over all contrasts between selectors; None below two seeds."""
    more: MoreSeeds | None
    """What would decide it; None where it is decided or cannot be told."""
    looks: str = ""
    """What stands in the place of p where looks at the data decided the number of seeds (`seed_looks`)."""


def selector_contrasts(
    parts: Mapping[str, pd.DataFrame],
    found: Mapping[str, Sequence[Found]],
    labels: Mapping[str, tuple[str, ...]],
    *,
    significant: float,
) -> tuple[SelectorContrast, ...]:
    """Every contrast that has a number, in the order of the references and then of the arms.

    Args:
        parts: arm → its rows of the frame.
        found: arm → what there is of it, one entry a benchmark.
        labels: arm → its place in the grid.
        significant: level under which an adjusted p decides.
    """
    contrasts, sides = [], []
    for arm, other in _pairs(parts):
        delta = make_cell(found[arm], base=None, dense=found[other]).delta_dense
        if delta is None:
            continue
        contrasts.append(
            SelectorContrast(
                arm=arm,
                reference_arm=other,
                labels=labels[arm],
                method=str(parts[arm]["method"].iloc[0]),
                reference=str(parts[other]["method"].iloc[0]),
                found=delta,
                p_adjusted=None,
                more=None,
            )
        )
        sides.append((parts[arm], parts[other]))
    adjusted = holm([contrast.found.p_method for contrast in contrasts])
    return tuple(
        replace(
            contrast,
            p_adjusted=p,
            more=None if p is not None and p < significant else more_seeds(*pair, contrast.found),
        )
        for contrast, p, pair in zip(contrasts, adjusted, sides, strict=True)
    )


def control_fact(frame: pd.DataFrame) -> tuple[str, ...]:
    """The ratios at which selectors stand beside no random arm, in one line; empty where each has its own."""
    trained = frame[frame["kind"] == "train"].drop_duplicates("arm")
    controls = {(one["family"], one["ratio"]) for _, one in trained.iterrows() if one["method"] == CONTROL}
    lacking = {
        float(one["ratio"])
        for _, one in trained.iterrows()
        if one["method"] != CONTROL
        and METHODS[one["method"]].has_ratio
        and (one["family"], one["ratio"]) not in controls
    }
    if not lacking:
        return ()
    ratios = ", ".join(f"{ratio:g}" for ratio in sorted(lacking))
    return (f"No arm of random tokens at ratio {ratios}: whether these selectors beat chance is not tested.",)


def _pairs(parts: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, str]]:
    firsts = {arm: part.iloc[0] for arm, part in parts.items() if part["kind"].iloc[0] == "train"}
    return selector_pairs([_traits(arm, first) for arm, first in firsts.items()])


def _traits(arm: str, first: pd.Series) -> ArmTraits:
    axes = {str(name).removeprefix(AXIS): value for name, value in first.items() if str(name).startswith(AXIS)}
    return ArmTraits(
        arm=arm,
        family=first["family"],
        method=first["method"],
        ratio=None if pd.isna(first["ratio"]) else float(first["ratio"]),
        end=first["end"],
        axes={axis: value for axis, value in axes.items() if pd.notna(value)},
    )
