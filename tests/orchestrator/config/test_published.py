"""The block `published:` of an experiment."""

from pathlib import Path

import pytest

from orchestrator.config.published import PublishedBlock, StandsFor, read_published
from orchestrator.config.spec import load_sweep
from orchestrator.errors import OrchError

FOLDER = Path(__file__).parents[3] / "experiments"


def test_the_tables_and_what_a_twin_stands_for_are_read() -> None:
    block = {"tables": ["gmts_table4", "gmts_table1"], "stands_for": {"model": "Qwen", "max_response_tokens": 20480}}
    assert read_published(block) == PublishedBlock(
        tables=("gmts_table4", "gmts_table1"), stands_for=StandsFor(model="Qwen", max_response_tokens=20480)
    )
    assert read_published(None) is None


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("gmts_table4", "no block of keys"),
        ({"tables": []}, "published.tables is []"),
        ({"tables": ["a", "a"]}, "different tables"),
        ({"tables": "a"}, "a list, each a text"),
        ({"table": ["a"]}, "did you mean tables"),
        ({"tables": ["a"], "stands_for": {"modle": "b"}}, "did you mean model"),
        ({"tables": ["a"], "stands_for": {"max_response_tokens": "long"}}, "a whole number"),
    ],
)
def test_what_it_cannot_mean_is_said_with_its_mend(block: object, said: str) -> None:
    with pytest.raises(OrchError) as caught:
        read_published(block)
    assert said in str(caught.value)


def test_a_wrong_block_stops_the_plan_and_names_file_and_line(tmp_path: Path) -> None:
    text = (FOLDER / "smoke.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("sweep:", "published: {tabels: [gmts_table4]}\n\nsweep:", 1))
    with pytest.raises(OrchError) as caught:
        load_sweep(file)
    assert "mine.yaml" in str(caught.value)
    assert "did you mean tables" in str(caught.value)


def test_the_block_changes_no_trial(tmp_path: Path) -> None:
    text = (FOLDER / "smoke.yaml").read_text()
    file = tmp_path / "smoke.yaml"
    file.write_text(text.replace("sweep:", "published: {tables: [gmts_table4]}\n\nsweep:", 1))
    assert load_sweep(file).points == load_sweep(FOLDER / "smoke.yaml").points
