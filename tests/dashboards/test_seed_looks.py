"""What a table says of seeds until decided: verdicts of looks in place of p values, and no star beside them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import MadeUp
from typer.testing import CliRunner

from dashboards.frame import frame
from dashboards.render import render
from dashboards.seed_looks import with_looks
from dashboards.table import Table, table
from eval.sequential.design import Design
from orchestrator.cli import app
from orchestrator.config.blocks import UntilDecided

ARMS = (("grpo", "full"), ("grpo", "ets"), ("grpo", "gmts"), ("grpo", "random"))
RATES = {"gmts": 0.95, "ets": 0.3}


def made_up(root: Path, *, num_finished: int, at_most: int = 4, effect: float = 0.3) -> MadeUp:
    made = MadeUp(root, arms=ARMS, seeds=range(num_finished), num_problems=40)
    design = Design(at_least=2, at_most=at_most, alpha=0.05, effect=effect)
    made.plan = replace(made.plan, until=UntilDecided(design=design))
    made.store.plans.save(made.plan)
    for planned in (made.base, *made.trials):
        method = planned.trial.recipe.selection.method if planned.trial.recipe else ""
        made.finish(planned, rate=RATES.get(method, 0.3))
    return made


def shown(made: MadeUp) -> Table:
    return with_looks(table(frame(made.store, made.experiment)), made.store.plans.read(made.experiment), made.store)


@pytest.mark.parametrize("format_", ["text", "md", "latex", "html"])
def test_verdicts_of_looks_stand_in_the_place_of_p(tmp_path: Path, format_) -> None:
    made = made_up(tmp_path, num_finished=4)
    printed = render(shown(made), format_)
    assert "benefit at look" in printed
    assert "futile at look" in printed
    assert "median-unbiased" in printed
    assert "Seeds until decided" in printed
    for one in shown(made).selectors:
        assert one.looks
        assert one.p_adjusted is None
        assert one.more is None
    assert json.loads(render(shown(made), "json"))["selectors"][0]["looks"]


def test_the_sentence_tells_look_seeds_and_both_estimates(tmp_path: Path) -> None:
    facts = shown(made_up(tmp_path, num_finished=4)).facts
    (gmts,) = [fact for fact in facts if fact.startswith("grpo · gmts · 0.2 − grpo · ets · 0.2")]
    assert " seeds an arm): the first is better; +" in gmts
    assert "of 3 (" in gmts


def test_before_the_first_look_nothing_is_said(tmp_path: Path) -> None:
    for one in shown(made_up(tmp_path, num_finished=1)).selectors:
        assert one.looks == "open, not looked at yet"


def test_a_table_of_listed_seeds_is_as_it_was(tmp_path: Path) -> None:
    made = made_up(tmp_path, num_finished=2)
    listed = table(frame(made.store, made.experiment))
    assert with_looks(listed, replace(made.plan, until=None), made.store) is listed


def compared(made: MadeUp, first: str, second: str, *options: str) -> str:
    sides = [f"{made.experiment}:{side}" for side in (first, second)]
    result = CliRunner().invoke(app, ["compare", *sides, "--store", str(made.store.root), *options])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


@pytest.mark.parametrize("sides", [("gmts", "ets"), ("ets", "gmts")])
def test_a_comparison_of_two_arms_says_what_their_looks_decided(tmp_path: Path, sides: tuple[str, str]) -> None:
    made = made_up(tmp_path, num_finished=4)
    printed = compared(made, *sides)
    assert "grpo · gmts · 0.2 − grpo · ets · 0.2: benefit at look" in printed
    assert "too bold" in printed
    (said,) = json.loads(compared(made, *sides, "--json"))["looks"]
    assert said in shown(made).facts


def test_a_comparison_under_listed_seeds_says_nothing_of_looks(tmp_path: Path) -> None:
    made = made_up(tmp_path, num_finished=4)
    made.store.plans.save(replace(made.plan, until=None))
    assert "too bold" not in compared(made, "gmts", "ets")
    assert json.loads(compared(made, "gmts", "ets", "--json"))["looks"] == []
