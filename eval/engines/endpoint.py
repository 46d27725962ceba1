"""One request to an OpenAI-compatible server, until it is answered: deadlines, and what is tried again for how long.

Trouble is either the server's (not reachable, busy, over its rate: it passes, and nothing is wrong with the request) or
the request's (a broken answer, an error of the server's own, silence). The server's is waited out for `patience_s`;
the request's is tried again a few times and then costs that request alone:

    answer ──ok──▶ parsed
      │ 429, 503, refused …      wait as Retry-After or the back-off says; EngineError after `patience_s`
      │ 500, broken, cut, silent try again; RequestFailed after MAX_TRIES (MAX_STALLS of silence)
      └ 400, 401, 404 …          EngineError at once: no other try would fare better
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from eval.errors import EngineError

log = logging.getLogger(__name__)

MAX_TRIES = 6
MAX_STALLS = 3
"""Tries that may end in silence: each costs a whole deadline."""
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
LONGEST_RETRY_AFTER_S = 600.0
"""A server that asks for more ends the evaluation, which can go on another day."""

SERVERS_TROUBLE = frozenset((408, 409, 425, 429, 503))
REQUESTS_TROUBLE = frozenset((500, 502, 504))
_UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What parsing an answer raises that is no completion."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long an endpoint may take. Answers come whole: silence lasts as long as the longest completion takes."""

    connect_s: float = 10.0
    read_s: float = 600.0
    """Silence of the server, before its answer and within it."""
    total_s: float = 3600.0
    """One try from its first to its last byte."""
    patience_s: float = 300.0
    """How long a server may be away or busy before the evaluation ends."""


class Refused(EngineError):
    """The endpoint works, and will not answer such a request: wrong path, no permission, too long."""


class RequestFailed(Exception):
    """The endpoint works, but this request was not answered in all its tries."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    reason: str
    is_servers: bool
    is_stall: bool = False
    retry_after_s: float | None = None


class Endpoint:
    """Where requests are sent, and how long is waited for them."""

    def __init__(self, base_url: str, *, headers: dict[str, str], deadlines: Deadlines) -> None:
        """Nothing is sent yet.

        Args:
            base_url: up to and with `/v1`, without a slash at the end.
            headers: of every request.
            deadlines: how long is waited.
        """
        self.base_url, self._headers, self._deadlines = base_url, headers, deadlines

    def client(self, *, max_connections: int) -> httpx.AsyncClient:
        """Return the connections to the server, to be closed by the caller."""
        wait = self._deadlines
        return httpx.AsyncClient(
            headers=self._headers,
            limits=httpx.Limits(max_connections=max_connections),
            # Waiting for a free connection is our own doing, and no silence of the server.
            timeout=httpx.Timeout(wait.read_s, connect=wait.connect_s, pool=None),
        )

    async def post(
        self, client: httpx.AsyncClient, path: str, body: dict[str, Any], parse: Callable[[Any], Parsed]
    ) -> Parsed:
        """Send a request until it is answered, and return what `parse` makes of the answer's JSON.

        Args:
            client: of `client`.
            path: from the base URL on.
            body: sent as JSON.
            parse: raises KeyError, IndexError, TypeError or ValueError for an answer that is none.

        Raises:
            RequestFailed: broken answers, errors or silence, each time.
            Refused: the server refuses the request.
            EngineError: it is away or busy for too long.
        """
        url, num_tries, num_stalls = self.base_url + path, 0, 0
        give_up_at = time.monotonic() + self._deadlines.patience_s
        while True:
            found = await self._try(client, url, body, parse)
            if not isinstance(found, _Trouble):
                return found
            num_tries += 1
            num_stalls += found.is_stall
            delay_s = backoff_s(num_tries)
            if found.is_servers:
                if found.retry_after_s is not None:
                    delay_s = found.retry_after_s
                    give_up_at += delay_s  # what it asked for is not held against it
                self._check_patience(found, url, num_tries, give_up_at)
            elif num_tries >= MAX_TRIES or num_stalls >= MAX_STALLS:
                raise RequestFailed(f"{num_tries} tries: {found.reason}")
            if found.is_stall or num_tries == 3:
                log.warning("%s: %s; asking again", url, found.reason)
            await asyncio.sleep(delay_s)

    async def _try(
        self, client: httpx.AsyncClient, url: str, body: dict[str, Any], parse: Callable[[Any], Parsed]
    ) -> Parsed | _Trouble:
        try:
            async with asyncio.timeout(self._deadlines.total_s):
                answer = await client.post(url, json=body)
        except _UNREACHABLE as error:
            return _Trouble(f"not reachable: {error or type(error).__name__}", is_servers=True)
        except httpx.TimeoutException:
            return _Trouble(f"silent for {self._deadlines.read_s:g} s", is_servers=False, is_stall=True)
        except TimeoutError:
            return _Trouble(f"not done after {self._deadlines.total_s:g} s", is_servers=False, is_stall=True)
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _Trouble(f"the answer was cut off: {error or type(error).__name__}", is_servers=False)
        shown = f"status {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in SERVERS_TROUBLE:
            return _Trouble(shown, is_servers=True, retry_after_s=retry_after_s(answer))
        if answer.status_code in REQUESTS_TROUBLE:
            return _Trouble(shown, is_servers=False)
        if not answer.is_success:
            raise Refused(f"the endpoint refuses a request: {shown}", where=url, fix=_fix(answer))
        try:
            return parse(answer.json())
        except _BROKEN:
            return _Trouble(f"no completion in the answer: {answer.text[:200]!r}", is_servers=False)

    def _check_patience(self, trouble: _Trouble, url: str, num_tries: int, give_up_at: float) -> None:
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > LONGEST_RETRY_AFTER_S:
            what = f"the endpoint asks to come back in {asked_s:.0f} s: {trouble.reason}"
        elif num_tries >= MAX_TRIES and time.monotonic() > give_up_at:
            what = f"the endpoint failed {num_tries} times in a row: {trouble.reason}"
        else:
            return
        raise EngineError(
            what, where=url, fix="run the same command again when it is well; samples already drawn are kept"
        )


def backoff_s(num_tries: int) -> float:
    """Exponential back-off with jitter, so that many requests do not come back together."""
    delay_s: float = FIRST_DELAY_S * 2 ** min(num_tries - 1, 16)
    return min(LONGEST_DELAY_S, delay_s) * random.uniform(0.5, 1.0)


def retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds to wait as the server says, which may give them as a number or as a date; None where it says nothing."""
    asked = answer.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None


def _fix(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return "set OPENAI_API_KEY"
    if "system" in answer.text.lower():
        return "the model's chat template takes no system turn: choose the template `ict` or `chat`"
    return "check --max-new-tokens, --template and the model's context; samples already drawn are kept"
