"""One queue for all benchmarks: draws of any settings go to an engine together, the longest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from eval.api import Completion, Draw, Sampler, SampleRequest, SamplingSettings, StreamSampler


def sample_all(sampler: Sampler, draws: Sequence[Draw]) -> Iterator[Completion]:
    """Yield the completion of every draw as it finishes, in any order.

    An engine with a queue gets all draws as one stream, so that the long completions of one benchmark overlap with the
    next; another one gets them settings by settings.
    """
    ordered = longest_first(draws)
    if isinstance(sampler, StreamSampler):
        yield from sampler.sample_stream(ordered)
        return
    for settings, requests in by_settings(ordered).items():
        yield from sampler.sample(requests, settings)


def longest_first(draws: Sequence[Draw]) -> list[Draw]:
    """Order by the context that a draw may need: tails overlap, and a misfit shows before anything is drawn.

    Samples of one question stay together, for the cache of their prompt.
    """
    return sorted(draws, key=lambda draw: -context_tokens(draw))


def context_tokens(draw: Draw) -> int:
    """Tokens of the prompt and of the longest response allowed."""
    return len(draw.request.prompt_tokens) + draw.settings.max_new_tokens


def by_settings(draws: Sequence[Draw]) -> dict[SamplingSettings, list[SampleRequest]]:
    """Group requests that may be drawn in one call: how many samples a question has does not part them."""
    groups: dict[SamplingSettings, list[SampleRequest]] = {}
    for draw in draws:
        groups.setdefault(replace(draw.settings, num_samples=1), []).append(draw.request)
    return groups
