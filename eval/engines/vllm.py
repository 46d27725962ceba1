"""The vLLM engine, on a GPU or with the CPU build: the only module that imports vllm.

One engine in this process serves all benchmarks: it pulls requests of any settings from one stream as it has room, so
that long completions overlap with the next benchmark. Samples of a question share their prompt's cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from eval.api import Batch, Completion, SampleRequest, SamplingSettings
from eval.engines.hf_model import check_vocabulary, load_tokenizer
from eval.engines.prompts import encode_chat, encode_text
from eval.engines.stream import Draw, draws, longest_first, one_by_one
from eval.engines.vllm_arguments import check_arguments, shaping
from eval.errors import EngineError, ModelError
from eval.model_folder import check_folder, check_weights, folder_digests
from eval.model_folder.config import read_config

QUEUE_FACTOR = 1.25
"""Requests handed to vLLM at once, in multiples of the sequences it decodes together: a few wait at its door."""
CPU_CONTEXT = 16_384
"""Longest context on a CPU: prompts are read whole there, so that much must fit into one step."""
CPU_CACHE_GIB = "2"
"""KV cache of the CPU build, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""

_INSTALL = "`make vllm` builds an environment with the CPU build; on a GPU machine: pip install 'orch[gpu]'"


def open_vllm_sampler(
    model_folder: Path,
    *,
    device: str,
    dtype: str,
    batch_sequences: int,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
    engine_args: Mapping[str, object] | None = None,
) -> VllmSampler:
    """Load a model folder into vLLM.

    Args:
        model_folder: a Hugging Face folder.
        device: `cpu` needs the CPU build of vLLM, `cuda` the ordinary one.
        dtype: type of the weights and activations.
        batch_sequences: most sequences decoded together.
        trust_remote_code: run model code that the folder brings along.
        tensor_parallel: GPUs that hold the model together.
        engine_args: further arguments of vLLM, checked.

    Raises:
        EngineError: vllm is not installed or does not start.
        ModelError: the folder is no usable model.
    """
    check_folder(model_folder)
    check_weights(model_folder)
    tokenizer = load_tokenizer(model_folder, trust_remote_code=trust_remote_code)
    check_vocabulary(tokenizer, read_config(model_folder).get("vocab_size"), where=model_folder)
    for name, value in {
        "VLLM_CPU_KVCACHE_SPACE": CPU_CACHE_GIB,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }.items():
        os.environ.setdefault(name, value)
    vllm = _import()
    options = {
        **(
            cpu_options(model_folder, trust_remote_code=trust_remote_code) if device == "cpu" else {"max_model_len": -1}
        ),
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **({"tensor_parallel_size": tensor_parallel} if tensor_parallel > 1 else {}),
        **(engine_args or {}),
    }
    if device == "cpu" and "max_num_batched_tokens" not in (engine_args or {}):
        # A prompt is read whole (see `cpu_options`), and vLLM wants a token for each sequence.
        options["max_num_batched_tokens"] = max(options["max_model_len"], batch_sequences)
    try:
        engine = vllm.LLM(
            model=str(model_folder),
            dtype=dtype,
            max_num_seqs=batch_sequences,
            trust_remote_code=trust_remote_code,
            **options,
        )
    except (ValueError, RuntimeError, OSError, AssertionError) as error:
        raise EngineError(
            f"vllm does not start: {error}",
            where=str(model_folder),
            fix="VLLM_LOGGING_LEVEL=INFO shows its log; on CPU, VLLM_CPU_KVCACHE_SPACE is the cache in GiB",
        ) from error
    if device == "cpu":
        engine.collective_rpc(draw_by_inverse_cdf)
    engine.collective_rpc(without_padding, args=(len(tokenizer),))
    digests, shaped_by = folder_digests(model_folder), shaping(engine_args or {})
    return VllmSampler(
        engine,
        tokenizer,
        name=f"vllm {vllm.__version__} {device}",
        model_digest=f"{digests.digest}:{dtype}{shaped_by}",
        former_digest=f"{digests.former}:{dtype}{shaped_by}",
        queue_length=math.ceil(QUEUE_FACTOR * batch_sequences),
    )


def check_engine_args(engine_args: Mapping[str, object]) -> None:
    """Check arguments against vLLM's own dataclass.

    Raises:
        EngineError: vllm is not installed, or does not take them.
    """
    import dataclasses

    fields = dataclasses.fields(_import().EngineArgs)
    check_arguments(engine_args, {field.name: field.type for field in fields})


def _import() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise EngineError(f"vllm cannot be imported: {error}", fix=_INSTALL) from error
    return vllm


