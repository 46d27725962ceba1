"""Trials on a model that a runs folder knows by the digest of an earlier version keep their ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.model_folder import folder_digests
from orchestrator.plan.identity import base_trial_id
from orchestrator.store.known_models import model_digest_of
from orchestrator.store.store import Store
from trainers.recipe import Model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(5 << 20))
    return Model(path=str(folder))


def test_a_new_runs_folder_identifies_by_every_byte(model: Model, tmp_path: Path) -> None:
    digests = folder_digests(Path(model.path))
    assert digests.digest != digests.former
    assert model_digest_of(Store(tmp_path / "runs"))(model) == digests.digest


def test_an_old_one_goes_on_under_the_former_digest_of_the_first_content_alone(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, digests = Store(tmp_path / "runs"), folder_digests(Path(model.path))
    store.trial_folder(base_trial_id(model, model_digest=digests.former)).mkdir(parents=True)
    for _ in range(2):
        assert model_digest_of(store)(model) == digests.former
    assert "found under the digest of an earlier version" in caplog.text
    with (Path(model.path) / "model.safetensors").open("r+b") as weights:
        weights.seek(70_000)
        weights.write(b"other")
    changed = folder_digests(Path(model.path))
    assert changed.former == digests.former
    assert model_digest_of(store)(model) == changed.digest


def test_builtin_models_are_what_they_were(tmp_path: Path) -> None:
    from trainers.models.tiny_spec import ARITHMETIC_TINY

    found = model_digest_of(Store(tmp_path / "runs"))(Model(path="builtin:arithmetic-tiny"))
    assert found == ARITHMETIC_TINY.digest
