"""Arguments of vLLM that a user passes through: read from text, checked against vLLM's own dataclass."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from eval.errors import EngineError

SET_BY = {
    "model": "the model that is evaluated",
    "tokenizer": "the model's own",
    "dtype": "--dtype",
    "max_num_seqs": "--batch",
    "tensor_parallel_size": "--tensor-parallel",
    "data_parallel_size": "--workers",
    "trust_remote_code": "the experiment's model.trust_remote_code",
}
"""Arguments that have an option of ours, and which: two places for one thing would contradict each other."""
NEUTRAL = frozenset(
    (
        "async_scheduling",
        "block_size",
        "cpu_offload_gb",
        "disable_log_stats",
        "distributed_executor_backend",
        "download_dir",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "load_format",
        "max_model_len",
        "max_num_batched_tokens",
        "max_parallel_loading_workers",
        "pipeline_parallel_size",
        "scheduling_policy",
        "swap_space",
    )
)
"""Arguments that move samples no further than rounding does; any other is part of what a sample is stored under."""


def read_arguments(texts: Sequence[str]) -> dict[str, object]:
    """Return `KEY=VALUE` texts as arguments; a value is JSON, or else a text. Dashes of a key count as underscores.

    Raises:
        EngineError: no `=`, a key twice, or a key that has an option of ours.
    """
    found: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip().lstrip("-").replace("-", "_")
        if not equals or not name:
            raise EngineError(f"{text!r} is no argument of vLLM", where="--engine-arg", fix="write KEY=VALUE")
        if name in SET_BY:
            raise EngineError(f"{name} is set by {SET_BY[name]}", where=f"--engine-arg {text}", fix="leave it out")
        if name in found:
            raise EngineError(f"{name} is given twice", where=f"--engine-arg {text}", fix="give it once")
        found[name] = _value(value)
    return found


def check_arguments(arguments: Mapping[str, object], known: Mapping[str, Any]) -> None:
    """Refuse what vLLM does not know, or knows of another type.

    Args:
        arguments: by name.
        known: name → type of the fields of vLLM's own dataclass.

    Raises:
        EngineError: naming the nearest argument, or the type.
    """
    from pydantic import TypeAdapter, ValidationError  # vLLM's own requirement

    for name, value in arguments.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise EngineError(
                f"vLLM has no argument {name!r}",
                where=f"--engine-arg {name}=…",
                fix=f"did you mean {near[0]}?" if near else "see `vllm serve --help`",
            )
        try:
            TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise EngineError(
                f"vLLM does not take {value!r} as {name}: {problem}", where=f"--engine-arg {name}=…"
            ) from error


def shaping(arguments: Mapping[str, object]) -> str:
    """Return what of the arguments changes samples, as the end of a model's digest; empty where nothing does."""
    chosen = {name: value for name, value in arguments.items() if name not in NEUTRAL}
    return f":{json.dumps(chosen, sort_keys=True)}" if chosen else ""


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        words: dict[str, object] = {"true": True, "false": False, "none": None}
        return words.get(text.strip().lower(), text)
