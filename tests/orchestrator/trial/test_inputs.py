"""What trials need from outside: which of it is here, and what a runs folder saw of it first."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.benchmarks.registry import NAMES, declared, digest, identity
from orchestrator.config.packaged import PACKAGED
from orchestrator.config.spec import load_sweep
from orchestrator.errors import DataError, ModelError, OrchError
from orchestrator.plan.make import make_plan
from orchestrator.store.files import FileDamaged, create_json, read_json
from orchestrator.store.inputs import SeenInput, SeenInputs
from orchestrator.trial.inputs import Input, check_reachable, how_to_bring, inputs_of, make_ready, missing_inputs
from trainers.models.hub import find_model
from trainers.recipe import Model

COMMIT = "0" * 39 + "1"


def seen_set(digest: str) -> SeenInput:
    return SeenInput(name="math12k", kind="set", digest=digest, commits={"hiyouga/math12k": COMMIT})


@pytest.fixture
def cached_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of a model of two shards in a hub cache, as the hub's client lays it out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--owner--name"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name in shards:
        (folder / name).write_bytes(name.encode())
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {name: name for name in shards}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_every_set_has_an_identity_that_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {name: identity(name) for name in NAMES}
    assert len(set(found.values())) == len(NAMES)
    assert all(found.values())
    for name in NAMES:
        if declared(name).digest is not None:
            assert found[name] == digest(name, None), "a declared digest is an identity"
    assert identity("gpqa_diamond") == "Idavidrein/gpqa@633f5ee89ab8ad4522a9f850766b73f62147ffdd gpqa_diamond train"


def test_the_inputs_of_the_flagship_are_its_sets_and_its_model() -> None:
    plan = make_plan(load_sweep(PACKAGED / "ratio_ablation.yaml"))
    names = ["math12k", "aime2024", "amc23", "math500", "minerva_math", "olympiadbench", "Qwen/Qwen2.5-Math-1.5B@main"]
    assert [one.name for one in inputs_of(plan.entries)] == names
    smoke = make_plan(load_sweep(PACKAGED / "smoke.yaml"))
    assert [(one.name, one.is_of_hub) for one in inputs_of(smoke.entries)] == [("builtin:arithmetic-tiny", False)]


def test_what_is_missing_needs_the_hub_and_says_how_each_is_brought(tmp_path: Path) -> None:
    missing = [Input(name="math12k"), Input(name="math_train_part"), Input(name="a/b@v1", model=Model(path="a/b"))]
    check_reachable(missing, why_no_hub=lambda: "", experiment="exp")
    check_reachable([], why_no_hub=lambda: "no network", experiment="exp")
    with pytest.raises(OrchError) as refused:
        check_reachable(missing, why_no_hub=lambda: "the cable is out", experiment="exp")
    assert refused.value.what.splitlines() == [
        "3 inputs of exp are not on this machine, and the cable is out:",
        "  math12k          orch data fetch math12k, or math12k.jsonl (12000 rows) in a folder given by --data-dir",
        "  math_train_part  math_train_part.jsonl (4500 rows) in a folder given by --data-dir",
        "  a/b@v1           hf download a/b",
    ]
    pinned = Input(name="a/b@v1", model=Model(path="a/b", revision="v1"))
    assert how_to_bring(pinned) == "hf download a/b --revision v1"


def test_a_model_in_the_cache_is_found_only_when_it_is_whole(cached_model: Path, tmp_path: Path) -> None:
    one = Input(name="owner/name@main", model=Model(path="owner/name"))
    seen = SeenInputs(tmp_path / "runs")
    assert find_model("owner/name", None) == find_model("owner/name", COMMIT) == cached_model
    assert missing_inputs([one], seen, data_folder=None) == ()
    (cached_model / "model-00002-of-00002.safetensors").unlink()
    assert find_model("owner/name", None) is None
    assert missing_inputs([one], seen, data_folder=None) == (one,)
    assert find_model("owner/other", None) is None


def test_a_model_is_trusted_on_first_use_and_refused_when_its_weights_change(
    cached_model: Path, tmp_path: Path
) -> None:
    one = Input(name="owner/name@main", model=Model(path="owner/name"))
    seen, store = SeenInputs(tmp_path / "runs"), tmp_path / "runs"
    assert make_ready(one, seen, data_folder=None, cache_folder=tmp_path) == cached_model
    kept = read_json(store / "inputs" / "owner--name@main.json")
    assert (kept["kind"], kept["commits"]) == ("model", {"owner/name": COMMIT})
    (cached_model / "README.md").write_text("more of the repository")
    (cached_model / "pytorch_model.bin").write_bytes(b"the weights once more")
    assert make_ready(one, seen, data_folder=None, cache_folder=tmp_path) == cached_model
    (cached_model / "model-00001-of-00002.safetensors").write_bytes(b"model-00001-of-00002.safetensorz")
    with pytest.raises(ModelError, match="has changed since this runs folder first used it") as refused:
        make_ready(one, seen, data_folder=None, cache_folder=tmp_path)
    assert refused.value.where == f"{store / 'inputs' / 'owner--name@main.json'}: digest"
    assert f"remove {cached_model.parents[1]} and run the same command: it is fetched anew" in refused.value.fix


def test_a_set_is_compared_with_what_was_seen_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = [json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(12000)]
    file = tmp_path / "math12k.jsonl"
    file.write_text("".join(rows))
    seen = SeenInputs(tmp_path / "runs")
    for _ in range(2):
        assert make_ready(Input(name="math12k"), seen, data_folder=tmp_path, cache_folder=tmp_path) == file
    file.write_text("".join(["".join(rows[:-1]), rows[0]]))
    with pytest.raises(DataError, match="math12k has changed") as refused:
        make_ready(Input(name="math12k"), seen, data_folder=tmp_path, cache_folder=tmp_path)
    assert "--store" in refused.value.fix
    make_ready(Input(name="math12k"), SeenInputs(tmp_path / "other"), data_folder=tmp_path, cache_folder=tmp_path)


@settings(max_examples=20, deadline=None)
@given(digests=st.lists(st.sampled_from("abc"), min_size=2, max_size=8))
def test_of_many_first_uses_at_once_one_decides(digests: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("runs")

    def use(digest: str) -> bool | None:
        try:
            return SeenInputs(root).check(seen_set(digest), place=root)
        except DataError:
            return None

    with ThreadPoolExecutor(len(digests)) as pool:
        outcomes = list(pool.map(use, digests))
    kept = SeenInputs(root).find("math12k")
    assert kept is not None
    assert outcomes.count(True) == 1
    assert digests[outcomes.index(True)] == kept.digest
    refused = [digest for digest, outcome in zip(digests, outcomes, strict=True) if outcome is None]
    assert refused == [digest for digest in digests if digest != kept.digest]
    assert [path.name for path in (root / "inputs").iterdir()] == ["math12k.json"]


def test_a_damaged_note_is_named_and_not_taken_for_a_first_use(tmp_path: Path) -> None:
    seen = SeenInputs(tmp_path)
    assert seen.check(seen_set("a"), place=tmp_path)
    file = seen.file("math12k")
    file.write_text(file.read_text().replace('"a"', '"b"'))
    with pytest.raises(FileDamaged) as damaged:
        seen.check(seen_set("b"), place=tmp_path)
    assert damaged.value.where == str(file)


def test_a_file_is_created_once(tmp_path: Path) -> None:
    assert create_json(tmp_path / "deep" / "one.json", {"value": 1})
    assert not create_json(tmp_path / "deep" / "one.json", {"value": 2})
    assert read_json(tmp_path / "deep" / "one.json") == {"value": 1}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.json"]
