"""What a report says before its table: reasons not to read it as a finding, on invented sweeps that give each."""

import json
import random
from pathlib import Path

import pytest
from made_up import MadeUp

from dashboards.figures.swept import read_swept
from dashboards.report.headlines import headlines, is_rising
from dashboards.report.site import Request, write_report


def swept(root: Path, rates: tuple[float, ...] = (0.5, 0.6), **options) -> MadeUp:
    made = MadeUp(root, **options)
    made.finish(made.base, rate=0.4)
    for number, planned in enumerate(made.trials):
        made.finish(planned, rate=rates[number // len(made.seeds)])
    return made


def said(made: MadeUp) -> tuple[str, ...]:
    return headlines(read_swept(made.store, made.experiment))


def rewrite(made: MadeUp, **values: float) -> None:
    """Other numbers in the records of all trials."""
    for planned in (made.base, *made.trials):
        record = made.store.trial_folder(planned.trial.id) / "record.json"
        content = json.loads(record.read_text())
        content.pop("seal")
        content["scores"] = [score | values for score in content["scores"]]
        record.write_text(json.dumps(content))


def test_a_sound_sweep_has_no_headline(tmp_path: Path) -> None:
    assert said(swept(tmp_path, seeds=(0, 1))) == ()


def test_one_seed_is_told(tmp_path: Path) -> None:
    assert said(swept(tmp_path)) == ("One seed: no verdict on any method.",)


def test_arms_that_all_fell_below_the_base_are_told(tmp_path: Path) -> None:
    made = swept(tmp_path, rates=(0.1, 0.15), seeds=(0, 1), num_problems=60)
    assert said(made) == ("Every arm is below the model that it began from.",)


def test_a_benchmark_without_boxes_or_with_cut_off_samples_is_told(tmp_path: Path) -> None:
    made = swept(tmp_path, seeds=(0, 1))
    rewrite(made, no_box_rate=1.0, clip_rate=0.79)
    assert said(made) == (
        "No sample of arithmetic has a box: look at the template (chat).",
        "79 % of arithmetic is cut off at 96 tokens: raise max_new_tokens.",
    )


def test_a_reward_of_zero_throughout_is_told(tmp_path: Path) -> None:
    made = swept(tmp_path, seeds=(0, 1))
    for planned in made.trials[:2]:
        file = made.store.attempt_folder(planned.trial.id, 1) / "metrics.jsonl"
        rows = [json.loads(line) | {"reward/mean": 0.0} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert said(made) == ("The reward was zero throughout: grpo · full.",)


@pytest.mark.parametrize(("slope", "expected"), [(0.01, True), (0.0, False), (-0.01, False)])
def test_a_curve_is_rising_if_its_scatter_does_not_explain_the_slope_of_its_end(slope: float, expected: bool) -> None:
    generator = random.Random(0)
    curve = tuple((step, 0.3 + slope * step + generator.gauss(0, 0.02)) for step in range(60))
    assert is_rising(curve) is expected
    assert not is_rising(curve[:10])


def test_the_report_opens_with_them(tmp_path: Path) -> None:
    made = swept(tmp_path)
    request = Request(experiments=("made_up",), folder=tmp_path / "site", data_folder=None)
    page = write_report(made.store, request, on_progress=lambda line: None).parent / "experiments/made_up/index.html"
    text = page.read_text()
    assert text.index("One seed: no verdict on any method.") < text.index("<h2>Results</h2>")
