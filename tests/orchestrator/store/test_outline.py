"""An outline says what the record says, or leaves it to the record."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from kept_sweep import Kept, flip

from orchestrator.errors import StoreError
from orchestrator.store.alarm import Alarm
from orchestrator.store.outline import Outline
from orchestrator.store.record import Failure, RunRecord


def finished(kept: Kept) -> RunRecord:
    return kept.store.read(kept.plan.entries[1].trial.id)


def test_an_outline_has_what_views_ask_of_a_record(kept: Kept) -> None:
    record = finished(kept)
    alarm = Alarm(guard="entropy", action="warn", step=3, value=0.01, limit=0.1, at="")
    failure = Failure(kind="ValueError", message="first\nsecond", log_tail=("x",))
    record = replace(record, attempts=(replace(record.attempts[0], alarms=(alarm,), failure=failure),))
    kept.store.write(record)
    outline = kept.store.find_outline(record.trial.id)
    assert isinstance(outline, Outline)
    assert (outline.status, len(outline.attempts), outline.alarms) == (record.status, 1, (alarm,))
    assert outline.failure is not None
    assert (outline.failure.kind, outline.failure.message) == ("ValueError", "first\nsecond")
    assert outline.train is not None
    assert record.train is not None
    assert (outline.train.step, outline.train.metrics) == (record.train.step, record.train.metrics)
    (one,), (other,) = outline.scores, record.scores
    assert (one.key, one.step, one.benchmark, one.avg) == (other.key, other.step, other.benchmark, other.avg)


def test_a_number_that_is_none_is_left_to_the_record(kept: Kept) -> None:
    record = finished(kept)
    kept.store.write(replace(record, scores=(replace(record.scores[0], avg=math.nan),)))
    found = kept.store.find_outline(record.trial.id)
    assert isinstance(found, RunRecord)
    assert math.isnan(found.scores[0].avg)


def test_what_does_not_read_says_so_as_the_record_does(kept: Kept) -> None:
    trial_id = finished(kept).trial.id
    path: Path = kept.store.trial_folder(trial_id) / "record.json"
    whole = path.read_bytes()
    flip(path, len(whole) // 2)
    with pytest.raises(StoreError, match="not what its seal says"):
        kept.store.find_outline(trial_id)
    payload = json.loads(whole)
    del payload["seal"]
    path.write_text(json.dumps(payload | {"schema_version": 99}))
    with pytest.raises(StoreError, match="written by a newer orch"):
        kept.store.find_outline(trial_id)
    path.write_text(json.dumps(payload | {"scores": 3}))
    with pytest.raises(StoreError, match="a record does not read"):
        kept.store.find_outline(trial_id)
    path.unlink()
    assert kept.store.find_outline(trial_id) is None
