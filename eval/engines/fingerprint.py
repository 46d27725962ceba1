"""By what a model behind an endpoint is recognised: its server's listing and version, and ten greedy answers.

The weights behind a URL and a name cannot be seen. Answers to ten fixed prompts differ for other weights nearly
always, so samples of one are not served as those of another. Servers round as their load has it, and one answer may
turn for that alone; so a model that was met before is asked again where it differs in a few, and is the same if each of
them comes out as it did.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

log = logging.getLogger(__name__)

PROMPTS = (
    "What is 17 * 23? Let me compute it step by step.",
    "The derivative of x**3 * sin(x) with respect to x is",
    "List the first ten prime numbers:",
    "Question: A train covers 180 km in 2.5 hours. What is its speed?\nAnswer:",
    "def fibonacci(n):",
    "In 1969, the first person to walk on the Moon was",
    "Translate to French: The weather is beautiful today.",
    "Solve for x: 3x + 7 = 31. Therefore x =",
    "The opposite of 'generous' is",
    "Once upon a time, in a village by the sea,",
)
NUM_TOKENS = 24
MOST_UNSTEADY = 3
"""Answers that may differ at first; a model that differs in more is another one, without asking again."""
NUM_ASKED_AGAIN = 2
LISTED = ("id", "root", "parent", "owned_by", "max_model_len")
"""What of a server's listing stays the same from call to call; vLLM stamps the rest with time and chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A model behind an endpoint, as it was met."""

    base_url: str
    model: str
    """What the endpoint calls it."""
    listing: dict[str, str | int | None]
    """The server's entry of the model, by `LISTED`."""
    version: str | None
    """The server's, where it tells."""
    answers: tuple[str, ...]
    """Greedy answers to `PROMPTS`; empty where the server answers none of them."""

    @property
    def digest(self) -> str:
        """What stands for the model in ids and sample keys."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def former_digest(self) -> str:
        """What earlier versions called it: URL and name alone."""
        return hashlib.sha256(f"{self.base_url} {self.model}".encode()).hexdigest()


def recognise(met: Fingerprint, known: Sequence[Fingerprint], ask: Callable[[int], str]) -> Fingerprint:
    """Return the one of `known` that the model is, or `met` where it is none of them.

    Args:
        met: the model as it answered now.
        known: models that were met before, of whatever endpoints.
        ask: asks the model for its answer to a prompt again, by the prompt's place in `PROMPTS`.
    """
    before = [one for one in known if (one.base_url, one.model) == (met.base_url, met.model)]
    for one in before:
        if (one.listing, one.version) == (met.listing, met.version) and _answers_alike(one, met, ask):
            return one
    if before:
        log.warning(
            "%s at %s is not the model that was evaluated under this name before: %s; its samples are kept apart",
            met.model,
            met.base_url,
            _difference(before[-1], met),
        )
    return met


def _answers_alike(known: Fingerprint, met: Fingerprint, ask: Callable[[int], str]) -> bool:
    if len(known.answers) != len(met.answers):
        return False
    differing = _differing(known, met)
    if len(differing) > MOST_UNSTEADY:
        return False
    return all(any(ask(place) == known.answers[place] for _ in range(NUM_ASKED_AGAIN)) for place in differing)


def _differing(known: Fingerprint, met: Fingerprint) -> list[int]:
    return [place for place, pair in enumerate(zip(known.answers, met.answers, strict=True)) if pair[0] != pair[1]]


def _difference(known: Fingerprint, met: Fingerprint) -> str:
    if known.listing != met.listing:
        return "the server lists it otherwise"
    if known.version != met.version:
        return f"the server's version is {met.version}, it was {known.version}"
    if len(known.answers) != len(met.answers):
        return "it answers other prompts than before"
    return f"it answers {len(_differing(known, met))} of {len(PROMPTS)} fixed prompts otherwise"
