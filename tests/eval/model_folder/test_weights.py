"""Weights that were cut off are refused in words, at whatever byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from eval.errors import ModelError
from eval.model_folder import check_weights, model_context, model_dtype

WHOLE = save({"a": torch.arange(6.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}, metadata={"format": "pt"})


def test_whole_weights_pass(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(WHOLE)
    check_weights(tmp_path)


@given(length=st.integers(0, len(WHOLE) - 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_cut_off_anywhere_are_refused(length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(WHOLE[:length])
    with pytest.raises(ModelError) as caught:
        check_weights(folder)
    assert "model.safetensors" in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    "header", ["[]", "{", '{"a": 5}', '{"a": {"data_offsets": []}}', '{"a": {"data_offsets": [0, "x"]}}', "\x00"]
)
def test_headers_that_are_none_are_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ModelError, match="does not read"):
        check_weights(tmp_path)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(WHOLE)
    with pytest.raises(ModelError, match=r"missing: model-2\.safetensors"):
        check_weights(tmp_path)


@pytest.mark.parametrize(
    ("config", "context", "dtype"),
    [
        ({"max_position_embeddings": 4096, "torch_dtype": "bfloat16"}, 4096, "bfloat16"),
        ({"max_position_embeddings": 4096, "dtype": "float16"}, 4096, "float16"),
        ({"text_config": {"max_position_embeddings": 8, "dtype": "bfloat16"}, "dtype": None}, 8, "bfloat16"),
        ({"dtype": "float8_e4m3fn"}, None, "float32"),
        ({}, None, "float32"),
    ],
)
def test_context_and_type_are_read_from_the_config(
    tmp_path: Path, config: dict[str, object], context: int | None, dtype: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_context(tmp_path) == context
    assert model_dtype(tmp_path) == dtype


def test_a_config_that_is_none_is_the_users_to_mend(tmp_path: Path) -> None:
    for text in ("[]", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config\.json"):
            model_context(tmp_path)
