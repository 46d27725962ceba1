"""What is chosen for the models of every experiment on four kinds of GPU, and that it holds what it promises."""

from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from orchestrator.config.shape import shape_of
from orchestrator.config.spec import load_sweep
from orchestrator.errors import PlanError
from orchestrator.sizing.assumptions import Assumptions
from orchestrator.sizing.devices import GPUS
from orchestrator.sizing.fit import PASS_TOKENS, filled, fit
from orchestrator.sizing.memory import FREE_SHARE
from orchestrator.sizing.phases import place_of, startup_seconds
from trainers.recipe import Resources
from trainers.verl.launch.support import check_support, sequences_together
from trainers.verl.launch.watch import FACTOR, Watchdog

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
GOLDEN = Path(__file__).parents[1] / "golden" / "fits.txt"
DEVICES = ("h100", "a100-40", "v100", "h200")


spec_of = cache(load_sweep)


@cache
def cases():
    """Name → (recipe, resources, shape): what of the experiments on GPUs asks for another fit."""
    found = {}
    for file in sorted(EXPERIMENTS.glob("*.yaml")):
        for point in spec_of(file).points:
            recipe = point.recipe
            if not point.resources.num_gpus:
                continue
            sizes = (recipe.prompts_per_step, recipe.data.max_prompt_tokens + recipe.data.max_response_tokens)
            together, references = sequences_together(recipe), int(recipe.algorithm.kl_coef > 0)
            name = f"{Path(recipe.model.path).name} {recipe.model.dtype} {sizes[0]}x{recipe.group_size}x{sizes[1]}"
            name += f" together {together}, references {references}"
            found.setdefault(name, (recipe, point.resources, shape_of(recipe.model, point.shape)))
    return found


def fitted(name, kind, num_gpus):
    recipe, resources, shape = cases()[name]
    device = GPUS[kind]
    return fit(recipe, replace(resources, num_gpus=num_gpus), shape, device, host_gb=device.host_memory_gb * num_gpus)


def line(name, kind, num_gpus):
    try:
        found = fitted(name, kind, num_gpus)
    except PlanError as refused:
        return f"{kind} x{num_gpus}: {refused.where}: {refused.what.partition(': ')[2] or refused.what}"
    cut = found.resources
    engine = f"TP {cut.tensor_parallel}, share {cut.gpu_memory_share}, {cut.sample_batch_sequences} live"
    state = f"{cut.tokens_per_pass} tokens, offload {cut.offload}, checkpoint {cut.checkpoint_every}"
    peaks = " ".join(f"{phase} {found.peak(phase) / 1e9:.0f}" for phase in found.phases)
    return f"{kind} x{num_gpus}: {engine}, {state}, GB {peaks}"


def test_what_is_chosen_for_each_recipe_and_gpu_is_golden():
    text = ""
    for name in cases():
        text += f"[{name}]\n" + "".join(f"{line(name, kind, count)}\n" for kind in DEVICES for count in (1, 8))
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("num_gpus", [1, 8])
@pytest.mark.parametrize("kind", DEVICES)
def test_what_is_chosen_fits_and_verl_can_honour_it(kind, num_gpus):
    num_fitting = 0
    for name, (recipe, _, _) in cases().items():
        found = None
        with suppress(PlanError):
            found = fitted(name, kind, num_gpus)
            num_fitting += 1
        if found is None:
            continue
        limit = (1 - FREE_SHARE) * GPUS[kind].memory_gb * 1e9
        assert all(found.peak(phase) <= limit for phase in found.phases)
        longest = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
        assert longest <= found.resources.tokens_per_pass <= max(PASS_TOKENS, longest)
        assert found.resources.num_gpus % found.resources.tensor_parallel == 0
        if recipe.mini_batch_prompts % num_gpus == 0:
            check_support(recipe, found.resources)
        assert found.resources == filled(found.resources) or found.resources.micro_batch_sequences is None
    assert num_fitting


def test_the_largest_model_starts_on_a_node_of_eight_h100():
    for name in (name for name in cases() if "32B" in name):
        found = fitted(name, "h100", 8)
        assert found.resources.tensor_parallel > 1
        assert found.resources.offload == "always"


