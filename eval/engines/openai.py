"""Any endpoint that speaks OpenAI's completions or chat API: bounded concurrency, retries with back-off, no SDK.

Prompts leave as they are rendered: a chat as messages, a raw template as text. There is no tokenizer here, so "tokens"
of a prompt are the bytes of its canonical text: they serve as the key of the sample store, and are sent as text.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpx

from eval.api import Batch, Completion, SampleRequest, SamplingSettings
from eval.engines.stream import draws, one_by_one
from eval.errors import EndpointError, EngineError

MAX_CONCURRENT = 64
MAX_TRIES = 6
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
CONNECT_LIMIT_S = 10.0
RETRIED_STATUS = frozenset((408, 409, 425, 429, 500, 502, 503, 504))

_SEED_MODULUS = 2**31
"""Endpoints take 32-bit seeds at least; not all take more."""


def open_openai_sampler(
    model: str, *, base_url: str, api_key: str | None = None, max_concurrent: int = MAX_CONCURRENT
) -> OpenAiSampler:
    """Connect to an endpoint and check that it answers and serves the model.

    Args:
        model: the name that the endpoint gives the model.
        base_url: up to and with `/v1`.
        api_key: sent as bearer token; OPENAI_API_KEY without it.
        max_concurrent: requests under way at once.

    Raises:
        EndpointError: unreachable, no permission, or the model is not served.
    """
    headers = {"Authorization": f"Bearer {api_key or os.environ.get('OPENAI_API_KEY', 'none')}"}
    try:
        answer = httpx.get(f"{base_url.rstrip('/')}/models", headers=headers, timeout=CONNECT_LIMIT_S)
        answer.raise_for_status()
        served = [entry["id"] for entry in answer.json()["data"]]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise EndpointError(
            f"the endpoint does not answer: {error or type(error).__name__}",
            where=base_url,
            fix="check --base-url (up to /v1), OPENAI_API_KEY, and that the server is up",
        ) from error
    if model not in served:
        raise EndpointError(
            f"the endpoint does not serve {model!r}",
            where=base_url,
            fix=f"it serves: {', '.join(served) or 'nothing'}",
        )
    return OpenAiSampler(model, base_url=base_url.rstrip("/"), headers=headers, max_concurrent=max_concurrent)


class OpenAiSampler:
    """A `Sampler` over an endpoint."""

    def __init__(self, model: str, *, base_url: str, headers: dict[str, str], max_concurrent: int) -> None:
        """Wrap an endpoint that was found to answer."""
        self._model, self._base_url, self._headers = model, base_url, headers
        self._max_concurrent = max_concurrent

    @property
    def name(self) -> str:
        """Engine and endpoint."""
        return f"openai {self._base_url}"

    @property
    def model_digest(self) -> str:
        """The endpoint and the model's name: the weights behind them cannot be seen from here."""
        return hashlib.sha256(f"{self._base_url} {self._model}".encode()).hexdigest()

    @property
    def keeps_batches(self) -> bool:
        """No: what the endpoint decodes together is its own matter."""
        return False

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Return the bytes of the chat's canonical JSON."""
        return tuple(json.dumps({"messages": list(messages)}, ensure_ascii=False).encode())

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the bytes of the prompt's canonical JSON."""
        return tuple(json.dumps({"prompt": text}, ensure_ascii=False).encode())

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they arrive: `sample_stream` under one set of settings."""
        return self.sample_stream(one_by_one(requests, settings))

    def sample_stream(self, batches: Iterable[Batch]) -> Iterator[Completion]:
        """Yield completions as they arrive; a loop in a thread of its own sends the requests.

        Raises:
            EngineError: a request failed for good; what came before has been yielded.
        """
        arrived: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            try:
                asyncio.run(self._send_all(batches, arrived, stop))
                arrived.put(None)
            except BaseException as error:  # re-raised by the reader
                arrived.put(error)

        thread = threading.Thread(target=work, name="openai-sampler", daemon=True)
        thread.start()
        try:
            while (item := arrived.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _send_all(
        self,
        batches: Iterable[Batch],
        arrived: queue.SimpleQueue[Completion | BaseException | None],
        stop: threading.Event,
    ) -> None:
        waiting = draws(batches)
        limits = httpx.Limits(max_connections=self._max_concurrent)
        timeout = httpx.Timeout(None, connect=CONNECT_LIMIT_S)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=timeout) as client:

            async def serve() -> None:
                # Each worker takes the next request when it is free: no batch waits for its slowest member.
                for draw in waiting:
                    arrived.put(await self._send(client, draw.request, draw.settings))

            workers = {asyncio.create_task(serve()) for _ in range(self._max_concurrent)}
            pending = workers
            while pending and not stop.is_set():
                done, pending = await asyncio.wait(pending, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
                if any(worker.exception() for worker in done):
                    break
            for worker in pending:
                worker.cancel()
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        failures = [one for one in outcomes if isinstance(one, Exception)]
        if failures:
            raise failures[0]

    async def _send(self, client: httpx.AsyncClient, request: SampleRequest, settings: SamplingSettings) -> Completion:
        prompt = json.loads(bytes(request.prompt_tokens))
        path = "/chat/completions" if "messages" in prompt else "/completions"
        body = prompt | {
            "model": self._model,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "seed": request.seed % _SEED_MODULUS,
            **({"stop": list(settings.stop)} if settings.stop else {}),
        }
        answer = await self._post(client, self._base_url + path, body)
        try:
            return _completion(request, answer)
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(
                f"the endpoint's answer has no completion: {json.dumps(answer)[:200]}", where=self._base_url + path
            ) from error

    async def _post(self, client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> dict[str, Any]:
        reason = ""
        for attempt in range(MAX_TRIES):
            if attempt:
                await asyncio.sleep(_delay_s(attempt))
            try:
                answer = await client.post(url, json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code in RETRIED_STATUS:
                reason = f"status {answer.status_code}: {answer.text[:200]}"
                continue
            if answer.is_error:
                raise EngineError(
                    f"the endpoint refuses a request: status {answer.status_code}: {answer.text[:300]}", where=url
                )
            try:
                parsed: dict[str, Any] = answer.json()
            except ValueError as error:
                raise EngineError(f"the endpoint's answer is not JSON: {answer.text[:200]}", where=url) from error
            return parsed
        raise EngineError(
            f"the endpoint failed {MAX_TRIES} times in a row: {reason}",
            where=url,
            fix="run the same command again when it is well; samples already drawn are kept",
        )


def _delay_s(attempt: int) -> float:
    """Exponential back-off with jitter, so that many workers do not come back together."""
    delay_s: float = FIRST_DELAY_S * 2 ** (attempt - 1)
    return min(LONGEST_DELAY_S, delay_s) * random.uniform(0.5, 1.0)


def _completion(request: SampleRequest, answer: dict[str, Any]) -> Completion:
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    used = (answer.get("usage") or {}).get("completion_tokens")
    return Completion(
        problem_id=request.problem_id,
        index=request.index,
        text=text or "",
        num_tokens=int(used) if used is not None else len((text or "").split()),
        finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
    )
