from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.errors import ModelError, OrchError
from eval.model_folder import folder_digest
from trainers.models.resolve import model_digest, resolve
from trainers.recipe import Model
from trainers.registry import check_trainer, trainer
from trainers.rewards import rewards


def write_model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_an_unknown_builtin_proposes_the_known_one() -> None:
    with pytest.raises(ModelError, match="did you mean builtin:arithmetic-tiny"):
        model_digest(Model(path="builtin:arithmetic_tiny"))


def test_a_path_that_is_neither_folder_nor_hub_id_says_so() -> None:
    with pytest.raises(ModelError, match="neither a folder nor the id") as caught:
        resolve(Model(path="/no/such/folder"), cache_folder=Path("unused"))
    assert "owner/name" in caught.value.fix


def test_a_hub_id_is_identified_with_its_revision() -> None:
    assert model_digest(Model(path="Qwen/Qwen2.5-0.5B", revision="abc")) == "Qwen/Qwen2.5-0.5B@abc"
    assert model_digest(Model(path="Qwen/Qwen2.5-0.5B")) == "Qwen/Qwen2.5-0.5B@main"


def test_the_digest_of_a_folder_follows_its_content_and_not_its_place(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first")
    second = write_model(tmp_path / "second")
    assert model_digest(Model(path=str(first))) == model_digest(Model(path=str(second)))
    (second / "README.md").write_text("words")
    assert folder_digest(second) == folder_digest(first)
    (second / "model.safetensors").write_bytes(b"weightz")
    assert folder_digest(second) != folder_digest(first)


def test_incomplete_folders_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "model")
    assert resolve(Model(path=str(whole)), cache_folder=tmp_path) == whole
    (whole / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        resolve(Model(path=str(whole)), cache_folder=tmp_path)
    (whole / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        model_digest(Model(path=str(whole)))


def test_an_unknown_trainer_proposes_the_known_one() -> None:
    with pytest.raises(OrchError, match="did you mean lite"):
        trainer("light")
    with pytest.raises(OrchError, match="cannot be loaded"):
        trainer("no_such_module:Trainer")


def test_a_trainer_of_the_users_own_is_found_by_its_place() -> None:
    assert type(trainer("collections:OrderedDict")).__name__ == "OrderedDict"


def test_a_trainer_in_the_current_folder_is_found_as_its_trial_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainer_of_mine.py").write_text("class Mine:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    check_trainer("trainer_of_mine:Mine")
    assert type(trainer("trainer_of_mine:Mine")).__name__ == "Mine"


def test_the_reward_is_the_verdict_of_the_grader() -> None:
    from eval.api import Problem

    problem = Problem(id="p", question="47+85=?", answer="132", kind="integer")
    found = rewards([("so \\boxed{132}", problem), ("\\boxed{131}", problem), ("132", problem)])
    assert [reward.value for reward in found] == [1.0, 0.0, 0.0]
    assert [reward.has_answer for reward in found] == [True, True, False]


def test_names_of_models_and_trainers_import_nothing_heavy() -> None:
    code = (
        "import sys, trainers.models.resolve, trainers.registry\n"
        "from trainers.recipe import Model\n"
        "trainers.models.resolve.model_digest(Model(path='builtin:arithmetic-tiny'))\n"
        "heavy = {'torch', 'transformers', 'numpy', 'ray', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_partial_files_of_killed_fetches_go_and_those_that_grow_stay(tmp_path: Path) -> None:
    from trainers.models.hub import _num_bytes_here, _remove_leftovers

    now = time.time()
    for name, size, age_s in (("whole", 10, 9000), ("etag.1a.incomplete", 7, 9000), ("etag.2b.incomplete", 4, 1)):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    sizes = {"whole": 10, "etag": 20, "absent": 5}
    assert _num_bytes_here(tmp_path, sizes, since=now - 10) == 10 + 4
    assert _num_bytes_here(tmp_path, sizes, since=now) == 10
    _remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etag.2b.incomplete", "whole"]
