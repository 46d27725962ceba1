from importlib.util import find_spec

import pytest

from eval.errors import OrchError
from trainers.recipe import Resources
from trainers.registry import check_fit
from trainers.verl.launch.settings import OURS, PASSED, check_settings, known_settings

OPEN = tuple(f"{key}." for key, kind in known_settings().items() if kind == "open")
VLLM = "actor_rollout_ref.rollout.engine_kwargs.vllm"


def refusal(key, value):
    with pytest.raises(OrchError) as refused:
        check_settings(Resources(verl=((key, value),)))
    assert refused.value.where == f"cluster.verl.{key}"
    return refused.value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_rollout_ref.rollout.enforce_eager", True),
        ("actor_rollout_ref.actor.fsdp_config.forward_prefetch", True),
        ("actor_rollout_ref.nccl_timeout", 900),
        (f"{VLLM}.swap_space", 4),
        (f"{VLLM}.compilation_config.level", 3),
        ("actor_rollout_ref.model.override_config.attn_implementation", "flash_attention_2"),
        ("actor_rollout_ref.rollout.prometheus.port", 9091),
    ],
)
def test_what_changes_rounding_at_most_passes(key, value):
    check_settings(Resources(verl=((key, value),)))


@pytest.mark.parametrize("key", sorted(known_settings())[::37])
def test_a_letter_too_few_is_refused_with_the_nearest_name(key):
    for place in {len(key) - 1, len(key) // 2}:
        typo = key[:place] + key[place + 1 :]
        if typo not in known_settings() and not any(typo.startswith(block) for block in OPEN):
            assert "did you mean " in refusal(typo, True).fix


@pytest.mark.parametrize("key", [key for key in OURS if key in known_settings()])
def test_a_setting_with_a_key_of_ours_names_it(key):
    found = refusal(key, 1)
    assert OURS[key] in found.fix


@pytest.mark.parametrize(
    "key",
    [
        f"{VLLM}.quantization",
        f"{VLLM}.hf_overrides.rope_theta",
        "critic.enable",
        "actor_rollout_ref.model.lora_rank",
        "actor_rollout_ref.model.override_config.rope_theta",
        "actor_rollout_ref.rollout.top_k",
        "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size",
        "global_profiler.finish_hook_cmd",
        "actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module",
    ],
)
def test_what_may_change_numbers_or_runs_code_is_refused(key):
    assert "leave it out" in refusal(key, 1).fix


@pytest.mark.parametrize(
    ("key", "value"),
    [("actor_rollout_ref.rollout.enforce_eager", 1), ("actor_rollout_ref.nccl_timeout", True)],
)
def test_a_value_of_another_type_is_refused(key, value):
    assert "of type" in refusal(key, value).fix


def test_another_trainer_takes_no_settings_of_verl(make_recipe):
    resources = Resources(verl=(("actor_rollout_ref.nccl_timeout", 900),))
    check_fit(make_recipe(), resources)
    with pytest.raises(OrchError) as refused:
        check_fit(make_recipe(trainer="lite"), resources)
    assert refused.value.where == "cluster.verl"


def test_every_key_of_the_tables_is_one_of_verl():
    known = known_settings()
    for block in (*OURS, *PASSED):
        parents = [block.rpartition(".")[0], block.rpartition(".")[0].rpartition(".")[0]]
        is_open = any(known.get(parent) == "open" for parent in parents)
        assert is_open or any(key == block or key.startswith(f"{block}.") for key in known), block


@pytest.mark.skipif(find_spec("verl") is None, reason="needs the environment of `make verl`")
def test_the_list_is_that_of_the_installed_verl():
    from trainers.verl.launch.list_settings import list_settings

    assert list_settings() == known_settings()
