"""Fixed batches: the unit that an evaluation draws, stores and goes on from.

The last bits of a sample depend on what it is computed with: kernels order their sums by the number of rows, by padding
and by threads. So the wanted samples are cut into batches by settings and prompts alone, never by what is stored:

                     samples 0–7     samples 8–15
    questions 0–39   batch 0         batch 1         ← prompts of similar length, in the order of the benchmark
    questions 40–…   batch 2         batch 3

A batch of which something is missing is drawn again as a whole, with the companions and the padding that it had the
first time, and comes out as it did. A larger K, from one multiple of `INDEX_BLOCK` to another, only adds batches; more
questions add batches and complete the last one of each length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval.api import Batch, SampleRequest, SamplingSettings

BATCH_TOKENS = 1 << 19
"""Most tokens of prompts and responses in a batch, hence the work that a kill can cost: half a minute of an engine that
decodes 20,000 tokens a second. Smaller batches would leave a device idle while their last responses end."""
INDEX_BLOCK = 8
"""Samples of one question in a batch, which share the cache of its prompt."""
_SHORTEST_LENGTH, _LENGTH_RATIO = 64, 4
"""Prompts of up to 64, 256, 1,024 … tokens: within a ratio, they need little padding and still fill batches."""


def partition(requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Batch]:
    """Return the batches that all wanted requests fall into, each request in one.

    Args:
        requests: samples 0 to K − 1 of every question, in the order of questions and samples.
        settings: how they are drawn, with K.
    """
    questions_of: dict[int, dict[str, list[SampleRequest]]] = {}
    for request in requests:
        questions = questions_of.setdefault(_length_bound(len(request.prompt_tokens)), {})
        questions.setdefault(request.problem_id, []).append(request)
    batches = []
    for length, questions in questions_of.items():
        for block in _blocks(list(questions.values()), length, settings):
            for first in range(0, settings.num_samples, INDEX_BLOCK):
                drawn = tuple(request for samples in block for request in samples[first : first + INDEX_BLOCK])
                batches.append(Batch(requests=drawn, settings=settings))
    return batches


def _length_bound(num_tokens: int) -> int:
    bound = _SHORTEST_LENGTH
    while bound < num_tokens:
        bound *= _LENGTH_RATIO
    return bound


def _blocks(
    questions: list[list[SampleRequest]], length: int, settings: SamplingSettings
) -> Iterator[list[list[SampleRequest]]]:
    """Cut questions so that a block of their samples stays below `BATCH_TOKENS`."""
    tokens = min(settings.num_samples, INDEX_BLOCK) * (length + settings.max_new_tokens)
    size = max(1, BATCH_TOKENS // tokens)
    return (questions[start : start + size] for start in range(0, len(questions), size))
