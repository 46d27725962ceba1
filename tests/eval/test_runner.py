import hashlib
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from io import FileIO
from pathlib import Path

import pytest

from eval.api import Completion, SamplingSettings
from eval.errors import DataError, EngineError, OrchError
from eval.runner import EvalJob, evaluate, evaluate_all, read_score, score_key
from eval.samples import SampleStore, read_samples

SETTINGS = SamplingSettings(num_samples=4, temperature=1.0, max_new_tokens=32, template="plain")


class FakeSampler:
    """Answers by hash of (prompt, seed): right about half of the time; counts what it is asked for."""

    name = "fake 1"
    keeps_batches = False

    def __init__(self, model_digest="m1", stop_after=None, forget=()):
        self.model_digest, self.stop_after, self.forget = model_digest, stop_after, forget
        self.asked, self.num_answered = [], 0

    def encode(self, messages):
        return self.encode_text(messages[-1]["content"])

    def encode_text(self, text):
        return tuple(text.encode())

    def sample(self, requests, settings):
        self.asked += [(request.problem_id, request.index) for request in requests]
        for request in reversed(requests):
            if self.stop_after == self.num_answered:
                raise KeyboardInterrupt
            self.num_answered += 1
            if (request.problem_id, request.index) in self.forget:
                continue
            value = hashlib.sha256(f"{bytes(request.prompt_tokens)}{request.seed}".encode()).digest()[0]
            answer = bytes(request.prompt_tokens).decode().split("+")[0] if value % 2 else "no"
            text = f"so \\boxed{{{answer}}}" if value % 8 else "so nothing"
            yield Completion(
                problem_id=request.problem_id,
                index=request.index,
                text=text,
                num_tokens=len(text),
                finish_reason="length" if value % 8 == 0 else "stop",
            )

    def close(self):
        pass


@pytest.fixture
def benchmark(tmp_path):
    file = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n}+0?", "answer": str(n), "kind": "integer"} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def run(benchmark, folder, sampler=None, settings=SETTINGS, **others):
    return evaluate(benchmark, sampler or FakeSampler(), settings, folder=folder, data_folder=None, **others)


def lines(folder):
    return (folder / "samples.jsonl").read_bytes().splitlines()


def test_a_score_is_the_average_of_the_stored_verdicts(benchmark, tmp_path):
    score = run(benchmark, tmp_path / "e")
    rows = [json.loads(line) for line in lines(tmp_path / "e")]
    assert len(rows) == 24
    right = [row["grade"]["is_correct"] for row in rows]
    assert score.avg == sum(right) / 24
    assert 0 < score.avg < 1
    for row in rows:
        assert score.per_problem[row["problem"]][row["index"]] == int(row["grade"]["is_correct"])
    assert score.clip_rate == score.no_box_rate == sum("nothing" in row["text"] for row in rows) / 24
    assert score.mean_tokens == sum(row["tokens"] for row in rows) / 24
    assert (score.engine, score.num_problems, score.num_samples) == ("fake 1", 6, 4)
    assert read_score(tmp_path / "e" / "score.json") == score


def test_a_second_call_draws_nothing_and_gives_the_same_score(benchmark, tmp_path):
    first = run(benchmark, tmp_path / "e")
    again = FakeSampler()
    second = run(benchmark, tmp_path / "e", again)
    assert again.asked == []
    assert replace(second, elapsed_s=0) == replace(first, elapsed_s=0)


@pytest.mark.parametrize("torn", [0, 1, 40, 5000])
def test_after_a_kill_only_what_is_missing_is_drawn(benchmark, tmp_path, torn):
    whole = run(benchmark, tmp_path / "whole" / "e")
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, tmp_path / "e", FakeSampler(stop_after=10))
    file = tmp_path / "e" / "samples.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - torn] if torn < 5000 else content + b'{"key": "' + b"x" * torn)
    resumed = FakeSampler()
    score = run(benchmark, tmp_path / "e", resumed)
    assert len(resumed.asked) == (14 if torn in (0, 5000) else 15)
    assert replace(score, elapsed_s=0) == replace(whole, elapsed_s=0)
    places = [(row["problem"], row["index"]) for row in map(json.loads, lines(tmp_path / "e"))]
    assert len(places) == len(set(places)) == 24


def test_more_samples_extend_and_fewer_reuse(benchmark, tmp_path):
    run(benchmark, tmp_path / "e")
    more = FakeSampler()
    score = run(benchmark, tmp_path / "e", more, replace(SETTINGS, num_samples=6))
    assert sorted(index for _, index in more.asked) == [4] * 6 + [5] * 6
    assert score.num_samples == 6
    fewer = FakeSampler()
    run(benchmark, tmp_path / "e", fewer, replace(SETTINGS, num_samples=2))
    assert fewer.asked == []


