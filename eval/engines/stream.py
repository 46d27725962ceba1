"""One queue for all benchmarks: batches of any settings go to an engine together, the longest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from eval.api import Batch, Completion, Sampler, SampleRequest, SamplingSettings, StreamSampler


class Draw(NamedTuple):
    """A request and how it is drawn: what the queue of an engine holds."""

    request: SampleRequest
    settings: SamplingSettings


def sample_all(sampler: Sampler, batches: Sequence[Batch]) -> Iterator[Completion]:
    """Yield the completion of every request as it finishes, in any order.

    An engine with a queue gets all batches as one stream, so that the long completions of one benchmark overlap with
    the next; another one gets them one by one.
    """
    ordered = longest_first(batches)
    if isinstance(sampler, StreamSampler):
        yield from sampler.sample_stream(ordered)
        return
    for batch in ordered:
        yield from sampler.sample(batch.requests, batch.settings)


def longest_first(batches: Sequence[Batch]) -> list[Batch]:
    """Order by the context that a batch may need: tails overlap, and a misfit shows before anything is drawn.

    Samples of one question stay together, for the cache of their prompt.
    """
    return sorted(batches, key=lambda batch: -context_tokens(batch))


def context_tokens(batch: Batch) -> int:
    """Tokens of the longest prompt and of the longest response allowed."""
    return max(len(request.prompt_tokens) for request in batch.requests) + batch.settings.max_new_tokens


def one_by_one(requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Batch]:
    """Return a batch for each request: an engine with a queue decides itself what it decodes together."""
    return [Batch(requests=(request,), settings=settings) for request in requests]


def draws(batches: Iterable[Batch]) -> Iterator[Draw]:
    """Yield the requests of batches one by one."""
    return (Draw(request, batch.settings) for batch in batches for request in batch.requests)
