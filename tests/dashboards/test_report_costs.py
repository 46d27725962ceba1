import json
from pathlib import Path

import pytest
from made_up import MadeUp

from dashboards.figures.swept import read_swept
from dashboards.report.costs import costs
from orchestrator.cli.sync import sweep_files
from orchestrator.status.accounting import accounts_by_arm

ARMS = (("grpo", "full"), ("grpo", "ets"))


def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, arms=ARMS, seeds=(0, 1))
    for number, planned in enumerate((made.base, *made.trials[:-1])):
        made.finish(planned, rate=0.3 + 0.1 * number)
    made.fail(made.trials[-1], "out of memory")
    found = costs(read_swept(made.store, "made_up"), made.store)
    assert [cost.account.label for cost in found] == ["base", "grpo · full", "grpo · ets · 0.2", "all"]
    printed = accounts_by_arm(made.store.plans.read("made_up").entries, made.store)
    assert [cost.account.total for cost in found] == [account.total for account in printed]
    ets = found[2].account
    assert ets.gain is not None
    assert ets.hours["core"]["lost"] == pytest.approx(9 / 3600)
    # Two trials of nine seconds stand behind one score.
    assert ets.hours_per_point == pytest.approx(18 / 3600 / ets.gain)
    assert [cost.peak_memory_mb for cost in found] == [512.0] * 4
    kept = json.loads(sweep_files(made.store, "made_up")["cost.json"])
    assert [one["total"] for one in kept["accounts"]] == [account.total for account in printed]
