from __future__ import annotations

import json
import math
from pathlib import Path

from trainers.metrics_log import MetricsLog


def test_each_step_is_a_line_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    file = tmp_path / "attempts" / "1" / "metrics.jsonl"
    with MetricsLog(file, last_step=0) as log:
        log.append({"step": 1, "loss": 0.5})
        assert json.loads(file.read_text()) == {"step": 1, "loss": 0.5}
        log.append({"step": 2, "loss": math.nan, "gradient/norm": math.inf})
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": None, "gradient/norm": None},
    ]


def test_reopening_forgets_steps_that_will_be_done_again_and_half_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with MetricsLog(file, last_step=2) as log:
        log.append({"step": 3, "again": True})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "again": true}\n'
