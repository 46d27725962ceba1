import json
import sys
import types

import pytest

from eval.benchmarks import hub, registry
from eval.benchmarks.declaration import Declaration, HubSource, digest_of_problems, fields
from eval.errors import DataError

ROWS = [{"problem": "1+1?", "answer": 2.0}, {"problem": "2+2?\r\n", "answer": "4"}]
SOURCE = HubSource(repository="someone/sums", split="test", revision="abc", read=fields("problem", "answer"))


def declaration(**changes):
    given = {"count": 2, "digest": None, "hub": (SOURCE,), "note": ""} | changes
    return Declaration(name="sums", purpose="evaluation", file="sums.jsonl", kind="integer", licence="MIT", **given)


@pytest.fixture
def asked(monkeypatch):
    """A stand-in for the `datasets` library; remembers what it was asked for."""
    calls = []

    def load_dataset(repository, config, *, split, revision):
        calls.append((repository, config, split, revision))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_a_fetched_set_is_normalised_and_kept_as_a_file(asked, tmp_path):
    file = hub.fetch(declaration(), tmp_path / "data")
    assert asked == [("someone/sums", None, "test", "abc")]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"id": "sums-0000", "question": "1+1?", "answer": "2"},
        {"id": "sums-0001", "question": "2+2?", "answer": "4"},
    ]
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["sums.jsonl"]
    problems = registry.read_problems(declaration(), file)
    again = declaration(digest=digest_of_problems(problems))
    assert hub.fetch(again, tmp_path / "again").read_text() == file.read_text()


def test_rows_other_than_declared_are_not_kept(asked, tmp_path):
    with pytest.raises(DataError, match="2 rows, but 3"):
        hub.fetch(declaration(count=3), tmp_path)
    with pytest.raises(DataError, match="not the declared set"):
        hub.fetch(declaration(digest="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_and_no_permission_say_what_to_do(monkeypatch, tmp_path):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match=r"put sums\.jsonl into a folder"):
        hub.fetch(declaration(), tmp_path)
    with pytest.raises(DataError, match="gated: ask the authors"):
        hub.fetch(declaration(note="gated: ask the authors"), tmp_path)
    with pytest.raises(DataError, match="has no hub source"):
        hub.fetch(declaration(hub=()), tmp_path)


def test_a_set_that_is_nowhere_is_fetched_into_the_cache(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(registry._DECLARATIONS, "sums", declaration())
    loaded = registry.load("sums", data_folder=tmp_path / "empty")
    assert [problem.answer for problem in loaded.problems] == ["2", "4"]
    assert (tmp_path / ".cache" / "orch" / "data" / "sums.jsonl").is_file()
    registry.load("sums", data_folder=None)
    assert len(asked) == 1
    assert registry.digest("sums", None) == loaded.digest
