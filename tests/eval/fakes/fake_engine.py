"""Engines that cost nothing, in a file of its own because a gang's processes import it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eval.api import Batch, Completion, Sampler, SampleRequest, SamplingSettings
from eval.errors import ModelError


@dataclass
class Worker:
    """An engine that says in which process it answered; some prompts make it slow, fail or die."""

    has_context: int = 10
    name: str = "fake 1"
    model_digest: str = "m"
    keeps_batches: bool = True

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return tuple(messages[0]["content"].encode())

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        for request in requests:
            prompt = bytes(request.prompt_tokens)
            if len(prompt) > self.has_context:
                raise ModelError("too long")
            if prompt == b"die":
                os._exit(7)
            if prompt == b"bug":
                raise KeyError("what")
            time.sleep(0.2 if prompt == b"slow" else 0.0)
            yield Completion(
                problem_id=request.problem_id,
                index=request.index,
                text=f"{settings.max_new_tokens} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}",
                num_tokens=1,
                finish_reason="stop",
            )

    def close(self) -> None:
        pass


@dataclass
class StreamWorker(Worker):
    keeps_batches: bool = False

    def sample_stream(self, batches: Iterable[Batch]) -> Iterator[Completion]:
        for batch in batches:
            yield from self.sample(batch.requests, batch.settings)


def no_engine() -> Sampler:
    raise ModelError("no such model", where="here", fix="another")
