"""`sweep.seeds` as a design: what it means, and what is refused with file, key and fix."""

from pathlib import Path

import pytest

from eval.sequential.design import Design
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError
from orchestrator.plan.contrasts import primary_contrasts
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan

FILE = Path(__file__).parents[3] / "experiments" / "smoke.yaml"
GOOD = {"until": "decided", "at_least": "2", "at_most": "4", "alpha": "0.05", "effect": "0.02"}


def plan_of(*changes: str, **design: str | None) -> Plan:
    keys = {name: value for name, value in {**GOOD, **design}.items() if value is not None}
    block = ", ".join(f"{name}: {value}" for name, value in keys.items())
    return make_plan(load_sweep(FILE, [*changes, f"seeds={{{block}}}"]))


def test_the_first_seeds_are_planned_and_the_design_is_kept() -> None:
    plan = plan_of()
    assert plan.until is not None
    assert plan.until.design == Design(at_least=2, at_most=4, alpha=0.05, effect=0.02)
    assert {planned.trial.seed for planned in plan.entries} == {None, 0, 1}
    listed = make_plan(load_sweep(FILE, ["seeds=[0,1]"]))
    assert [one.trial.id for one in listed.entries] == [one.trial.id for one in plan.entries]
    assert listed.until is None
    assert listed.digest != plan.digest


def test_by_default_selectors_are_compared_at_their_ratio() -> None:
    labels = [one.label for one in primary_contrasts(plan_of("algorithm=grpo"))]
    assert labels == [
        "grpo · gmts · 0.2 − grpo · ets · 0.2",
        "grpo · ict · 0.2 − grpo · ets · 0.2",
        "grpo · ets · 0.2 − grpo · random · 0.2",
        "grpo · gmts · 0.2 − grpo · random · 0.2",
        "grpo · ict · 0.2 − grpo · random · 0.2",
    ]


def test_declared_contrasts_stay_within_a_recipe() -> None:
    found = primary_contrasts(plan_of(contrasts="[{first: {selection: gmts}, second: {selection: full}}]"))
    assert [one.label for one in found] == ["grpo · gmts · 0.2 − grpo · full", "dapo · gmts · 0.2 − dapo · full"]


@pytest.mark.parametrize(
    ("changes", "design", "key", "fix"),
    [
        ((), {"at_most": "1"}, "at_most", "from at_least, 2, to 100"),
        ((), {"at_most": "1000"}, "at_most", "from at_least, 2, to 100"),
        ((), {"at_least": "1"}, "at_least", "one seed decides nothing"),
        ((), {"at_least": "2.5"}, "at_least", "whole number"),
        ((), {"effect": "0"}, "effect", "as in 0.01 for one point"),
        ((), {"effect": "-0.01"}, "effect", "as in 0.01 for one point"),
        ((), {"effect": "2"}, "effect", "as in 0.01 for one point"),
        ((), {"effect": None}, "seeds", "add effect"),
        ((), {"alpha": "0"}, "alpha", "as in 0.05"),
        ((), {"alpha": "1"}, "alpha", "as in 0.05"),
        ((), {"until": "bored"}, "until", "until: decided"),
        ((), {"until": None}, "until", "until: decided"),
        ((), {"at_last": "3"}, "at_last", "did you mean at_least"),
        ((), {"contrasts": "[]"}, "contrasts", "leave it out"),
        ((), {"contrasts": "[{first: {selection: gmts}}]"}, "contrasts", "second"),
        ((), {"contrasts": "[{first: {selection: gmst}, second: {selection: ets}}]"}, "contrasts", "did you mean gmts"),
        (
            ("algorithm=grpo",),
            {"contrasts": "[{first: {selection: full}, second: {selection: full}}]"},
            "contrasts",
            "choose first and second",
        ),
        (("selection=full",), {}, "seeds", "add `random` or `ets`"),
        (("selection=[full,gmts]",), {}, "seeds", "add `random` or `ets`"),
    ],
)
def test_what_is_no_design_is_refused_at_plan_time(changes: tuple[str, ...], design: dict, key: str, fix: str) -> None:
    with pytest.raises(OrchError) as caught:
        plan_of(*changes, **design)
    assert "seeds=" in caught.value.where or f"sweep.seeds.{key}" in caught.value.where
    assert key in f"{caught.value.what} {caught.value.where}"
    assert fix in caught.value.fix


def test_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    text = FILE.read_text().replace("seeds: [0]", "seeds: {until: decided, at_least: 3, at_most: 2, effect: 0.01}")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(OrchError, match="at_most is 2") as caught:
        load_sweep(file)
    assert str(file) in caught.value.where


def test_a_point_with_a_seed_of_its_own_is_no_part_of_a_design(tmp_path: Path) -> None:
    for block in ("exclude:\n    - {seed: 1, selection: ict}", "include:\n    - {seed: 1, selection: ict}"):
        file = tmp_path / "mine.yaml"
        file.write_text(
            FILE.read_text().replace("  seeds: [0]", f"  {block}\n  seeds: {{until: decided, effect: 0.1}}")
        )
        with pytest.raises(OrchError, match="leaves open how many"):
            load_sweep(file)
