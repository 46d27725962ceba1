import json
from functools import cache
from pathlib import Path

import pytest

from orchestrator.config.shape import ModelShape, shape_of
from orchestrator.config.spec import load_sweep
from orchestrator.errors import SpecError
from trainers.recipe import Model

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
# Parameters of the released checkpoints, as their safetensors index counts them.
RELEASED = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-math-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-math-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-8b-base": 8_190_735_360,
    "qwen3-14b-base": 14_768_307_200,
    "qwen3-32b-base": 32_762_123_264,
}


@cache
def shape_of_file(name: str) -> ModelShape:
    shape = load_sweep(EXPERIMENTS / "smoke.yaml", [f"model={name}"]).points[0].shape
    assert shape is not None
    return shape


@pytest.mark.parametrize(("name", "num_parameters"), RELEASED.items())
def test_the_shape_of_a_model_file_has_the_released_number_of_parameters(name: str, num_parameters: int) -> None:
    shape = shape_of_file(name)
    assert shape.num_parameters == pytest.approx(num_parameters, rel=2e-4)  # norms and biases are left out


def test_the_head_has_the_share_of_a_pass_that_methods_states() -> None:
    for name, share in (("qwen2.5-0.5b", 0.276), ("qwen2.5-1.5b", 0.151), ("qwen2.5-7b", 0.077)):
        shape = shape_of_file(name)
        head = shape.head_parameters / (shape.head_parameters + shape.layer_parameters)
        assert head == pytest.approx(share, abs=0.001)


def test_the_operations_of_a_pass_are_products_and_half_of_the_attention() -> None:
    shape = ModelShape(
        num_layers=1, hidden_size=2, intermediate_size=3, num_heads=1, num_key_value_heads=1, head_size=2,
        vocabulary_size=5, tied_embeddings=True,
    )  # fmt: skip
    assert (shape.layer_parameters, shape.head_parameters, shape.num_parameters) == (34, 10, 44)
    assert shape.forward_flops(0) == 88
    assert shape.forward_flops(10) == 88 + 2 * 2 * 10
    assert shape.key_value_bytes("bfloat16") == 8


def test_a_local_folder_tells_its_own_shape(tmp_path: Path) -> None:
    config = {
        "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "vocab_size": 10, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = shape_of(Model(path=str(tmp_path)), None)
    assert shape is not None
    assert (shape.num_layers, shape.num_key_value_heads, shape.head_size) == (2, 2, 4)
    assert shape.tied_embeddings


def test_a_builtin_model_is_its_specification_and_an_unknown_one_has_no_shape() -> None:
    tiny = shape_of(Model(path="builtin:arithmetic-tiny"), None)
    assert tiny is not None
    assert (tiny.num_layers, tiny.hidden_size) == (4, 128)
    assert shape_of(Model(path="someone/model"), None) is None


def test_half_a_shape_is_refused_with_the_missing_key() -> None:
    with pytest.raises(SpecError, match=r"model\.hidden_size is not given"):
        load_sweep(EXPERIMENTS / "smoke.yaml", ["model.num_layers=3"])
