"""Engines behind the `Sampler` protocol: `hf` (embedded default), `vllm`, `openai`. Each is loaded when opened."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.api import Sampler
from eval.errors import EngineError
from eval.model_folder import folder_digest, model_context

if TYPE_CHECKING:
    from eval.engines.endpoint import Deadlines
    from eval.engines.fingerprint import Fingerprint
    from eval.engines.openai import OpenAiSampler
    from eval.templates import PromptEncoder

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
    tensor_parallel: int = 1,
    engine_args: Mapping[str, object] | None = None,
) -> Sampler:
    """Load a model folder into an engine, or into several that share their work.

    Args:
        engine: one of `ENGINES`.
        model_folder: a Hugging Face folder.
        device: `cpu` or `cuda`; devices a trial may not use are hidden from it.
        dtype: `float32`, `bfloat16` or `float16`.
        batch_sequences: sequences decoded at once.
        trust_remote_code: run model code that the folder brings along.
        num_workers: with more than one, as many processes with an engine each, on GPUs of its own.
        tensor_parallel: GPUs that hold one model together; `vllm` alone takes more than one.
        engine_args: further arguments of vLLM.

    Raises:
        EngineError: unknown engine, or it cannot start.
        ModelError: the folder does not hold a usable model.
    """
    check_options(engine, tensor_parallel=tensor_parallel, engine_args=engine_args or {})
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "batch_sequences": batch_sequences,
        "trust_remote_code": trust_remote_code,
    }
    if num_workers > 1:
        from eval.engines.gang import open_gang

        folder_digest(model_folder)  # read once, and kept for the workers
        vllm_options: dict[str, Any] = {"tensor_parallel": tensor_parallel, "engine_args": engine_args}
        opener = functools.partial(open_sampler, engine, model_folder, **options, **vllm_options)
        gpus = visible_gpus() if device == "cuda" else ()
        return open_gang(opener, num_workers=num_workers, gpus=gpus, gpus_each=tensor_parallel)
    if engine == "hf":
        from eval.engines.hf import open_hf_sampler

        return open_hf_sampler(model_folder, **options)
    if engine == "vllm":
        from eval.engines.vllm import open_vllm_sampler

        return open_vllm_sampler(
            model_folder, **options, tensor_parallel=tensor_parallel, engine_args=engine_args or {}
        )
    if engine == "openai":
        raise EngineError(
            "the engine `openai` has no model folder", fix="orch eval NAME --engine openai --base-url http://…/v1"
        )
    raise EngineError(f"unknown engine {engine!r}", fix=f"one of {', '.join(ENGINES)}")


def check_options(engine: str, *, tensor_parallel: int, engine_args: Mapping[str, object]) -> None:
    """Refuse options that an engine does not take, and arguments that vLLM does not know.

    Raises:
        EngineError: as said; or arguments are given and vllm is not installed.
    """
    if engine == "vllm":
        if engine_args:
            from eval.engines.vllm import check_engine_args

            check_engine_args(engine_args)
        return
    for option, is_given in (("--engine-arg", bool(engine_args)), ("--tensor-parallel", tensor_parallel > 1)):
        if is_given:
            raise EngineError(f"the engine `{engine}` takes no {option}", where=option, fix="--engine vllm does")


def open_encoder(model_folder: Path) -> PromptEncoder:
    """Return a model's tokenizer as what prompts are rendered with, without the model.

    Raises:
        ModelError: the folder holds no usable tokenizer.
    """
    from eval.engines.hf import HfSampler
    from eval.engines.hf_model import load_tokenizer

    return HfSampler(None, load_tokenizer(model_folder), model_digest="", batch_sequences=1)


def context_limit(engine: str, model_folder: Path, *, device: str, engine_args: Mapping[str, object]) -> int | None:
    """Return the most tokens of a prompt with its response, as far as it is known before an engine is up.

    Raises:
        ModelError: the folder's config does not read.
    """
    context = model_context(model_folder)
    if engine != "vllm":
        return context
    asked = engine_args.get("max_model_len")
    if isinstance(asked, int) and asked > 0:
        return asked
    from eval.engines.vllm import CPU_CONTEXT

    return min(context or CPU_CONTEXT, CPU_CONTEXT) if device == "cpu" else context


def open_endpoint(
    model: str, *, base_url: str, deadlines: Deadlines | None = None, known: Sequence[Fingerprint] = ()
) -> OpenAiSampler:
    """Connect to an OpenAI-compatible endpoint that serves a model under a name.

    Args:
        model: the name that the endpoint gives the model.
        base_url: up to and with `/v1`.
        deadlines: how long is waited for answers.
        known: models behind endpoints that were met before, one of which this one may be.

    Raises:
        EngineError: it does not answer, or does not serve the model.
    """
    from eval.engines.openai import open_openai_sampler

    return open_openai_sampler(model, base_url=base_url, deadlines=deadlines, known=known)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
