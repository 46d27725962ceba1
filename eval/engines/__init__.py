"""Engines behind the `Sampler` protocol: `hf` (embedded default), `vllm`, `openai`. Each is loaded when opened."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from eval.api import Sampler
from eval.errors import EngineError

ENGINES = ("hf", "vllm", "openai")


def open_sampler(
    engine: str,
    model_folder: Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_sequences: int = 256,
    trust_remote_code: bool = False,
    num_workers: int = 1,
) -> Sampler:
    """Load a model folder into an engine, or into several that share their work.

    Args:
        engine: one of `ENGINES`.
        model_folder: a Hugging Face folder.
        device: `cpu` or `cuda`; devices a trial may not use are hidden from it.
        dtype: `float32`, `bfloat16` or `float16`.
        batch_sequences: sequences decoded at once.
        trust_remote_code: run model code that the folder brings along.
        num_workers: with more than one, as many processes with an engine each, one for each visible GPU.

    Raises:
        EngineError: unknown engine, or it cannot start.
        ModelError: the folder does not hold a usable model.
    """
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "batch_sequences": batch_sequences,
        "trust_remote_code": trust_remote_code,
    }
    if num_workers > 1:
        from eval.engines.gang import open_gang

        opener = functools.partial(open_sampler, engine, model_folder, **options)
        return open_gang(opener, num_workers=num_workers, gpus=visible_gpus() if device == "cuda" else ())
    if engine == "hf":
        from eval.engines.hf import open_hf_sampler

        return open_hf_sampler(model_folder, **options)
    if engine == "vllm":
        from eval.engines.vllm import open_vllm_sampler

        return open_vllm_sampler(model_folder, **options)
    if engine == "openai":
        raise EngineError(
            "the engine `openai` has no model folder", fix="orch eval NAME --engine openai --base-url http://…/v1"
        )
    raise EngineError(f"unknown engine {engine!r}", fix=f"one of {', '.join(ENGINES)}")


def open_endpoint(model: str, *, base_url: str) -> Sampler:
    """Connect to an OpenAI-compatible endpoint that serves a model under a name.

    Raises:
        EngineError: it does not answer, or does not serve the model.
    """
    from eval.engines.openai import open_openai_sampler

    return open_openai_sampler(model, base_url=base_url)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
