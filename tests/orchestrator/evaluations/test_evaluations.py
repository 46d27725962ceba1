import json
from dataclasses import replace

import pytest
from lab import Lab

from eval.comparison import compare_arms
from eval.errors import OrchError
from orchestrator.evaluations.sides import read_side, shared_benchmarks
from orchestrator.evaluations.targets import keep_score, resolve_target
from orchestrator.plan.trial import Plan


def two_arms(lab: Lab) -> Plan:
    """Three seeds of one arm, two of another, and the base model."""
    plan = lab.plan([None, 0, 1, 2, 3, 4])
    entries = [
        replace(entry, axes={} if entry.trial.kind == "base" else {"selection": "full" if number < 4 else "ets"})
        for number, entry in enumerate(plan.entries)
    ]
    return replace(plan, entries=tuple(entries))


def sides(lab, *texts):
    return [read_side(text, lab.store, cache_folder=lab.root / "models") for text in texts]


def test_an_arm_of_an_experiment_is_all_its_seeds(lab: Lab) -> None:
    plan = two_arms(lab)
    lab.sweep(plan)
    full, ets, base = sides(lab, "test:full", "test:ets", "test:base")
    assert [len(side.scores["bench0"]) for side in (full, ets, base)] == [3, 2, 1]
    first = lab.store.read(plan.entries[1].trial.id).scores[0]
    assert full.scores["bench0"][0].avg == first.avg
    assert shared_benchmarks(full, base) == ("bench0",)
    assert (full.seeds, ets.seeds, base.is_trained) == ((0, 1, 2), (3, 4), False)
    found = compare_arms(full.arm("bench0"), ets.arm("bench0"))
    assert (found.num_seeds, found.covers_seeds) == ((3, 2), True)
    assert compare_arms(full.arm("bench0"), base.arm("bench0")).covers_seeds


def test_what_is_no_arm_is_refused(lab: Lab) -> None:
    lab.every_steps = 2
    plan = lab.plan([None, 0])
    lab.sweep(plan)
    base, trial = (entry.trial.id for entry in plan.entries)
    with pytest.raises(OrchError, match="is no arm: two runs of seed 0"):
        sides(lab, f"{trial},{trial}@2")
    with pytest.raises(OrchError, match="is no arm: trials beside models"):
        sides(lab, f"{base},{trial}")


def test_trials_by_id_are_seeds_of_one_side(lab: Lab) -> None:
    plan = two_arms(lab)
    lab.sweep(plan)
    ids = [entry.trial.id for entry in plan.entries[1:4]]
    (by_ids, by_arm) = sides(lab, ",".join(name[:8] for name in ids), "test:full")
    assert by_ids.scores == by_arm.scores


def test_a_checkpoint_is_named_by_its_step(lab: Lab) -> None:
    lab.every_steps = 2
    plan = lab.plan([0])
    lab.sweep(plan)
    trial = plan.entries[0].trial.id
    record = lab.store.read(trial)
    by_step = {entry.step: entry.avg for entry in record.scores}
    assert set(by_step) == {2, 4, 6}
    last, early = sides(lab, trial, f"{trial}@2")
    assert last.scores["bench0"][0].avg == by_step[6]
    assert early.scores["bench0"][0].avg == by_step[2]
    with pytest.raises(OrchError, match="has no scores yet"):
        sides(lab, f"{trial}@3")


def test_what_cannot_be_compared_is_said(lab: Lab) -> None:
    plan = two_arms(lab)
    lab.sweep(plan)
    with pytest.raises(OrchError, match="no arm of test is called 'gmts'") as caught:
        sides(lab, "test:gmts")
    assert "full; ets" in str(caught.value)
    full, ets = sides(lab, "test:full", "test:ets")
    with pytest.raises(OrchError, match="has no score on aime2024"):
        shared_benchmarks(full, ets, ("aime2024",))
    other = replace(ets, scores={"bench0": tuple(replace(s, benchmark_digest="x") for s in ets.scores["bench0"])})
    with pytest.raises(OrchError, match="different conditions"):
        shared_benchmarks(full, other)
    nothing = replace(ets, scores={})
    with pytest.raises(OrchError, match="share no benchmark"):
        shared_benchmarks(full, nothing)


def test_an_arm_with_an_unfinished_seed_is_refused(lab: Lab) -> None:
    plan = two_arms(lab)
    lab.sweep(replace(plan, entries=plan.entries[:3]))
    lab.store.plans.save(plan)
    with pytest.raises(OrchError, match="1 of 3 runs of test:full have no score on bench0"):
        sides(lab, "test:full")


def test_a_model_folder_evaluated_alone_is_a_side(lab: Lab) -> None:
    plan = lab.plan([None])
    lab.sweep(plan)
    (base,) = sides(lab, plan.entries[0].trial.id)
    score = base.scores["bench0"][0]
    folder = next(lab.store.trial_folder(plan.entries[0].trial.id).glob("eval/*/score.json"))
    assert json.loads(folder.read_text())["avg"] == score.avg
    with pytest.raises(OrchError, match="has no scores yet"):
        sides(lab, str(lab.model))


def test_a_score_of_a_trial_enters_its_record(lab: Lab) -> None:
    plan = lab.plan([0])
    lab.sweep(plan)
    trial = plan.entries[0].trial.id
    target = resolve_target(trial[:6], lab.store, cache_folder=lab.root / "models")
    assert (target.trial_id, target.owner_id, target.step) == (trial, trial, lab.steps)
    (side,) = sides(lab, trial)
    score = replace(side.scores["bench0"][0], benchmark="another")
    key = target.key("digest", score.settings, None)
    keep_score(target, score, key=key, limit=None, store=lab.store)
    entry = next(entry for entry in lab.store.read(trial).scores if entry.benchmark == "another")
    assert (entry.key, entry.step, entry.avg) == (key, lab.steps, score.avg)
    assert target.open_model().is_dir()


def test_a_trial_that_has_not_finished_cannot_be_evaluated(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "0@3")
    plan = lab.plan([0])
    lab.sweep(plan)
    with pytest.raises(OrchError, match="has not finished training"):
        resolve_target(plan.entries[0].trial.id, lab.store, cache_folder=lab.root / "models")