@pytest.mark.parametrize(
    "given",
    [
        {"tensor_parallel": 4},
        {"gpu_memory_share": 0.3},
        {"offload": "sampling"},
        {"tokens_per_pass": 40_000},
        {"sample_batch_sequences": 7},
        {"checkpoint_every": 3, "start_timeout_s": 5.0, "step_timeout_s": 6.0},
        {"micro_batch_sequences": 2},
    ],
)
def test_what_a_person_set_stays(given):
    recipe, resources, shape = cases()["Qwen3-8B bfloat16 512x16x5120 together 1, references 0"]
    found = fit(recipe, replace(resources, **given), shape, GPUS["h100"]).resources
    assert {name: getattr(found, name) for name in given} == given
    assert (found.tokens_per_pass is None) == ("micro_batch_sequences" in given)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"gpu_memory_share": 0.05}, "cluster.gpu_memory_share"),
        ({"offload": "none", "num_gpus": 1}, "cluster.offload"),
        ({"micro_batch_sequences": 64}, "cluster.micro_batch_sequences"),
        ({"tokens_per_pass": 200_000}, "cluster.tokens_per_pass"),
    ],
)
def test_what_a_person_set_so_that_nothing_fits_is_named_with_what_would(given, key):
    recipe, resources, shape = cases()["Qwen3-8B bfloat16 512x16x5120 together 1, references 0"]
    with pytest.raises(PlanError) as refused:
        fit(recipe, replace(resources, **given), shape, GPUS["h100"])
    assert refused.value.where == key
    assert "bytes" in refused.value.what
    assert "would be chosen" in refused.value.fix


def test_what_cannot_fit_is_refused_with_the_gpus_that_would_do():
    recipe, resources, shape = cases()["Qwen3-32B-Base bfloat16 512x16x22528 together 1, references 0"]
    with pytest.raises(PlanError) as refused:
        fit(recipe, replace(resources, num_gpus=1), shape, GPUS["h100"], host_gb=2000)
    assert refused.value.where == "cluster.num_gpus"
    assert "bytes" in refused.value.what
    assert refused.value.fix.startswith("it fits with cluster.num_gpus: ")


def test_more_memory_never_makes_a_trial_unfit():
    for recipe, resources, shape in cases().values():
        device, has_fitted = GPUS["h100"], False
        for memory_gb in range(8, 200, 12):
            try:
                fit(recipe, resources, shape, replace(device, memory_gb=memory_gb))
            except PlanError:
                assert not has_fitted
            else:
                has_fitted = True
        assert has_fitted


def test_a_memory_failure_leaves_smaller_peaks():
    name = "Qwen3-8B bfloat16 512x16x5120 together 1, references 0"
    recipe, resources, shape = cases()[name]
    before = fit(recipe, resources, shape, GPUS["h100"])
    after = fit(recipe, resources, shape, GPUS["h100"].with_less(1))
    assert max(map(after.peak, after.phases)) <= 0.9 * (1 - FREE_SHARE) * 80e9
    assert after.resources.gpu_memory_share * 0.9 < before.resources.gpu_memory_share


def test_on_a_cpu_and_under_other_trainers_plain_defaults_hold():
    recipe, resources, shape = next(iter(cases().values()))
    on_cpu = fit(recipe, replace(resources, num_gpus=0), shape, GPUS["h100"])
    assert on_cpu.resources == filled(replace(resources, num_gpus=0))
    assert on_cpu.resources.sample_batch_sequences == 1024
    other = fit(replace(recipe, trainer="mine:Trainer"), resources, shape, GPUS["h100"])
    assert (other.resources.micro_batch_sequences, dict(other.phases)) == (64, {})


def test_lite_takes_as_many_rows_as_fit_and_more_with_layers_made_again():
    recipe, _, shape = next(case for name, case in cases().items() if name.startswith("Qwen2.5-Math-1.5B"))
    lite = replace(recipe, trainer="lite")
    kept = replace(lite, model=replace(lite.model, gradient_checkpointing=False))
    remade = fit(lite, Resources(num_gpus=1), shape, GPUS["h100"]).resources.micro_batch_sequences
    assert fit(kept, Resources(num_gpus=1), shape, GPUS["h100"]).resources.micro_batch_sequences < remade


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_no_experiment_would_be_killed_for_being_four_times_as_slow_as_planned(file):
    assumed = Assumptions()
    for point in {id(point.recipe): point for point in spec_of(file).points if point.resources.num_gpus}.values():
        found = fit(point.recipe, point.resources, shape_of(point.recipe.model, point.shape), GPUS["h100"])
        clock, cut = Clock(), found.resources
        watchdog = Watchdog(start_s=cut.start_limit_s, silence_s=cut.step_limit_s, clock=clock)
        start_s = startup_seconds(place_of(cut, GPUS["h100"]), assumed)
        clock.now += 4 * start_s
        assert not watchdog.is_late
        watchdog.progressed()
        for _ in range(5):
            for phase_s in found.seconds.values():  # not a sign of life within a phase
                clock.now += 4 * phase_s
                assert not watchdog.is_late
                watchdog.progressed()
        clock.now += 1 + max(cut.step_limit_s, FACTOR * 4 * max(start_s, *found.seconds.values()))
        assert watchdog.is_late
