"""A method that is added as CONTRIBUTING.md says keeps its groups whole under verl, and selects what it does in lite.

`tests/trainers/conftest.py` adds it. How verl cuts its batches is in `test_parallel.py`; a trial by real verl, at the
foot of this file, is slow.
"""

import copy
import math
import os
import shutil
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from eval.errors import OrchError
from trainers.lite.score import policy_scores, score_rollouts
from trainers.lite.update import update_policy
from trainers.recipe import Resources
from trainers.step import plan_step
from trainers.verl.inside.step import weigh, weigh_again
from trainers.verl.launch.overrides import micro_batch, overrides
from trainers.verl.launch.support import check_support, sequences_together

_spec = spec_from_file_location("scored_step", Path(__file__).parents[1] / "lite" / "scored_step.py")
step = module_from_spec(_spec)
_spec.loader.exec_module(step)

ROOT = Path(__file__).parents[3]


def test_its_groups_stay_on_one_worker_and_run_in_passes_of_any_size(newcomer, make_job, make_recipe):
    selection = {"method": newcomer, "ratio": 0.2}
    assert sequences_together(make_recipe(selection=selection)) == 8
    assert sequences_together(make_recipe(selection={"method": "ets", "ratio": 0.2})) == 1
    job = make_job(resources={"micro_batch_sequences": 4}, selection=selection)
    assert micro_batch(job) == 4
    assert "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4" in overrides(job)


def test_a_pass_by_tokens_must_hold_one_of_its_sequences(newcomer, make_recipe):
    longest = 32 + 48
    recipe = make_recipe(selection={"method": newcomer, "ratio": 0.2})
    check_support(recipe, Resources(tokens_per_pass=longest))
    with pytest.raises(OrchError, match=f"tokens_per_pass = {longest - 1}"):
        check_support(recipe, Resources(tokens_per_pass=longest - 1))


@pytest.mark.parametrize("score_policy", ["old", "current"])
def test_both_backends_train_on_the_same_tokens(newcomer, score_policy):
    selection = {"method": newcomer, "ratio": 0.3, "scope": "group", "score_policy": score_policy}
    recipe = step.a_recipe({}, selection, update="dense", mini_batch_prompts=2)
    model = step.a_model(0)
    batch = score_rollouts(model, None, step.a_batch(2), recipe, micro_batch_sequences=100)
    lite = copy.deepcopy(model)
    optimizer = torch.optim.SGD(lite.parameters(), lr=0.1)
    metrics = update_policy(lite, optimizer, batch, recipe, step=1, seed=0, micro_batch_sequences=100)

    plan = plan_step(batch, recipe, step=1, seed=0)
    weighed = weigh(batch, plan)
    assert weighed.metrics == {name: metrics[name] for name in weighed.metrics}
    assert not torch.equal(weighed.selected_BT, batch.response_mask_BT)
    assert torch.equal(weighed.policy_BT > 0, weighed.selected_BT)
    scores = policy_scores(model, batch.take(plan.rows_competing(1)), recipe, micro_batch_sequences=3)
    again = weigh_again(batch, scores, plan, label=1)
    rows = plan.rows_trained(1)
    assert torch.equal(again.policy_BT[rows], weighed.policy_BT[rows]), "the policy has not moved"
    assert not again.policy_BT[plan.rows_trained(0)].any()


SELECTOR = """
def sure_outlier(tokens: Tokens, selection: Selection) -> Tensor:
    assert tokens.deviation_BT is not None
    return tokens.deviation_BT * tokens.purity_BT


SELECTORS: Final"""
ROW = """
        Method(
            name="sure_outlier",
            summary="largest KL from the group's mean, times the purity",
            paper="none",
            options=RANKED,
            required=frozenset({"ratio"}),
            distance="kl",
        ),
    )
}
"""


def add_by_hand(root: Path) -> None:
    """Copy the project, and write what CONTRIBUTING.md asks for into the copy."""
    for package in ("eval", "trainers", "orchestrator", "dashboards", "experiments"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in (
        ("selection.py", "\nSELECTORS: Final", SELECTOR),
        ("selection.py", '    "full": every_token,\n', '    "full": every_token,\n    "sure_outlier": sure_outlier,\n'),
        ("methods.py", "\n    )\n}\n", ROW),
    ):
        file = root / "trainers" / name
        assert file.read_text().count(old) == 1
        file.write_text(file.read_text().replace(old, new))
    (root / "experiments" / "selection" / "sure_outlier.yaml").write_text("method: sure_outlier\nratio: 0.2\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(find_spec("verl") is None, reason="needs .venv-verl: make verl")
def test_a_trial_of_verl_trains_with_a_method_that_was_written_into_a_copy(
    newcomer, tmp_path, tmp_path_factory, monkeypatch
):
    import rig as rigs

    add_by_hand(tmp_path / "copy")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "copy"))
    monkeypatch.setattr(rigs, "EXPERIMENT", tmp_path / "copy" / "experiments" / "smoke_verl.yaml")
    shared = os.environ.get("ORCH_CACHE_DIR")
    cache = Path(shared) if shared else tmp_path_factory.getbasetemp() / "models"
    (tmp_path / "sweep").mkdir()
    rig = rigs.Rig(tmp_path / "sweep", cache, "recipe.steps=2")
    rig.overrides = [text.replace("selection=full", "selection=sure_outlier") for text in rig.overrides]
    try:
        assert rig.finish(rig.start(scheduler="inline")) == 0
    finally:
        rig.end()
    recipe = rig.record.trial.recipe
    assert (recipe.trainer, recipe.selection.method) == ("verl", "sure_outlier")
    rows = rig.store.metrics(rig.trial_id)
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["select/count"] == math.ceil(0.2 * row["select/tokens"] - 1e-9)
        assert row["jaccard/ict_kl"] < 1, "it ranks by more than the distance that it shares"
