import pytest

from eval.errors import OrchError
from trainers.checkpoints import prune
from trainers.recipe import Resources
from trainers.verl.launch.checkpoint import newest_whole, seal


def a_checkpoint(folder, step, fingerprint="recipe", reward=0.5):
    actor = folder / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    (actor / "model.pt").write_bytes(bytes([step]) * 100)
    (actor.parent / "data.pt").write_bytes(b"order")
    seal(actor.parent, fingerprint=fingerprint, reward=reward)
    return actor.parent


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    a_checkpoint(tmp_path, 2)
    newest = a_checkpoint(tmp_path, 10)
    assert newest_whole(tmp_path, fingerprint="recipe") == (newest, 10)


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    assert newest_whole(tmp_path / "missing", fingerprint="recipe") == (None, 0)


def test_a_truncated_checkpoint_is_passed_over(tmp_path, caplog):
    older, newer = a_checkpoint(tmp_path, 2), a_checkpoint(tmp_path, 4)
    (newer / "actor" / "model.pt").write_bytes(b"short")
    assert newest_whole(tmp_path, fingerprint="recipe") == (older, 2)
    assert "step 4 is passed over: actor/model.pt is not what was written" in caplog.text


def test_a_checkpoint_whose_writing_was_interrupted_is_passed_over(tmp_path):
    older, newer = a_checkpoint(tmp_path, 2), a_checkpoint(tmp_path, 4)
    (newer / "manifest.json").unlink()
    assert newest_whole(tmp_path, fingerprint="recipe") == (older, 2)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    a_checkpoint(tmp_path, 2, fingerprint="another")
    with pytest.raises(OrchError, match="another recipe or seed"):
        newest_whole(tmp_path, fingerprint="recipe")


def test_old_checkpoints_and_passed_over_ones_are_deleted(tmp_path):
    for step in (2, 4, 6, 8):
        a_checkpoint(tmp_path, step)
    prune(tmp_path, Resources(keep_checkpoints=2), newest=6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step_4", "global_step_6"]


def test_the_best_and_every_kth_outlive_the_newest(tmp_path):
    for step, reward in {2: 0.1, 4: 0.9, 6: 0.2, 8: 0.3, 10: 0.4}.items():
        a_checkpoint(tmp_path, step, reward=reward)
    prune(tmp_path, Resources(keep_best=1, keep_every=6), newest=10)
    assert {int(path.name.rpartition("_")[2]) for path in tmp_path.iterdir()} == {4, 6, 10}