def cpu_options(model_folder: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """Settings of the CPU build: prompts are read whole.

    vLLM 0.28 rewinds the generator of a seeded request whose prompt is read in pieces, which a CPU generator cannot do
    ("CPU Generator does not use offset").
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_folder, trust_remote_code=trust_remote_code)
    text_config = config.get_text_config()
    context = min(getattr(text_config, "max_position_embeddings", CPU_CONTEXT), CPU_CONTEXT)
    return {
        "max_model_len": context,
        "max_num_batched_tokens": context,
        "enable_chunked_prefill": False,
        "enforce_eager": True,
    }


def draw_by_inverse_cdf(worker: Any) -> None:
    """Let a worker of vLLM draw each seeded row from one uniform of its generator; B rows, V vocabulary.

    On a CPU vLLM 0.28 draws B × V exponentials for the batch and, where requests have seeds, V more for each of them,
    on one core: two fifths of the time of a model of 135M parameters. Rows without seeds stay its own.
    """
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    from eval.engines.drawing import draw

    sampler = worker.model_runner.sampler.topk_topp_sampler
    without_seeds = sampler.forward

    def forward(logits_BV: Any, generators: dict[int, Any], k: Any, p: Any) -> tuple[Any, None]:
        if len(generators) < len(logits_BV):
            return without_seeds(logits_BV, generators, k, p)  # type: ignore[no-any-return]
        uniform_B = torch.cat(
            [torch.rand(1, generator=generators[row], dtype=torch.float64) for row in range(len(logits_BV))]
        )
        return draw(apply_top_k_top_p(logits_BV, k, p), uniform_B, temperature=1.0), None

    sampler.forward = forward


def without_padding(worker: Any, num_tokens: int) -> None:
    """Let a worker of vLLM draw no row of the head that is no token: see `eval.engines.vocabulary`.

    As verl does in training. Where nothing is padded the slice is empty.
    """
    model = worker.model_runner.model
    with_padding = model.compute_logits

    def compute_logits(*arguments: Any, **options: Any) -> Any:
        logits_BV = with_padding(*arguments, **options)
        if logits_BV is not None:  # all but one of the workers that share a model have none
            logits_BV[..., num_tokens:] = -math.inf
        return logits_BV

    model.compute_logits = compute_logits


class VllmSampler:
    """A `Sampler` over one `vllm.LLM`."""

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        *,
        name: str,
        model_digest: str,
        queue_length: int,
        former_digest: str | None = None,
    ) -> None:
        """Wrap an engine that is up.

        Args:
            engine: a `vllm.LLM` that runs in this process.
            tokenizer: the model's Hugging Face tokenizer.
            name: engine and version.
            model_digest: what identifies weights and tokenizer.
            queue_length: requests handed over at once.
            former_digest: what earlier versions called the same.
        """
        self._former_digest = former_digest if former_digest != model_digest else None
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

    @property
    def former_digest(self) -> str | None:
        """What earlier versions called the same weights, where that differs."""
        return self._former_digest

    @property
    def keeps_batches(self) -> bool:
        """No: what is decoded together changes from token to token, as requests end and others enter."""
        return False

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Return the tokens of a chat with the generation prompt appended; ModelError without a chat template."""
        return encode_chat(self._tokenizer, messages)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a raw prompt."""
        return encode_text(self._tokenizer, text)

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they finish: `sample_stream` under one set of settings."""
        return self.sample_stream(longest_first(one_by_one(requests, settings)))

    def sample_stream(self, batches: Iterable[Batch]) -> Iterator[Completion]:
        """Yield completions as they finish; requests are read one by one, as there is room.

        Raises:
            ModelError: a prompt and its response do not fit the model's context.
            EngineError: vllm gave a request up.
        """
        waiting, running = draws(batches), dict[str, SampleRequest]()
        core = self._engine.llm_engine
        try:
            while True:
                running |= self._enqueue(list(islice(waiting, self._queue_length - len(running))))
                if not running:
                    return
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

    def _enqueue(self, admitted: Sequence[Draw]) -> dict[str, SampleRequest]:
        from vllm import SamplingParams

        if not admitted:
            return {}
        # One sample of each question first: its prompt is then in the cache when the others are read.
        admitted = sorted(admitted, key=lambda draw: draw.request.index)
        for draw in admitted:
            self._check_length(draw)
        names = self._engine.enqueue(
            [{"prompt_token_ids": list(draw.request.prompt_tokens)} for draw in admitted],
            [
                SamplingParams(
                    temperature=draw.settings.temperature,
                    top_p=draw.settings.top_p,
                    max_tokens=draw.settings.max_new_tokens,
                    stop=list(draw.settings.stop) or None,
                    seed=draw.request.seed,
                )
                for draw in admitted
            ],
            use_tqdm=False,
        )
        # vLLM adds a random suffix to the names inside; outputs and aborts go by the name before it.
        return {name.partition("-")[0]: draw.request for name, draw in zip(names, admitted, strict=True)}

    def _check_length(self, draw: Draw) -> None:
        context = self._engine.llm_engine.model_config.max_model_len
        length = len(draw.request.prompt_tokens)
        if length + draw.settings.max_new_tokens > context:
            raise ModelError(
                f"a prompt of {length} and a response of {draw.settings.max_new_tokens} tokens exceed the context of "
                f"{context} that model and memory allow",
                where="max_new_tokens",
                fix=f"allow at most {max(context - length, 0)} response tokens, or choose another model",
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
