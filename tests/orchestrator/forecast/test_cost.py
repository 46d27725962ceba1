import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.config.shape import ModelShape
from orchestrator.config.spec import load_sweep
from orchestrator.errors import PlanError
from orchestrator.forecast.bill import Bill, make_bill
from orchestrator.forecast.cluster import parse_cluster
from orchestrator.forecast.history import finished_pieces, measurements
from orchestrator.forecast.measured import Estimate, Measurement, Work, distance, estimate, total
from orchestrator.forecast.trial_cost import Coster, TrialCost, evaluated_steps, evaluation_key, question_counter
from orchestrator.plan.make import make_plan
from orchestrator.plan.trial import Plan
from orchestrator.sizing.assumptions import Assumptions, read_assumptions
from orchestrator.sizing.devices import CPU_CORE
from orchestrator.sizing.phases import Place, checkpoint_gb, decoding_seconds, place_of, step_seconds
from orchestrator.store.record import RunRecord
from trainers.recipe import Recipe, Resources

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
SHAPE = ModelShape(
    num_layers=28, hidden_size=1536, intermediate_size=8960, num_heads=12, num_key_value_heads=2, head_size=128,
    vocabulary_size=151_936, tied_embeddings=True,
)  # fmt: skip
H100 = parse_cluster("8xH100")
ASSUMED = Assumptions()


def recipe_of(*changes: str) -> tuple[Recipe, Resources]:
    cut = ("cluster.micro_batch_sequences=8", "cluster.sample_batch_sequences=256")
    lite = ("trainer=lite", "recipe.update=sparse", *cut)
    changed = {change.partition("=")[0]: change for change in (*lite, *changes)}
    point = load_sweep(EXPERIMENTS / "gmts_figure2.yaml", [*changed.values()]).points[0]
    return point.recipe, point.resources


def step(*changes: str, assumed: Assumptions = ASSUMED) -> dict[str, float]:
    recipe, resources = recipe_of(*changes)
    return step_seconds(recipe, resources, SHAPE, place_of(resources, H100.device(resources)), assumed)


def test_the_update_takes_its_operations_over_the_share_of_the_peak() -> None:
    seconds = step()
    tokens, context = 64 * 16 * (160 + 0.4 * 2048), 160 + 0.4 * 2048
    forward = SHAPE.forward_flops(context)
    launch_s = 3 * (1024 // 8) * 28 * 0.0007
    assert seconds["update"] == pytest.approx(tokens * 4 * forward / (989e12 * 0.35) + launch_s)
    assert seconds["score"] == pytest.approx(tokens * forward / (989e12 * 0.2) + launch_s / 3)


def test_a_step_that_an_h100_made_takes_what_a_plan_says() -> None:
    """`gpu_check.py --parts bf16`, docs/verl.md: 16 prompts of 12 tokens × 16 responses of 1,024, ICT with KL."""
    point = load_sweep(
        EXPERIMENTS / "ict_table1.yaml", ("algorithm.kl_coef=0.001", "data.max_response_tokens=1024")
    ).points[0]
    recipe = replace(point.recipe, prompts_per_step=16, group_size=16, mini_batch_prompts=16, ppo_epochs=1)
    resources = Resources(num_gpus=1, tensor_parallel=1, gpu_memory_share=0.21, sample_batch_sequences=256)
    assumed = replace(ASSUMED, prompt_tokens=12, mean_response_share=1.0)
    planned = step_seconds(recipe, resources, SHAPE, place_of(resources, H100.device(resources)), assumed)
    measured = {"sample": 11.3 + 0.2, "score": 4.3 + 4.5, "update": 9.9}
    assert planned == pytest.approx(measured, rel=0.1)


def test_a_step_follows_the_recipe_in_the_direction_it_must() -> None:
    base = step()
    assert step("recipe.ppo_epochs=2")["update"] == pytest.approx(2 * base["update"])
    assert step("algorithm.kl_coef=0.001")["score"] == pytest.approx(2 * base["score"])
    assert step("algorithm.dynamic_sampling=false")["sample"] == pytest.approx(base["sample"] / 1.5)
    assert step("algorithm.max_sampling_rounds=1")["sample"] == pytest.approx(base["sample"] / 1.5)
    assert step("selection=ets", "recipe.update=dense")["update"] == base["update"]
    assert step("selection=ets")["update"] < base["update"]
    assert step("cluster.num_gpus=2")["sample"] < base["sample"]
    assert step("data.max_response_tokens=4096")["sample"] > 2 * base["sample"]


def test_decoding_lasts_as_long_as_its_longest_response_and_reads_the_weights_each_token() -> None:
    one = decoding_seconds(
        SHAPE, Place(device=H100.device(Resources(num_gpus=1)), num_devices=1), ASSUMED, dtype="bfloat16",
        num_sequences=1, prompt_tokens=0, response_tokens=100, longest=100, batch_sequences=1, is_graph=True,
    )  # fmt: skip
    traffic = 2 * SHAPE.num_parameters + 50 * SHAPE.key_value_bytes("bfloat16")
    assert one == pytest.approx(100 * (0.0075 + traffic / (3350e9 * 0.6)))


def test_checkpoints_hold_weights_master_copy_and_moments() -> None:
    assert checkpoint_gb("bfloat16", SHAPE) == pytest.approx(SHAPE.num_parameters * 14 / 1e9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("mean_share=0.2", "unknown assumption 'mean_share'"),
        ("startup_s", "'startup_s' has no number"),
        ("startup_s=soon", "'startup_s=soon' has no number"),
        ("mean_response_share=1.5", "the assumption mean_response_share is 1.5"),
        ("unmeasured_spread=0.5", "the assumption unmeasured_spread is 0.5"),
        ("disk_gb_s=0", "the assumption disk_gb_s is 0"),
        ("startup_s=nan", "the assumption startup_s is nan"),
    ],
)
def test_an_assumption_that_makes_no_sense_is_refused(text: str, what: str) -> None:
    with pytest.raises(PlanError) as refused:
        read_assumptions([text])
    assert (refused.value.what, refused.value.where) == (what, "--assume")


