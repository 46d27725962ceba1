"""What models, disks and neighbours do to an evaluation: a clear result or message, and nothing lost."""

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eval.api import Completion, SamplingSettings
from eval.errors import OrchError
from eval.rederivation import rederive
from eval.runner import evaluate
from eval.samples import read_samples

SETTINGS = SamplingSettings(num_samples=2, temperature=1.0, max_new_tokens=32, template="plain")


class Says:
    """Answers every question with one text."""

    name, model_digest, keeps_batches = "says 1", "m", False

    def __init__(self, text: str) -> None:
        self.text, self.num_asked = text, 0

    def encode(self, messages):
        return self.encode_text(messages[-1]["content"])

    def encode_text(self, text):
        return tuple(text.encode())

    def sample(self, requests, settings):
        for request in requests:
            self.num_asked += 1
            yield Completion(
                problem_id=request.problem_id, index=request.index, text=self.text, num_tokens=1, finish_reason="stop"
            )

    def close(self):
        pass


@pytest.fixture
def sums(tmp_path: Path) -> str:
    file = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n}+0?", "answer": "7", "kind": "integer"} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def run(benchmark: str, folder: Path, sampler: Says):
    return evaluate(benchmark, sampler, SETTINGS, folder=folder, data_folder=None)


@pytest.mark.parametrize(
    ("text", "average"),
    [
        ("", 0.0),
        ("x" * 2**20, 0.0),
        ("x" * 2**20 + r"\boxed{7}", 1.0),
        (r"\boxed{" + "{" * 20_000 + "7" + "}" * 20_000 + "}", 0.0),
        ("{" * 20_000 + r"\boxed{7}", 1.0),
        ("\udcff\udc80 \\boxed{7}", 1.0),
        ("\x00\u2028\r\n\\boxed{7}", 1.0),
    ],
    ids=["empty", "1 MB", "1 MB and right", "braces", "open braces", "invalid UTF-8", "controls"],
)
def test_odd_completions_are_stored_graded_and_made_again(sums: str, tmp_path: Path, text: str, average: float) -> None:
    score = run(sums, tmp_path / "e", Says(text))
    assert score.avg == average
    assert {sample.completion.text for sample in read_samples(tmp_path / "e" / "samples.jsonl")} == {text}
    again = Says(text)
    assert replace(run(sums, tmp_path / "e", again), elapsed_s=0) == replace(score, elapsed_s=0)
    assert again.num_asked == 0
    made = rederive(score, tmp_path / "e", data_folder=None)
    assert (made.differences, made.unchecked, made.score) == ((), (), score)


def test_bytes_that_are_no_utf8_in_a_store_cost_one_sample(sums: str, tmp_path: Path) -> None:
    score = run(sums, tmp_path / "e", Says(r"\boxed{7}"))
    file = tmp_path / "e" / "samples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0].replace(b"boxed", b"\xff\xfe"), *lines[1:]]))
    assert rederive(score, tmp_path / "e", data_folder=None).differences == ("1 of 6 samples are missing",)
    again = Says(r"\boxed{7}")
    assert run(sums, tmp_path / "e", again).avg == 1.0
    assert again.num_asked == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_ends_with_a_message_and_the_same_call_goes_on(sums: str, small_disk: Path) -> None:
    text = "x" * 20_000 + r"\boxed{7}"
    with pytest.raises(OrchError, match="the disk is full") as raised:
        run(sums, small_disk / "e", Says(text))
    assert "samples already drawn are kept" in raised.value.fix
    num_kept = len(list(read_samples(small_disk / "e" / "samples.jsonl")))
    assert 1 <= num_kept < 6
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    resumed = Says(text)
    assert run(sums, small_disk / "e", resumed).avg == 1.0
    assert resumed.num_asked == 6 - num_kept


def test_a_second_process_on_one_store_is_refused_and_finds_everything_afterwards(sums: str, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from eval.samples import SampleStore
        with SampleStore(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "e")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(OrchError, match="another evaluation is writing to this sample store"):
        run(sums, tmp_path / "e", Says(r"\boxed{7}"))
    other.communicate()
    assert run(sums, tmp_path / "e", Says(r"\boxed{7}")).avg == 1.0