def test_a_sibling_store_is_taken_over(benchmark, tmp_path):
    run(benchmark, tmp_path / "eval" / "k4")
    more = FakeSampler()
    run(benchmark, tmp_path / "eval" / "k5", more, replace(SETTINGS, num_samples=5))
    assert sorted(index for _, index in more.asked) == [4] * 6
    assert len(lines(tmp_path / "eval" / "k5")) == 30


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.5}, {"top_p": 0.9}, {"max_new_tokens": 8}, {"seed": 1}, {"stop": ("x",)}, {"template": "ict"}],
)
def test_other_settings_share_no_samples(benchmark, tmp_path, change):
    run(benchmark, tmp_path / "eval" / "a")
    other = FakeSampler()
    run(benchmark, tmp_path / "eval" / "b", other, replace(SETTINGS, **change))
    assert len(other.asked) == 24


def test_another_model_shares_no_samples(benchmark, tmp_path):
    run(benchmark, tmp_path / "e")
    other = FakeSampler("m2")
    run(benchmark, tmp_path / "e", other)
    assert len(other.asked) == 24


def test_a_new_grader_regrades_without_drawing(benchmark, tmp_path, monkeypatch):
    run(benchmark, tmp_path / "e")
    text = (tmp_path / "e" / "samples.jsonl").read_text()
    first = json.loads(text.splitlines()[0])["grade"]["version"]
    (tmp_path / "e" / "samples.jsonl").write_text(
        text.replace(first, "old000000000").replace('"is_correct": true', '"is_correct": false')
    )
    again = FakeSampler()
    score = run(benchmark, tmp_path / "e", again)
    assert again.asked == []
    assert score.avg > 0
    assert {sample.grade.grader_version for sample in read_samples(tmp_path / "e" / "samples.jsonl")} == {first}


def test_two_evaluators_on_one_store_are_refused(benchmark, tmp_path):
    with SampleStore(tmp_path / "e"), pytest.raises(OrchError, match="another evaluation is writing"):
        run(benchmark, tmp_path / "e")
    run(benchmark, tmp_path / "e")


