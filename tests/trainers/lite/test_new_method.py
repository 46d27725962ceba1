"""A method that is added as CONTRIBUTING.md says, one function and one row, is planned and trained with by lite.

`tests/trainers/conftest.py` adds it; `tests/trainers/verl/test_new_method.py` shows the same of verl.
"""

import copy
import json
import math
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from orchestrator.config.spec import load_sweep
from trainers.lite.score import score_rollouts
from trainers.lite.trainer import LiteTrainer
from trainers.lite.update import update_policy
from trainers.step import plan_step, select_first

_spec = spec_from_file_location("scored_step", Path(__file__).with_name("scored_step.py"))
step = module_from_spec(_spec)
_spec.loader.exec_module(step)

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
RATIO = 0.3


def slow_score(model, batch, recipe):
    """TV(p ‖ p̄)·Σp² of each response token, from the model's logits: {(row, position): score}."""
    rows = {}
    for row in range(len(batch)):
        start, length = int(batch.prompt_length_B[row]), int(batch.response_length_B[row])
        logits = model(batch.tokens_BS[row : row + 1, : start + length]).logits[0, start - 1 : start + length - 1]
        rows[row] = torch.softmax(logits / recipe.temperature, -1).detach()
    found = {}
    for row, p_TV in rows.items():
        for t, p_V in enumerate(p_TV):
            members = [rows[b][t] for b in rows if batch.group_B[b] == batch.group_B[row] and t < len(rows[b])]
            distance = (p_V - sum(members) / len(members)).abs().sum() / 2
            found[row, t] = float(distance * p_V.square().sum())
    return found


@pytest.mark.parametrize("micro", [100, 2])
def test_its_tokens_are_those_of_its_definition_however_rows_are_scored(newcomer, micro):
    model = step.a_model(0)
    recipe = step.a_recipe({}, {"method": newcomer, "ratio": RATIO})
    batch = score_rollouts(model, None, step.a_batch(2), recipe, micro_batch_sequences=micro)
    selected_BT = select_first(batch, plan_step(batch, recipe, step=1, seed=0)).selected_BT
    score = slow_score(model, batch, recipe)
    best = sorted(score, key=score.get, reverse=True)[: math.ceil(RATIO * len(score))]
    assert {tuple(place) for place in selected_BT.nonzero().tolist()} == set(best)


def test_an_update_moves_the_policy_elsewhere_than_the_dense_one_and_than_a_method_of_the_project(newcomer):
    moved = {}
    for method in (newcomer, "full", "ict_kl"):
        model = copy.deepcopy(step.a_model(0))
        recipe = step.a_recipe({}, {"method": method} | ({"ratio": RATIO} if method != "full" else {}))
        batch = score_rollouts(model, None, step.a_batch(2), recipe, micro_batch_sequences=100)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        metrics = update_policy(model, optimizer, batch, recipe, step=1, seed=0, micro_batch_sequences=100)
        moved[method] = torch.cat([parameter.flatten() for parameter in model.parameters()])
        if method == newcomer:
            assert metrics["select/count"] == math.ceil(RATIO * metrics["select/tokens"])
            assert 0 <= metrics["jaccard/ets"] < 1
            assert "jaccard/ict" not in metrics, "JS was not measured"
    assert not torch.equal(moved[newcomer], moved["full"])
    assert not torch.equal(moved[newcomer], moved["ict_kl"])


def test_a_trial_of_lite_trains_with_it(newcomer, recipe_of, job_of, small_model, tmp_path):
    rows = {}
    for method in (newcomer, "full"):
        selection = {"method": method} | ({"ratio": RATIO} if method == newcomer else {})
        job = job_of(recipe_of(selection=selection, steps=2), small_model, tmp_path / method)
        job.attempt_folder.mkdir(parents=True)
        assert LiteTrainer().train(job).is_finished
        lines = (job.attempt_folder / "metrics.jsonl").read_text().splitlines()
        rows[method] = [json.loads(line) for line in lines]
    first, dense = rows[newcomer][0], rows["full"][0]
    assert first["reward/mean"] == dense["reward/mean"], "both begin with the same policy and samples"
    assert first["select/tokens"] == dense["select/count"]
    assert first["select/count"] == math.ceil(RATIO * first["select/tokens"])
    assert first["gradient/norm"] != dense["gradient/norm"]


def test_an_experiment_names_it_by_a_file_of_its_group(newcomer, tmp_path):
    folder = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, folder)
    (folder / "selection" / f"{newcomer}.yaml").write_text(f"method: {newcomer}\nratio: {RATIO}\nscope: group\n")
    (point,) = load_sweep(folder / "smoke.yaml", [f"selection={newcomer}", "algorithm=grpo"]).points
    selection = point.recipe.selection
    assert (selection.method, selection.ratio, selection.scope) == (newcomer, RATIO, "group")
