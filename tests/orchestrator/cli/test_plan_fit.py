from pathlib import Path

import pytest

from orchestrator.cli.plan_fit import check_here
from orchestrator.config.spec import load_sweep
from orchestrator.errors import PlanError
from orchestrator.plan.make import make_plan
from orchestrator.sizing.devices import GPUS

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


def check(name, device, *changes):
    spec = load_sweep(EXPERIMENTS / f"{name}.yaml", changes)
    check_here(spec, make_plan(spec), device)


def test_a_sweep_that_cannot_fit_the_gpus_here_is_refused_before_anything_is_fetched():
    check("ratio_ablation", GPUS["h100"])
    with pytest.raises(PlanError) as refused:
        check("ratio_ablation", GPUS["4090"], "cluster.offload=none")
    assert refused.value.where == "cluster.offload"
    assert "bytes" in refused.value.what


def test_without_a_gpu_to_ask_the_question_is_left_to_the_trials_node():
    check("ets_results", None)


def test_trials_on_cpus_have_nothing_to_fit():
    check("smoke", GPUS["v100"])
