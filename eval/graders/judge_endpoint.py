"""Asks a judge: one chat request at temperature 0, with deadlines, tried again where that can help."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from eval.engines.endpoint import LONGEST_DELAY_S, REQUESTS_TROUBLE, SERVERS_TROUBLE, backoff_s, retry_after_s
from eval.errors import EndpointError, EngineError

MAX_TRIES = 5
CONNECT_LIMIT_S = 10.0
READ_LIMIT_S = 120.0
"""Silence of an endpoint that is thinking."""
_RETRIED_STATUS = SERVERS_TROUBLE | REQUESTS_TROUBLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


class JudgeEndpoint:
    """A connection to an OpenAI-compatible endpoint, shared by threads."""

    def __init__(self, base_url: str, *, api_key: str | None) -> None:
        """Prepare the connection; nothing is sent yet."""
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key or os.environ.get('OPENAI_API_KEY', 'none')}"},
            timeout=httpx.Timeout(READ_LIMIT_S, connect=CONNECT_LIMIT_S),
        )

    def __enter__(self) -> JudgeEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, prompt: str, *, model: str, max_new_tokens: int) -> Reply:
        """Return the reply to a prompt.

        Raises:
            EndpointError: the endpoint refuses the request.
            EngineError: it failed several times in a row.
        """
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": max_new_tokens,
        }
        reason = ""
        for num_tries in range(1, MAX_TRIES + 1):
            try:
                answer = self._client.post(self._url, json=body)
            except httpx.InvalidURL as error:
                raise EndpointError(
                    f"no URL: {error}", where=self._url, fix="--judge-url http://host:port/v1"
                ) from error
            except httpx.HTTPError as error:
                reason, asked_s = f"{type(error).__name__}: {error}", None
            else:
                if answer.is_error and answer.status_code not in _RETRIED_STATUS:
                    raise EndpointError(
                        f"the judge refuses a request: status {answer.status_code}: {answer.text[:300]}",
                        where=self._url,
                        fix="check --judge-model, --judge-url (up to /v1) and OPENAI_API_KEY",
                    )
                reply = None if answer.is_error else _reply(answer)
                if reply is not None:
                    return reply
                reason, asked_s = f"status {answer.status_code}: {answer.text[:200]}", retry_after_s(answer)
            if num_tries < MAX_TRIES:
                time.sleep(backoff_s(num_tries) if asked_s is None else min(asked_s, LONGEST_DELAY_S))
        raise EngineError(
            f"the judge failed {MAX_TRIES} times in a row: {reason}",
            where=self._url,
            fix="run the same command again when it is well; verdicts already given are kept",
        )


def _reply(answer: httpx.Response) -> Reply | None:
    """Return what an answer says; None where it is no chat completion."""
    try:
        data: Any = answer.json()
        text = data["choices"][0]["message"]["content"]
        used = data.get("usage") or {}
        tokens = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
        counts = [None if count is None else int(count) for count in tokens]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    # Nothing but reasoning, cut off: a reply without a verdict.
    return Reply(text=text if isinstance(text, str) else "", prompt_tokens=counts[0], completion_tokens=counts[1])
