"""The engine of `orch eval`: its options, checked together; what it draws from, and the sampler that draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.terminal import reading

if TYPE_CHECKING:
    from eval.api import Sampler, SamplingSettings
    from eval.engines.openai import OpenAiSampler
    from eval.templates import PromptEncoder
    from orchestrator.evaluations.targets import Target
    from orchestrator.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the command line says of the engine."""

    engine: str
    device: str | None
    dtype: str
    """`auto`: the model's own on a GPU, float32 on a CPU."""
    batch: int
    num_workers: int | None
    tensor_parallel: int
    engine_args: Mapping[str, object]
    """Of vLLM, by name."""
    base_url: str | None
    read_timeout_s: float
    total_timeout_s: float


@dataclass(slots=True, kw_only=True)
class ChosenEngine:
    """An engine and the model that it was pointed at."""

    options: EngineOptions
    target: Target
    _endpoint: OpenAiSampler | None = field(default=None)

    @property
    def device(self) -> str:
        """The device asked for, else a GPU where there is one."""
        from eval.engines import visible_gpus

        return self.options.device or ("cuda" if visible_gpus() else "cpu")

    def open(self) -> Sampler:
        """Load the model, or give the endpoint that answers already.

        Raises:
            ModelError, EngineError: the model or the engine cannot be used as asked.
        """
        from eval.engines import open_sampler, visible_gpus
        from eval.model_folder import model_dtype

        if self._endpoint is not None:
            return self._endpoint
        options, folder = self.options, self.target.open_model()
        own = model_dtype(folder) if self.device == "cuda" else "float32"
        workers = max(1, len(visible_gpus()) // options.tensor_parallel) if self.device == "cuda" else 1
        return open_sampler(
            options.engine,
            folder,
            device=self.device,
            dtype=own if options.dtype == "auto" else options.dtype,
            batch_sequences=options.batch,
            num_workers=options.num_workers or workers,
            tensor_parallel=options.tensor_parallel,
            engine_args=options.engine_args,
        )

    def fitted(self, wanted: dict[str, SamplingSettings], data_dir: Path | None) -> dict[str, SamplingSettings]:
        """Cap the new tokens of each benchmark by the model's context, with a line where that changes anything.

        Raises:
            DataError: a benchmark is damaged. ModelError: a prompt fills the context.
        """
        from eval.benchmarks.registry import load
        from eval.context import capped, may_exceed
        from eval.errors import ModelError

        whole = {name: load(name, data_folder=data_dir) for name in wanted}
        context, encoder, found = self._context(), None, dict(wanted)
        if context is None:
            return found
        for name, settings in wanted.items():
            if may_exceed(whole[name], settings, context=context):
                encoder = encoder or self._encoder()
                try:
                    found[name], line = capped(whole[name], settings, context=context, encoder=encoder)
                except ModelError:
                    if self._endpoint is None:
                        raise
                    continue  # estimated, not counted: the server knows, and says so
                if line:
                    typer.echo(line + (" (estimated)" if self._endpoint is not None else ""), err=True)
        return found

    def _context(self) -> int | None:
        """Most tokens of a prompt with its response, as far as it is known before the engine is up."""
        from eval.engines import context_limit

        if self._endpoint is not None:
            return self._endpoint.context
        return context_limit(
            self.options.engine, self.target.open_model(), device=self.device, engine_args=self.options.engine_args
        )

    def _encoder(self) -> PromptEncoder:
        if self._endpoint is not None:
            return _EstimatedTokens(self._endpoint)
        from eval.engines import open_encoder

        return open_encoder(self.target.open_model())


class _EstimatedTokens:
    """Prompts of an endpoint, whose tokenizer is not here: two bytes a token, where texts have three or four."""

    def __init__(self, endpoint: OpenAiSampler) -> None:
        self._endpoint = endpoint

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return self._endpoint.encode(messages)[::2]

    def encode_text(self, text: str) -> tuple[int, ...]:
        return self._endpoint.encode_text(text)[::2]


def choose_engine(options: EngineOptions, model: str, runs: Store, *, cache_folder: Path) -> ChosenEngine:
    """Find what a model's name stands for under an engine; an endpoint is asked, a model is not loaded yet.

    Raises:
        OrchError: no such model or endpoint, or options that the engine does not take.
    """
    from eval.engines import check_options, open_endpoint
    from eval.engines.endpoint import Deadlines
    from eval.errors import OrchError
    from orchestrator.evaluations.targets import endpoint_target, known_endpoints, resolve_target

    check_options(options.engine, tensor_parallel=options.tensor_parallel, engine_args=options.engine_args)
    if options.engine != "openai":
        target = resolve_target(model, runs, cache_folder=cache_folder, on_bytes=reading)
        return ChosenEngine(options=options, target=target)
    if options.base_url is None:
        raise OrchError("the engine `openai` needs an endpoint", fix="--base-url http://host:port/v1")
    deadlines = Deadlines(read_s=options.read_timeout_s, total_s=options.total_timeout_s)
    sampler = open_endpoint(model, base_url=options.base_url, deadlines=deadlines, known=known_endpoints(runs))
    return ChosenEngine(options=options, target=endpoint_target(sampler.fingerprint, runs), _endpoint=sampler)
