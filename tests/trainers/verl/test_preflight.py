import json
import re
from types import SimpleNamespace

import pytest

from eval.errors import ModelError, OrchError
from orchestrator.store.record import Failure
from orchestrator.trial.retry import FailureClass, classify
from trainers.recipe import Resources
from trainers.verl.launch.preflight import check_model, check_shared_memory, shared_gb, shared_memory
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


def with_free(monkeypatch, free):
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr("trainers.verl.launch.preflight.shutil", SimpleNamespace(disk_usage=lambda folder: usage))


@pytest.mark.parametrize("resources", [Resources(), Resources(num_gpus=1), Resources(num_gpus=8, tensor_parallel=4)])
def test_dockers_64_megabytes_are_refused_on_cpus_and_gpus_with_the_bytes(monkeypatch, resources):
    needed = sum(shared_memory(resources).values())
    with_free(monkeypatch, 64 * 2**20)
    with pytest.raises(OrchError, match=f"67,108,864 bytes are free in /dev/shm.* needs {needed:,} ") as refusal:
        check_shared_memory(resources)
    assert refusal.value.fix.endswith(f"--shm-size={shared_gb(resources)}g")
    with_free(monkeypatch, shared_gb(resources) * 2**30)
    check_shared_memory(resources)


def test_shared_memory_grows_with_engines_workers_and_groups():
    one, eight = shared_memory(Resources(num_gpus=1)), shared_memory(Resources(num_gpus=8))
    assert one == {"vLLM's queues": 400 * 2**20}
    assert eight == {"vLLM's queues": 8 * 400 * 2**20, "NCCL": 2**30}
    wide = shared_memory(Resources(num_gpus=8, tensor_parallel=4))
    assert wide["vLLM's queues"] == (2 * (160 + 24) + 8 * 240) * 2**20
    assert "NCCL" in shared_memory(Resources(num_gpus=1, num_nodes=2))
    assert shared_memory(Resources())["vLLM's queues"] == one["vLLM's queues"]


def test_too_little_shared_memory_is_of_the_class_host_memory(monkeypatch):
    with_free(monkeypatch, 0)
    with pytest.raises(OrchError, match=re.escape("insufficient shared memory")) as refusal:
        check_shared_memory(Resources())
    failure = Failure(kind="OrchError", message=str(refusal.value), log_tail=())
    assert classify(failure) is FailureClass.HOST_MEMORY
