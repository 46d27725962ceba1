"""Batches are a matter of settings and prompts alone, and an evaluation of them ends alike however it was interrupted.

The sampler here answers by everything that stands in its batch: a companion more, less or elsewhere shows in each text.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval import batches as module
from eval.api import Completion, SampleRequest, SamplingSettings
from eval.batches import BATCH_TOKENS, INDEX_BLOCK, partition
from eval.runner import evaluate
from eval.samples import FILE, read_samples

SETTINGS = SamplingSettings(num_samples=16, temperature=1.0, max_new_tokens=1000, template="plain")
SHORT, LONG = 3, 200


class Killed(Exception):
    pass


@dataclass
class Companions:
    """Answers with a digest of the whole batch, its order and the row's own place, in an order of its own."""

    answers_left: int = 10**9
    asked: list[tuple[tuple[str, int], ...]] = field(default_factory=list)
    name: str = "companions 1"
    model_digest: str = "m"
    keeps_batches: bool = True

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        return self.encode_text(messages[-1]["content"])

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        self.asked.append(tuple((one.problem_id, one.index) for one in requests))
        together = repr([(one.problem_id, one.index, one.seed) for one in requests])
        for one in sorted(requests, key=lambda one: one.seed):
            if self.answers_left == 0:
                raise Killed
            self.answers_left -= 1
            text = hashlib.sha256(f"{together} {one.seed}".encode()).hexdigest()
            yield Completion(
                problem_id=one.problem_id, index=one.index, text=text, num_tokens=len(text), finish_reason="stop"
            )

    def close(self) -> None:
        pass


def write_benchmark(folder: Path) -> str:
    """Twelve questions; every third is long, so that batches of two lengths alternate in the order of the file."""
    rows = [{"question": "?" * (LONG if n % 3 == 2 else SHORT) + f"{n:02}", "answer": str(n)} for n in range(12)]
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "BATCH_TOKENS", 30_000)  # three short or two long questions, eight samples of each
    return write_benchmark(tmp_path)


def run(
    benchmark: str, folder: Path, sampler: Companions | None = None, *, num_samples: int = 16, limit: int | None = None
) -> dict[tuple[str, int], str]:
    """Evaluate, and return every stored text of the folder."""
    asked = replace(SETTINGS, num_samples=num_samples)
    evaluate(benchmark, sampler or Companions(), asked, folder=folder, data_folder=None, limit=limit)
    return stored(folder)


def stored(folder: Path) -> dict[tuple[str, int], str]:
    samples = [sample.completion for sample in read_samples(folder / FILE)]
    assert len(samples) == (folder / FILE).read_bytes().count(b"\n"), "no sample twice, none damaged"
    return {(one.problem_id, one.index): one.text for one in samples}


def requests(lengths: Sequence[int], num_samples: int) -> list[SampleRequest]:
    return [
        SampleRequest(problem_id=f"p-{n}", index=index, prompt_tokens=(1,) * length, seed=n * num_samples + index)
        for n, length in enumerate(lengths)
        for index in range(num_samples)
    ]


lengths_of_prompts = st.lists(st.integers(1, 2000), min_size=1, max_size=120)


@given(lengths_of_prompts, st.integers(1, 40), st.sampled_from([1, 64, 3072, 16_384, 1 << 20]))
def test_every_request_is_in_one_batch_that_is_no_larger_than_it_may(
    lengths: list[int], num_samples: int, max_new_tokens: int
) -> None:
    wanted = requests(lengths, num_samples)
    found = partition(wanted, replace(SETTINGS, num_samples=num_samples, max_new_tokens=max_new_tokens))
    assert sorted(one.seed for batch in found for one in batch.requests) == list(range(len(wanted)))
    for batch in found:
        assert len({one.index // INDEX_BLOCK for one in batch.requests}) == 1
        prompts = [len(one.prompt_tokens) for one in batch.requests]
        assert max(prompts) <= max(64, 4 * min(prompts)), "a batch needs little padding"
        tokens = sum(prompts) + len(prompts) * max_new_tokens
        assert tokens <= BATCH_TOKENS or len({one.problem_id for one in batch.requests}) == 1


@given(lengths_of_prompts, st.integers(1, 5), st.integers(1, 5))
def test_more_samples_only_add_batches(lengths: list[int], blocks: int, more: int) -> None:
    few, many = blocks * INDEX_BLOCK, (blocks + more) * INDEX_BLOCK
    seeded = [replace(one, seed=0) for one in requests(lengths, few)]
    first = {batch.requests for batch in partition(seeded, replace(SETTINGS, num_samples=few))}
    seeded = [replace(one, seed=0) for one in requests(lengths, many)]
    assert first < {batch.requests for batch in partition(seeded, replace(SETTINGS, num_samples=many))}


@given(lengths_of_prompts, st.lists(st.integers(1, 2000), max_size=60), st.integers(1, 20))
def test_more_questions_add_batches_and_complete_the_last_of_each_length(
    lengths: list[int], added: list[int], num_samples: int
) -> None:
    sampled = replace(SETTINGS, num_samples=num_samples)
    first = partition(requests(lengths, num_samples), sampled)
    then = {batch.requests for batch in partition(requests(lengths + added, num_samples), sampled)}
    torn = [batch.requests for batch in first if batch.requests not in then]
    num_lengths, num_index_blocks = 4, -(-num_samples // INDEX_BLOCK)
    assert len(torn) <= num_lengths * num_index_blocks
    for drawn in torn:
        assert any(set(drawn) < set(larger) for larger in then)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 300)), min_size=1, max_size=10))
