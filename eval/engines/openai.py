"""Any endpoint that speaks OpenAI's completions or chat API: bounded concurrency, one request a sample, no SDK.

Prompts leave as they are rendered: a chat as messages, a raw template as text. There is no tokenizer here, so "tokens"
of a prompt are the bytes of its canonical text: they serve as the key of the sample store, and are sent as text.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx

from eval.api import Batch, Completion, SampleRequest, SamplingSettings
from eval.engines.endpoint import Deadlines, Endpoint, Refused, RequestFailed
from eval.engines.fingerprint import LISTED, NUM_TOKENS, PROMPTS, Fingerprint, recognise
from eval.engines.stream import Draw, draws, one_by_one
from eval.errors import EndpointError, EngineError

log = logging.getLogger(__name__)

MAX_CONCURRENT = 64
MAX_FAILED_IN_A_ROW = 8
"""Samples that fail with no other answered between them: then it is the endpoint that fails, and not the samples."""
FINGERPRINT_READ_S = 60.0
QUIET_S = 60.0
"""Silence of all requests after which a line says so."""
_SEED_MODULUS = 2**31
"""Endpoints take 32-bit seeds at least; not all take more."""

Arrived = queue.SimpleQueue[Completion | BaseException | None]


def open_openai_sampler(
    model: str,
    *,
    base_url: str,
    api_key: str | None = None,
    max_concurrent: int = MAX_CONCURRENT,
    deadlines: Deadlines | None = None,
    known: Sequence[Fingerprint] = (),
) -> OpenAiSampler:
    """Connect to an endpoint and check that it answers and serves the model.

    Args:
        model: the name that the endpoint gives the model.
        base_url: up to and with `/v1`.
        api_key: sent as bearer token; OPENAI_API_KEY without it.
        max_concurrent: requests under way at once.
        deadlines: how long is waited for answers.
        known: models behind endpoints that were met before, one of which this one may be.

    Raises:
        EndpointError: unreachable, no permission, or the model is not served.
    """
    headers = {"Authorization": f"Bearer {api_key or os.environ.get('OPENAI_API_KEY', 'none')}"}
    wait, url = deadlines or Deadlines(), base_url.rstrip("/")
    try:
        answer = httpx.get(f"{url}/models", headers=headers, timeout=wait.connect_s)
        answer.raise_for_status()
        served = {entry["id"]: entry for entry in answer.json()["data"]}
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
    listing = {name: served[model].get(name) for name in LISTED}
    return OpenAiSampler(
        model,
        base_url=url,
        headers=headers,
        max_concurrent=max_concurrent,
        deadlines=wait,
        listing=listing,
        known=known,
    )


class OpenAiSampler:
    """A `Sampler` over an endpoint."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        headers: dict[str, str],
        max_concurrent: int,
        deadlines: Deadlines,
        listing: dict[str, str | int | None],
        known: Sequence[Fingerprint],
    ) -> None:
        """Wrap an endpoint that was found to answer."""
        self._model, self._base_url, self._headers = model, base_url, headers
        self._max_concurrent, self._deadlines = max_concurrent, deadlines
        self._listing, self._known = listing, known
        self._endpoint = Endpoint(base_url, headers=headers, deadlines=deadlines)

    @property
    def name(self) -> str:
        """Engine and endpoint."""
        return f"openai {self._base_url}"

    @property
    def context(self) -> int | None:
        """Most tokens of a prompt with its response, where the server tells."""
        told = self._listing.get("max_model_len")
        return told if isinstance(told, int) else None

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """By what the model is recognised; asks the endpoint ten short questions, once."""
        met = Fingerprint(
            base_url=self._base_url,
            model=self._model,
            listing=self._listing,
            version=self._version(),
            answers=self._greedy_answers(range(len(PROMPTS))),
        )
        return recognise(met, self._known, lambda place: "".join(self._greedy_answers([place])))

    @property
    def model_digest(self) -> str:
        """What stands for the weights behind the endpoint, which cannot be seen from here: `Fingerprint.digest`."""
        return self.fingerprint.digest

    @property
    def former_digest(self) -> str:
        """What earlier versions called the model: URL and name alone."""
        return self.fingerprint.former_digest

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

        A request that stays unanswered while others are answered comes as a completion that failed.

        Raises:
            EngineError: the endpoint refuses a request, is away for too long, or fails request after request; what
                came before has been yielded.
        """
        arrived: Arrived = queue.SimpleQueue()
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
            while (item := self._next(arrived)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Nothing is held between calls."""

    def _next(self, arrived: Arrived) -> Completion | BaseException | None:
        """Wait for what arrives next; a long silence is not left without a word."""
        started = time.monotonic()
        while True:
            try:
                return arrived.get(timeout=QUIET_S)
            except queue.Empty:
                log.warning(
                    "%s: no answer for %.0f s; a request is given up after %.0f s of silence and sent again",
                    self._base_url,
                    time.monotonic() - started,
                    self._deadlines.read_s,
                )

    async def _send_all(self, batches: Iterable[Batch], arrived: Arrived, stop: threading.Event) -> None:
        waiting, failing = draws(batches), _Failing(arrived, self._base_url)
        async with self._endpoint.client(max_connections=self._max_concurrent) as client:

            async def serve() -> None:
                # Each worker takes the next request when it is free: no batch waits for its slowest member.
                for draw in waiting:
                    try:
                        answered = await self._send(client, draw)
                    except RequestFailed as failure:
                        failing.add(draw.request, str(failure))
                        continue
                    failing.release()
                    arrived.put(answered)

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
        failing.release()

    async def _send(self, client: httpx.AsyncClient, draw: Draw) -> Completion:
        request, settings = draw
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
        return await self._endpoint.post(client, path, body, functools.partial(_completion, request))

    def _version(self) -> str | None:
        """The server's version where it tells, as vLLM does beside /v1."""
        url = f"{self._base_url.removesuffix('/v1')}/version"
        with contextlib.suppress(httpx.HTTPError, ValueError, AttributeError):
            answer = httpx.get(url, headers=self._headers, timeout=self._deadlines.connect_s)
            told = answer.json().get("version") if answer.is_success else None
            return None if told is None else str(told)
        return None

    def _greedy_answers(self, places: Sequence[int]) -> tuple[str, ...]:
        """Answers to fixed prompts, one after the other: what is decoded together moves the last bits.

        As texts where the server takes them, else as chats; none where it takes neither.
        """
        wait = replace(self._deadlines, read_s=min(FINGERPRINT_READ_S, self._deadlines.read_s))
        endpoint = Endpoint(self._base_url, headers=self._headers, deadlines=wait)
        settings = {"model": self._model, "temperature": 0, "max_tokens": NUM_TOKENS, "seed": 0}

        async def ask(path: str, prompts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
            async with endpoint.client(max_connections=1) as client:
                return tuple([await endpoint.post(client, path, one | settings, _greedy_text) for one in prompts])

        texts = [PROMPTS[place] for place in places]
        chats = [{"messages": [{"role": "user", "content": text}]} for text in texts]
        with contextlib.suppress(RequestFailed, Refused):
            return asyncio.run(ask("/completions", [{"prompt": text} for text in texts]))
        with contextlib.suppress(RequestFailed, Refused):
            return asyncio.run(ask("/chat/completions", chats))
        log.warning("%s answers no fixed prompts: it is known by its URL, name, listing and version", self._base_url)
        return ()


class _Failing:
    """Samples that failed since the endpoint last answered one: not passed on until it does, or the work ends."""

    def __init__(self, arrived: Arrived, base_url: str) -> None:
        self._arrived, self._base_url = arrived, base_url
        self._held: list[Completion] = []

    def add(self, request: SampleRequest, reason: str) -> None:
        log.warning("%s, sample %d failed in %s", request.problem_id, request.index, reason)
        self._held.append(
            Completion(
                problem_id=request.problem_id, index=request.index, text="", num_tokens=0, finish_reason="failed"
            )
        )
        if len(self._held) >= MAX_FAILED_IN_A_ROW:
            raise EngineError(
                f"the endpoint failed {len(self._held)} samples in a row, the last one in {reason}",
                where=self._base_url,
                fix="run the same command again when it is well; samples already drawn are kept",
            )

    def release(self) -> None:
        for one in self._held:
            self._arrived.put(one)
        self._held.clear()


def _completion(request: SampleRequest, answer: Any) -> Completion:
    choice = answer["choices"][0]
    text, is_reasoning = _text(choice)
    used = (answer.get("usage") or {}).get("completion_tokens")
    return Completion(
        problem_id=request.problem_id,
        index=request.index,
        text=text,
        num_tokens=int(used) if used is not None else len(text.split()),
        finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
        is_reasoning=is_reasoning,
    )


def _greedy_text(answer: Any) -> str:
    return _text(answer["choices"][0])[0]


def _text(choice: dict[str, Any]) -> tuple[str, bool]:
    """Return what is graded of a choice, and whether it is the reasoning.

    The content, where there is any. A server that parts reasoning from content leaves the content null where the
    response ended within the reasoning, or was taken for it as a whole; then the reasoning is what the model wrote.
    """
    if "message" not in choice:
        return _checked(choice["text"]), False
    message = choice["message"]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content") if reasoning else message["content"]
    if not content and reasoning:
        return _checked(reasoning), True
    return _checked(content or ""), False


def _checked(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a text is wanted, not {type(text).__name__}")
    return text
