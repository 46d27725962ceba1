"""What our engine adds to verl's checkpoints. Needs verl: slow, and of .venv-verl."""

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*engine is not available")]
pytest.importorskip("verl", reason="make verl builds .venv-verl, which has it")


def an_engine(scale):
    from trainers.verl.inside.engine import ScoringEngine

    engine = ScoringEngine.__new__(ScoringEngine)
    engine.scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    return engine


@pytest.fixture
def verl_saves_nothing(monkeypatch):
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    monkeypatch.setattr(FSDPEngineWithLMHead, "save_checkpoint", lambda self, local_path, **_: None)
    monkeypatch.setattr(FSDPEngineWithLMHead, "load_checkpoint", lambda self, local_path, **_: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)


def scaled(engine):
    return float(engine.scaler.scale(torch.ones(())))


def test_the_scale_of_float16s_loss_is_part_of_a_checkpoint(tmp_path, verl_saves_nothing):
    saved, resumed = an_engine(512.0), an_engine(65_536.0)
    assert (scaled(saved), scaled(resumed)) == (512.0, 65_536.0)
    saved.save_checkpoint(str(tmp_path), global_step=3)
    resumed.load_checkpoint(str(tmp_path))
    assert scaled(resumed) == 512.0


def test_other_types_have_none(tmp_path, verl_saves_nothing):
    an_engine(None).save_checkpoint(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    engine = an_engine(256.0)
    engine.load_checkpoint(str(tmp_path))  # of before there was one
    assert scaled(engine) == 256.0
