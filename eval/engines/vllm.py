"""The vLLM engine, on a GPU or with the CPU build: the only module that imports vllm.

One engine in this process serves all benchmarks. Samples of a question share their prompt's cache; completions are
yielded as they finish, and new requests enter as old ones leave, so that the long ones of one question overlap with
the next.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.api import Completion, SampleRequest, SamplingSettings
from eval.engines.hf_model import load_tokenizer
from eval.errors import EngineError, ModelError
from eval.model_folder import check_folder, folder_digest

QUEUE_FACTOR = 4
"""Requests handed to vLLM at once, in multiples of the sequences it decodes together."""
CPU_CACHE_GIB = "2"
"""KV cache of the CPU build, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""

_INSTALL = "`make vllm` builds an environment with the CPU build; on a GPU machine: pip install 'orch[gpu]'"


def open_vllm_sampler(
    model_folder: Path, *, device: str, dtype: str, batch_sequences: int, trust_remote_code: bool = False
) -> VllmSampler:
    """Load a model folder into vLLM.

    Args:
        model_folder: a Hugging Face folder.
        device: `cpu` needs the CPU build of vLLM, `cuda` the ordinary one.
        dtype: type of the weights and activations.
        batch_sequences: most sequences decoded together.
        trust_remote_code: run model code that the folder brings along.

    Raises:
        EngineError: vllm is not installed or does not start.
        ModelError: the folder is no usable model.
    """
    check_folder(model_folder)
    tokenizer = load_tokenizer(model_folder, trust_remote_code=trust_remote_code)
    for name, value in {
        "VLLM_CPU_KVCACHE_SPACE": CPU_CACHE_GIB,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
    except ImportError as error:
        raise EngineError(f"vllm cannot be imported: {error}", mend=_INSTALL) from error
    try:
        engine = vllm.LLM(
            model=str(model_folder),
            dtype=dtype,
            max_model_len=-1,
            max_num_seqs=batch_sequences,
            enforce_eager=device == "cpu",
            enable_prefix_caching=True,
            disable_log_stats=True,
            trust_remote_code=trust_remote_code,
        )
    except (ValueError, RuntimeError, OSError, AssertionError) as error:
        raise EngineError(
            f"vllm does not start: {error}",
            where=str(model_folder),
            mend="VLLM_LOGGING_LEVEL=INFO shows its log; on CPU, VLLM_CPU_KVCACHE_SPACE is the cache in GiB",
        ) from error
    return VllmSampler(
        engine,
        tokenizer,
        name=f"vllm {vllm.__version__} {device}",
        model_digest=f"{folder_digest(model_folder)}:{dtype}",
        queue_length=QUEUE_FACTOR * batch_sequences,
    )


class VllmSampler:
    """A `Sampler` over one `vllm.LLM`."""

    def __init__(self, engine: Any, tokenizer: Any, *, name: str, model_digest: str, queue_length: int) -> None:
        """Wrap an engine that is up.

        Args:
            engine: a `vllm.LLM` that runs in this process.
            tokenizer: the model's Hugging Face tokenizer.
            name: engine and version.
            model_digest: what identifies weights and tokenizer.
            queue_length: requests handed over at once.
        """
        self._engine, self._tokenizer = engine, tokenizer
        self._name, self._digest, self._queue_length = name, model_digest, queue_length

    @property
    def name(self) -> str:
        """Engine, version and device."""
        return self._name

    @property
    def model_digest(self) -> str:
        """Content digest of weights, tokenizer and type."""
        return self._digest

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Return the tokens of a chat with the generation prompt appended.

        Raises:
            ModelError: the tokenizer has no chat template.
        """
        if self._tokenizer.chat_template is None:
            raise ModelError(
                "the tokenizer has no chat template",
                where="template",
                mend="choose the template `plain` or `80/20`, or a model that was trained to chat",
            )
        return tuple(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a raw prompt, with whatever the tokenizer puts before every text."""
        return tuple(self._tokenizer(text)["input_ids"])

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they finish.

        Raises:
            ModelError: a prompt and its response do not fit the model's context.
            EngineError: vllm gave a request up.
        """
        self._check_lengths(requests, settings)
        waiting, running = deque(requests), dict[str, SampleRequest]()
        core = self._engine.llm_engine
        try:
            while waiting or running:
                if waiting and len(running) <= self._queue_length // 2:
                    running |= self._enqueue(waiting, self._queue_length - len(running), settings)
                for output in core.step():
                    if output.finished:
                        yield _completion(running.pop(output.request_id), output.outputs[0])
        finally:
            if running:
                core.abort_request(list(running))

    def close(self) -> None:
        """Shut the engine down and drop the model."""
        if self._engine is not None:
            self._engine.llm_engine.engine_core.shutdown()
        self._engine = None

    def _enqueue(
        self, waiting: deque[SampleRequest], count: int, settings: SamplingSettings
    ) -> dict[str, SampleRequest]:
        from vllm import SamplingParams

        batch = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        names = self._engine.enqueue(
            [{"prompt_token_ids": list(request.prompt_tokens)} for request in batch],
            [
                SamplingParams(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=settings.max_new_tokens,
                    stop=list(settings.stop) or None,
                    seed=request.seed,
                )
                for request in batch
            ],
            use_tqdm=False,
        )
        # vLLM adds a random suffix to the names inside; outputs and aborts go by the name before it.
        return {name.partition("-")[0]: request for name, request in zip(names, batch, strict=True)}

    def _check_lengths(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        context = self._engine.llm_engine.model_config.max_model_len
        longest = max((len(request.prompt_tokens) for request in requests), default=0)
        if longest + settings.max_new_tokens > context:
            raise ModelError(
                f"a prompt of {longest} and a response of {settings.max_new_tokens} tokens exceed the context of "
                f"{context} that model and memory allow",
                where="max_new_tokens",
                mend=f"allow at most {max(context - longest, 0)} response tokens, or choose another model",
            )


def _completion(request: SampleRequest, output: Any) -> Completion:
    if output.finish_reason not in ("stop", "length"):
        raise EngineError(f"vllm gave up sample {request.index} of {request.problem_id}: {output.finish_reason}")
    return Completion(
        problem_id=request.problem_id,
        index=request.index,
        text=output.text,
        num_tokens=len(output.token_ids),
        finish_reason=output.finish_reason,
    )