def test_however_often_it_is_killed_every_sample_is_as_in_an_undisturbed_evaluation(
    tmp_path_factory: pytest.TempPathFactory, benchmark: str, kills: list[tuple[int, int]]
) -> None:
    """Killed after some answers, with the last bytes of the samples torn off."""
    folder = tmp_path_factory.mktemp("killed")
    undisturbed = run(benchmark, folder / "undisturbed" / "e")
    for num_answers, num_bytes in kills:
        try:
            run(benchmark, folder / "e", Companions(answers_left=num_answers))
        except Killed:
            file = folder / "e" / FILE
            file.write_bytes(file.read_bytes()[: max(0, file.stat().st_size - num_bytes)])
    assert run(benchmark, folder / "e") == undisturbed


def test_a_kill_costs_one_batch_at_most_and_finished_ones_are_not_drawn_again(benchmark: str, tmp_path: Path) -> None:
    whole = Companions()
    run(benchmark, tmp_path / "whole" / "e", whole)
    assert [len(batch) for batch in whole.asked] == [16, 16, 16, 16, 24, 24, 24, 24, 16, 16]
    with pytest.raises(Killed):
        run(benchmark, tmp_path / "e", Companions(answers_left=16 + 16 + 3))
    kept = stored(tmp_path / "e")
    resumed = Companions()
    assert run(benchmark, tmp_path / "e", resumed).items() >= kept.items()
    assert resumed.asked == whole.asked[2:]


@pytest.mark.parametrize(("before", "after"), [(8, 16), (16, 24), (4, 8), (3, 12), (12, 16)])
def test_more_samples_equal_as_many_drawn_at_once(benchmark: str, tmp_path: Path, before: int, after: int) -> None:
    run(benchmark, tmp_path / "eval" / "few", num_samples=before)
    more = Companions()
    extended = run(benchmark, tmp_path / "eval" / "many", more, num_samples=after)
    assert extended == run(benchmark, tmp_path / "alone" / "e", num_samples=after)
    if before % INDEX_BLOCK == 0:
        assert {index // INDEX_BLOCK for batch in more.asked for _, index in batch} == {before // INDEX_BLOCK}


def test_more_questions_equal_as_many_asked_at_once_and_keep_whole_batches(benchmark: str, tmp_path: Path) -> None:
    run(benchmark, tmp_path / "eval" / "few", limit=5)
    more = Companions()
    extended = run(benchmark, tmp_path / "eval" / "many", more)
    at_once = Companions()
    assert extended == run(benchmark, tmp_path / "alone" / "e", at_once)
    # Questions 0, 1 and 3 are one whole batch of short prompts; 2 and 4 lacked companions.
    assert [batch for batch in at_once.asked if batch not in more.asked] == [
        tuple((f"lines-{n:04}", index) for n in (0, 1, 3) for index in range(first, first + 8)) for first in (0, 8)
    ]


def test_fewer_samples_and_questions_draw_nothing(benchmark: str, tmp_path: Path) -> None:
    whole = run(benchmark, tmp_path / "eval" / "many")
    fewer = Companions()
    assert run(benchmark, tmp_path / "eval" / "few", fewer, num_samples=5, limit=7).items() <= whole.items()
    assert fewer.asked == []


def test_a_stored_sample_that_comes_out_otherwise_is_kept_and_counted(
    benchmark: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an earlier version drew is such a sample: its companions were others."""
    undisturbed = run(benchmark, tmp_path / "whole" / "e")
    with pytest.raises(Killed):
        run(benchmark, tmp_path / "e", Companions(answers_left=20))
    file = tmp_path / "e" / FILE
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[16:18]:
        row["text"] = "drawn beside others"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.WARNING):
        found = run(benchmark, tmp_path / "e")
    assert f"{file}: 2 of 4 stored samples of unfinished batches came out otherwise" in caplog.text
    differing = {place for place in found if found[place] != undisturbed[place]}
    assert differing == {(row["problem"], row["index"]) for row in rows[16:18]}