def test_a_replaced_assumption_is_used() -> None:
    assert read_assumptions(["sampling_rounds=1", "startup_s=7"]) == replace(ASSUMED, sampling_rounds=1, startup_s=7)


def work(modelled_s: float, **changes: str) -> Work:
    base = Work(kind="train", backend="lite", device="H100", variant="a", modelled_s=modelled_s)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_run_of_the_same_recipe_replaces_the_model() -> None:
    found = estimate(work(100), [Measurement(work=work(100), seconds=s) for s in (140, 160)], ASSUMED)
    assert (found.seconds, found.is_measured) == (150, True)
    assert found.spread == pytest.approx(1.1)


def test_the_interval_widens_with_the_distance_until_the_model_stands_alone() -> None:
    measured = [Measurement(work=work(100), seconds=150)]
    spreads = [estimate(work(100 * factor), measured, ASSUMED).spread for factor in (1, 2, 4, 8, 1000)]
    assert spreads == sorted(spreads)
    assert estimate(work(200), measured, ASSUMED).seconds == pytest.approx(300)
    far = estimate(work(100_000), measured, ASSUMED)
    assert (far.seconds, far.spread, far.is_measured) == (100_000, 2.0, False)


def test_distance_counts_what_the_model_may_get_wrong() -> None:
    assert distance(work(10), work(10)) == 0
    assert distance(work(10), work(20)) == pytest.approx(math.log(2))
    assert distance(work(10), work(10, variant="b")) == 0.5
    assert distance(work(10), work(10, device="A100")) == 2.0
    assert distance(work(10), work(10, kind="evaluate")) == math.inf


def test_sums_keep_both_ends() -> None:
    both = total([Estimate(seconds=10, spread=2, is_measured=False), Estimate(seconds=30, spread=1, is_measured=True)])
    assert (both.seconds, both.high_s, both.is_measured) == (40, 50, False)


def plans_of(*names: str, folder: Path = EXPERIMENTS) -> list[Plan]:
    specs = [load_sweep(folder / f"{name}.yaml") for name in names]
    return [make_plan(spec) for spec in specs]


