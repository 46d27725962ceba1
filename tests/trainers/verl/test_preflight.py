import json
import re

import pytest

from eval.errors import ModelError, OrchError
from orchestrator.store.record import Failure
from orchestrator.trial.retry import FailureClass, classify
from trainers.recipe import Resources
from trainers.verl.launch.preflight import check_model, check_shared_memory
from trainers.verl.launch.support import check_support


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 80}))
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def test_a_whole_model_with_room_for_prompt_and_response_passes(model, make_recipe):
    check_model(model, make_recipe())


def test_a_model_without_a_tokenizer_is_refused(model, make_recipe):
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        check_model(model, make_recipe())


def test_prompt_and_response_beyond_the_models_positions_are_refused_with_the_keys(model, make_recipe):
    with pytest.raises(ModelError) as refusal:
        check_model(model, make_recipe(data={"max_response_tokens": 49}))
    assert refusal.value.what == (
        "data.max_prompt_tokens (32) and data.max_response_tokens (49) exceed the model's 80 positions"
    )
    assert refusal.value.fix.startswith("lower them to 80 together")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_the_folder_is_refused_unless_it_is_trusted(model, make_recipe, name):
    named = {"auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}, "max_position_embeddings": 80}
    (model / name).write_text(json.dumps(named))
    with pytest.raises(ModelError, match="brings code of its own") as refusal:
        check_model(model, make_recipe())
    assert refusal.value.where == str(model / name)
    check_model(model, make_recipe(model={"trust_remote_code": True}))


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 40, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"n_positions": 40},
        {"text_config": {"max_position_embeddings": 4096}, "max_position_embeddings": 40},
    ],
)
def test_a_config_that_does_not_bound_the_context_is_left_to_vllm(model, make_recipe, config):
    (model / "config.json").write_text(json.dumps(config))
    check_model(model, make_recipe())


def test_a_plan_looks_into_a_local_folder(model, make_recipe):
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        check_support(make_recipe(model={"path": str(model)}), Resources())


def test_too_little_shared_memory_is_of_the_class_host_memory(monkeypatch, tmp_path):
    check_shared_memory(tmp_path)
    monkeypatch.setattr("trainers.verl.launch.preflight._SHARED_MB", 10**12)
    with pytest.raises(OrchError, match=re.escape("insufficient shared memory")) as refusal:
        check_shared_memory(tmp_path)
    failure = Failure(kind="OrchError", message=str(refusal.value), log_tail=())
    assert classify(failure) is FailureClass.HOST_MEMORY
