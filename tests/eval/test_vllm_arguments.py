from __future__ import annotations

from typing import Literal

import pytest

from eval.engines import check_options
from eval.engines.vllm_arguments import NEUTRAL, SET_BY, check_arguments, read_arguments, shaping
from eval.errors import EngineError

KNOWN = {
    "gpu_memory_utilization": float,
    "enforce_eager": bool,
    "quantization": str | None,
    "kv_cache_dtype": Literal["auto", "fp8"],
    "hf_overrides": dict[str, object],
}


def test_values_are_json_or_texts() -> None:
    texts = (
        "gpu-memory-utilization=0.5",
        "enforce_eager=True",
        "--quantization=fp8",
        'hf_overrides={"rope_theta": 1}',
        "kv_cache_dtype=fp8",
    )
    found = read_arguments(texts)
    assert found == {
        "gpu_memory_utilization": 0.5,
        "enforce_eager": True,
        "quantization": "fp8",
        "hf_overrides": {"rope_theta": 1},
        "kv_cache_dtype": "fp8",
    }
    check_arguments(found, KNOWN)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["quantization"], "write KEY=VALUE"),
        (["=5"], "write KEY=VALUE"),
        (["a=1", "a=2"], "given twice"),
        *[([f"{name}=1"], "is set by") for name in SET_BY],
    ],
)
def test_what_is_no_argument_or_has_an_option_of_ours_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read_arguments(texts)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gpu_memory_utilisation=0.5", "did you mean gpu_memory_utilization"),
        ("gpu_memory_utilization=much", "does not take 'much' as gpu_memory_utilization"),
        ("kv_cache_dtype=fp9", "does not take 'fp9'"),
        ("zzz=1", "no argument 'zzz'"),
    ],
)
def test_what_vllm_does_not_know_is_refused_with_its_nearest(argument: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_arguments(read_arguments([argument]), KNOWN)


def test_only_arguments_that_change_samples_are_part_of_their_key() -> None:
    assert shaping(dict.fromkeys(NEUTRAL, 1)) == shaping({}) == ""
    assert shaping({"quantization": "fp8", "enforce_eager": True}) == ':{"quantization": "fp8"}'


@pytest.mark.parametrize("engine", ["hf", "openai"])
def test_other_engines_take_none(engine: str) -> None:
    with pytest.raises(EngineError, match="--engine-arg"):
        check_options(engine, tensor_parallel=1, engine_args={"seed": 1})
    with pytest.raises(EngineError, match="--tensor-parallel"):
        check_options(engine, tensor_parallel=2, engine_args={})


def test_of_the_vllm_that_is_installed_every_name_of_ours_is_an_argument() -> None:
    vllm = pytest.importorskip("vllm", reason="vllm is not installed here")
    import dataclasses

    names = {field.name for field in dataclasses.fields(vllm.EngineArgs)}
    assert set(SET_BY) <= names
    check_options("vllm", tensor_parallel=1, engine_args={"gpu_memory_utilization": 0.5, "enforce_eager": True})
    with pytest.raises(EngineError, match="did you mean"):
        check_options("vllm", tensor_parallel=1, engine_args={"gpu_memory_utilisation": 0.5})
    with pytest.raises(EngineError, match="does not take"):
        check_options("vllm", tensor_parallel=1, engine_args={"gpu_memory_utilization": "much"})