def coster(measured: Sequence[Measurement] = ()) -> Coster:
    return Coster(
        device_of=H100.device,
        shape_of=lambda planned: SHAPE,
        count_of=question_counter(None),
        assumed=ASSUMED,
        measured=measured,
    )


def nothing(trial_id: str) -> frozenset[str]:
    return frozenset()


def test_what_two_experiments_want_is_paid_once() -> None:
    table1, table4 = plans_of("gmts_table1", "gmts_table4")
    both: Bill = make_bill([table1, table4], coster(), nothing)
    alone = make_bill([table4], coster(), nothing)
    shared = {one.trial.id for one in table1.entries} & {one.trial.id for one in table4.entries}
    assert len(shared) == 13
    assert [line.num_shared for line in both.lines] == [0, 13]
    assert both.num_trials == len(table4.entries) == len(both.tasks)
    assert both.after_sharing.seconds == pytest.approx(alone.after_sharing.seconds)
    first, second = both.lines
    assert both.before_sharing.seconds == pytest.approx(first.alone.seconds + second.alone.seconds)
    assert second.added.seconds == pytest.approx(second.alone.seconds - first.alone.seconds)


def test_a_shared_training_is_paid_once_and_other_scores_of_it_on_top() -> None:
    dense, during = plans_of("gmts_table5", "gmts_figure3")
    entry = dense.entries[1]
    every = replace(entry, evaluation=replace(entry.evaluation, benchmarks=("aime2024",), every_steps=50))
    bill = make_bill([dense, replace(during, entries=(every,))], coster(), nothing)
    cost: TrialCost = coster().cost(every)
    added = [piece for piece in cost.pieces if piece.name.startswith("aime2024 at")][:-1]  # the last is scored before
    assert len(added) == 3
    assert bill.lines[1].added.seconds == pytest.approx(sum(piece.estimate.seconds for piece in added))


def test_what_is_done_is_not_left() -> None:
    (plan,) = plans_of("gmts_figure2")
    trained = plan.entries[1].trial.id
    bill = make_bill([plan], coster(), lambda trial_id: frozenset({"train"} if trial_id == trained else ()))
    train = next(piece for piece in coster().cost(plan.entries[1]).pieces if piece.name == "train")
    assert bill.after_sharing.seconds - bill.left.seconds == pytest.approx(train.estimate.seconds)


def test_evaluations_are_those_that_a_run_makes(lab: Lab) -> None:
    lab.every_steps = 2
    assert evaluated_steps(lab.planned(0)) == (2, 4, 6)
    assert evaluated_steps(lab.planned(None)) == (0,)
    lab.sweep(lab.plan([0]))
    record: RunRecord = lab.store.list()[0]
    wanted = lab.planned(0).evaluation
    names = {evaluation_key(wanted, wanted.benchmarks[0], at, None) for at in (2, 4, 6)}
    assert finished_pieces(record) == {"train", *names}
    assert finished_pieces(None) == frozenset()


def test_finished_runs_of_a_store_are_measurements_that_calibrate(lab: Lab) -> None:
    lab.sweep(lab.plan([None, 0]))
    found = measurements(lab.store, shape_of=lambda planned: SHAPE, count_of=question_counter(None), assumed=ASSUMED)
    assert sorted(one.work.kind for one in found) == ["evaluate", "evaluate", "train"]
    assert {one.work.device for one in found} == {CPU_CORE.name}
    record = lab.store.read(lab.planned(0).trial.id)
    train = next(one for one in found if one.work.kind == "train")
    spent = sum(seconds for phase, seconds in record.phase_seconds.items() if phase != "evaluate")
    assert train.seconds == pytest.approx(spent)
    cost = coster(found).cost(lab.planned(1))
    assert cost.pieces[0].estimate.is_measured
    assert cost.pieces[0].estimate.seconds == pytest.approx(spent)


def test_an_empty_store_measures_nothing(tmp_path: Path) -> None:
    from orchestrator.store.store import Store

    missing = Store(tmp_path / "none")
    assert measurements(missing, shape_of=lambda planned: SHAPE, count_of=len, assumed=ASSUMED) == []
    assert not missing.root.exists()