def test_a_damaged_line_is_drawn_again(benchmark, tmp_path, caplog):
    first = run(benchmark, tmp_path / "e")
    rows = lines(tmp_path / "e")
    rows[3] = rows[3].replace(b'"index"', b'"indox"')
    (tmp_path / "e" / "samples.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    again = FakeSampler()
    second = run(benchmark, tmp_path / "e", again)
    assert len(again.asked) == 1
    assert second.per_problem == first.per_problem
    assert "samples.jsonl:4 is damaged" in caplog.text


def test_an_unanswered_request_is_an_error_that_keeps_the_rest(benchmark, tmp_path):
    with pytest.raises(EngineError, match="left 1 of 24 completions unanswered"):
        run(benchmark, tmp_path / "e", FakeSampler(forget={("sums-0002", 1)}))
    again = FakeSampler()
    run(benchmark, tmp_path / "e", again)
    assert again.asked == [("sums-0002", 1)]


def test_a_full_disk_is_a_clear_message(benchmark, tmp_path):
    run(benchmark, tmp_path / "other" / "e")
    sample = next(iter(read_samples(tmp_path / "other" / "e" / "samples.jsonl")))
    store = SampleStore(tmp_path / "e")
    store._out.close()
    store._out = FileIO("/dev/full", "wb")
    with pytest.raises(OrchError, match="the disk is full"):
        store.append(sample)
    with pytest.raises(OrchError, match="cannot write samples"):
        store.close()
    with SampleStore(tmp_path / "e"):
        pass  # the lock was released


def test_progress_counts_to_the_end_and_may_stop_it(benchmark, tmp_path):
    seen = []
    run(benchmark, tmp_path / "e", on_progress=seen.append)
    assert seen[0].num_done == 0
    assert (seen[-1].num_done, seen[-1].num_total) == (24, 24)

    class StopNow(Exception):
        pass

    def stop(progress):
        raise StopNow

    with pytest.raises(StopNow):
        run(benchmark, tmp_path / "f" / "e", on_progress=stop)
    with SampleStore(tmp_path / "f" / "e"):
        pass  # the lock was released


def test_every_part_of_a_score_key_changes_it():
    base = {
        "trial_id": "t",
        "step": 1,
        "benchmark_digest": "d",
        "settings": SETTINGS,
        "limit": None,
        "grader_version": "g",
    }
    keys = {score_key(**base)}
    for change in (
        {"trial_id": "u"},
        {"step": None},
        {"benchmark_digest": "e"},
        {"settings": replace(SETTINGS, num_samples=5)},
        {"limit": 3},
        {"grader_version": "h"},
    ):
        keys.add(score_key(**(base | change)))
    assert len(keys) == 7
    assert all(len(key) == 12 for key in keys)
    assert score_key(**base) == score_key(**base)


def test_odd_text_survives_the_store(benchmark, tmp_path):
    class OddSampler(FakeSampler):
        def sample(self, requests, settings):
            for completion in super().sample(requests, settings):
                yield replace(completion, text="\udcff \u2028\n\r\x00 " + completion.text)

    score = run(benchmark, tmp_path / "e", OddSampler())
    again = FakeSampler()
    assert run(benchmark, tmp_path / "e", again).per_problem == score.per_problem
    assert again.asked == []


@pytest.mark.parametrize("after", [3, 17])
def test_a_killed_process_leaves_what_the_next_one_finishes(benchmark, tmp_path, after):
    """kill -9 of a real process in the middle of sampling; the result equals an undisturbed one."""
    code = """
        import runpy, sys, time
        from pathlib import Path
        tests = runpy.run_path(sys.argv[1])

        class Slow(tests["FakeSampler"]):
            def sample(self, requests, settings):
                for completion in super().sample(requests, settings):
                    yield completion
                    print("drawn", flush=True)
                    time.sleep(0.02)

        tests["run"](sys.argv[2], Path(sys.argv[3]), Slow())
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), __file__, benchmark, str(tmp_path / "e")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    process.kill()
    process.wait()
    num_kept = len(list(read_samples(tmp_path / "e" / "samples.jsonl")))
    assert after - 1 <= num_kept < 24
    resumed = FakeSampler()
    score = run(benchmark, tmp_path / "e", resumed)
    assert len(resumed.asked) == 24 - num_kept
    whole = run(benchmark, tmp_path / "whole" / "e")
    assert replace(score, elapsed_s=0) == replace(whole, elapsed_s=0)


def two_jobs(benchmark, root, **second):
    file = root / "more.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n}+1?", "answer": str(n)}) + "\n" for n in range(3)))
    return [
        EvalJob(benchmark=benchmark, settings=SETTINGS, folder=root / "eval" / "sums"),
        EvalJob(benchmark=str(file), settings=replace(SETTINGS, **second), folder=root / "eval" / "more"),
    ]


class QueueSampler(FakeSampler):
    """Takes batches of any settings; every other one is held back to the end, as a long completion would be."""

    def __init__(self):
        super().__init__()
        self.limits = []

    def sample_stream(self, batches):
        batches = list(batches)
        for batch in batches[::2] + batches[1::2]:
            self.limits.append(batch.settings.max_new_tokens)
            yield from self.sample(batch.requests, batch.settings)


def test_all_benchmarks_are_drawn_as_one_stream_and_score_as_they_do_alone(benchmark, tmp_path):
    jobs, together, seen = two_jobs(benchmark, tmp_path, max_new_tokens=64), QueueSampler(), []
    scores = dict(evaluate_all(jobs, together, data_folder=None, on_progress=seen.append))
    assert together.limits == [64] * 6 + [32] * 12 + [64] * 6 + [32] * 12
    for job in jobs:
        alone = evaluate(job.benchmark, FakeSampler(), job.settings, folder=tmp_path / job.name, data_folder=None)
        assert replace(scores[job], elapsed_s=0) == replace(alone, elapsed_s=0)
        assert read_score(job.folder / "score.json") == scores[job]
    assert [(part.benchmark, part.num_done, part.num_total) for part in seen[-1].parts] == [
        ("sums", 24, 24),
        ("more", 12, 12),
    ]
    assert (seen[-1].num_done, seen[-1].num_correct) == (36, round(24 * scores[jobs[0]].avg + 12 * scores[jobs[1]].avg))


def test_a_stopped_evaluation_of_several_goes_on_in_each(benchmark, tmp_path):
    jobs = two_jobs(benchmark, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(evaluate_all(jobs, FakeSampler(stop_after=30), data_folder=None))
    kept = {job.name: len(lines(job.folder)) for job in jobs}
    assert sum(kept.values()) == 30
    assert all(kept.values())
    resumed = FakeSampler()
    scores = dict(evaluate_all(jobs, resumed, data_folder=None))
    assert len(resumed.asked) == 36 - 30
    assert {name: len(lines(tmp_path / "eval" / name)) for name in kept} == {"sums": 24, "more": 12}
    whole = dict(evaluate_all(two_jobs(benchmark, tmp_path), FakeSampler(), data_folder=None))
    assert {job: score.per_problem for job, score in scores.items()} == {
        job: score.per_problem for job, score in whole.items()
    }


def test_two_benchmarks_of_one_name_are_refused_before_anything_is_drawn(benchmark, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / Path(benchmark).name
    twin.write_text(Path(benchmark).read_text())
    jobs = [EvalJob(benchmark=name, settings=SETTINGS, folder=tmp_path / "e") for name in (benchmark, str(twin))]
    with pytest.raises(DataError, match="2 benchmarks are called sums"):
        list(evaluate_all(jobs, FakeSampler(), data_folder=None))
    assert not (tmp_path / "e").exists()


GREEDY = replace(SETTINGS, temperature=0.0)


@pytest.mark.parametrize("keeps_batches", [False, True])
def test_a_greedy_answer_is_drawn_once_and_stands_k_times(benchmark, tmp_path, keeps_batches):
    sampler = FakeSampler()
    sampler.keeps_batches = keeps_batches
    score = run(benchmark, tmp_path / "e", sampler, GREEDY)
    assert sorted(sampler.asked) == [(f"sums-{n:04}", 0) for n in range(6)]
    rows = [json.loads(line) for line in lines(tmp_path / "e")]
    assert len(rows) == len({(row["problem"], row["index"]) for row in rows}) == 24
    assert len({(row["problem"], row["text"]) for row in rows}) == 6
    assert score.generation_error == 0
    more = FakeSampler()
    assert run(benchmark, tmp_path / "more", more, replace(GREEDY, num_samples=20)).avg == score.avg
    assert more.asked == []


def test_greedy_copies_that_a_kill_left_out_are_made_without_drawing(benchmark, tmp_path):
    whole = run(benchmark, tmp_path / "e", settings=GREEDY)
    file = tmp_path / "e" / "samples.jsonl"
    file.write_bytes(b"\n".join(line for line in lines(tmp_path / "e") if b'"index": 2' not in line) + b"\n")
    sampler = FakeSampler()
    assert run(benchmark, tmp_path / "e", sampler, GREEDY).per_problem == whole.per_problem
    assert (sampler.asked, len(lines(tmp_path / "e"))) == ([], 24)


class Renamed(FakeSampler):
    """Of a model that an earlier version called m1."""

    former_digest = "m1"

    def __init__(self):
        super().__init__("every byte")


def test_samples_under_a_former_digest_are_gone_on_with(benchmark, tmp_path):
    run(benchmark, tmp_path / "e", settings=replace(SETTINGS, num_samples=2))
    sampler = Renamed()
    run(benchmark, tmp_path / "more", sampler)
    assert {index for _, index in sampler.asked} == {2, 3}
    again = Renamed()
    run(benchmark, tmp_path / "more", again)
    assert again.asked == []


def test_samples_of_every_byte_come_before_those_of_a_former_digest(benchmark, tmp_path):
    run(benchmark, tmp_path / "e")
    new = FakeSampler("every byte")
    run(benchmark, tmp_path / "new", new)
    assert len(new.asked) == 24
    sampler = Renamed()
    run(benchmark, tmp_path / "new", sampler)
    assert sampler.asked == []
    assert len({sample.key for sample in read_samples(tmp_path / "new" / "samples.jsonl")}) == 6


def test_what_is_fresh_takes_nothing_over_even_after_a_kill(benchmark, tmp_path):
    run(benchmark, tmp_path / "old" / "a", settings=replace(SETTINGS, num_samples=2))
    job = EvalJob(benchmark=benchmark, settings=SETTINGS, folder=tmp_path / "old" / "b", is_fresh=True)
    with pytest.raises(KeyboardInterrupt):
        list(evaluate_all([job], FakeSampler(stop_after=5), data_folder=None))
    sampler = FakeSampler()
    list(evaluate_all([replace(job, is_fresh=False)], sampler, data_folder=None))
    assert 24 - 5 <= len(sampler.asked) <= 24
    sampler = FakeSampler()
    list(evaluate_all([job], sampler, data_folder=None))
    assert len(sampler.asked) == 24
    assert len(list((tmp_path / "old" / "b").glob("samples.*.before.jsonl"))) >= 1


class Failing(FakeSampler):
    def sample(self, requests, settings):
        for one in super().sample(requests, settings):
            yield replace(one, text="", finish_reason="failed") if one.index == 1 else one


def test_failed_samples_count_as_wrong_until_they_are_drawn_again(benchmark, tmp_path):
    failed = run(benchmark, tmp_path / "e", Failing())
    assert all(verdicts[1] == 0 for verdicts in failed.per_problem.values())
    assert len(lines(tmp_path / "e")) == 24
    sampler = FakeSampler()
    mended = run(benchmark, tmp_path / "e", sampler)
    assert sorted(sampler.asked) == [(f"sums-{n:04}", 1) for n in range(6)]
    assert mended.per_problem == run(benchmark, tmp_path / "good", settings=SETTINGS).per_problem
    assert len(list(read_samples(tmp_path / "e" / "samples.jsonl"))) == 24
