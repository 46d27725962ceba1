from pathlib import Path

import pytest

from orchestrator.config.compose import Composer
from orchestrator.config.lines import line_of
from orchestrator.errors import SpecError


def refusal(file: Path) -> str:
    with pytest.raises(SpecError) as refused:
        Composer(file)
    return str(refused.value).replace(f"{file.parent}/", "")


def written(folder: Path, text: str) -> Path:
    file = folder / "exp.yaml"
    file.write_text(text)
    return file


def test_choices_are_the_files_beside_the_experiment_and_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "model" / "own").mkdir(parents=True)
    (tmp_path / "model" / "own" / "small.yaml").write_text("path: x/y\n")
    composer = Composer(written(tmp_path, "defaults: [{model: own/small}]\n"))
    assert {"own/small", "tiny"} <= set(composer.choices("model"))
    assert composer.compose({})["model"] == {"path": "x/y"}
    assert composer.compose({"model": "tiny"})["model"]["path"] == "builtin:arithmetic-tiny"
    assert composer.file_of("model", "own/small") == tmp_path / "model" / "own" / "small.yaml"


def test_a_group_without_a_default_can_be_chosen(tmp_path: Path) -> None:
    composer = Composer(written(tmp_path, "name: x\n"))
    assert composer.compose({"model": "tiny"})["model"]["path"] == "builtin:arithmetic-tiny"


def test_choices_that_are_composed_ahead_are_what_each_is_alone(tmp_path: Path) -> None:
    text = "defaults: [{algorithm: grpo}, {selection: full}]\nalgorithm: {clip_high: 0.3}\n"
    choices = {"algorithm": ["grpo", "dapo"], "selection": ["ets", "full", "gmts"], "model": ["tiny"]}
    alone, ahead = Composer(written(tmp_path, text)), Composer(written(tmp_path, text))
    ahead.compose_ahead(choices)
    for group, names in choices.items():
        for name in names:
            assert ahead.compose({group: name}) == alone.compose({group: name})
    assert ahead.compose({"algorithm": "dapo"})["algorithm"]["clip_high"] == 0.3


def test_an_own_file_wins_over_the_repositorys(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("path: my/tiny\n")
    assert Composer(written(tmp_path, "defaults: [{model: tiny}]\n")).compose({})["model"] == {"path": "my/tiny"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\n b: 2\n",
            "not valid YAML: mapping values are not allowed here\n  at: exp.yaml:2\n  fix: correct that line",
        ),
        ("a: {b: 1\n", "not valid YAML: expected ',' or '}', but got '<stream end>'\n  at: exp.yaml:2"),
        ("recipe:\n  steps: 3\n  steps: 4\n", "not valid YAML: found duplicate key steps\n  at: exp.yaml:3"),
        (
            "- a\n- b\n",
            "the experiment file is a list or a text, not a block of keys\n  at: exp.yaml\n  fix: begin with",
        ),
        (
            "x: 1\ndefaults: [{algorthm: grpo}]\n",
            "unknown group 'algorthm'\n  at: exp.yaml:2: defaults\n  fix: did you mean algorithm? valid:",
        ),
        (
            "defaults: [{algorithm: grp}]\n",
            "unknown algorithm 'grp'\n  at: exp.yaml:1: defaults: algorithm\n  fix: did you mean grpo? valid:",
        ),
        ("defaults: [other]\n", "unknown experiment 'other'\n  at: exp.yaml:1: defaults"),
        (
            "defaults: {a: b}\n",
            "the experiment cannot be composed: Invalid defaults list in 'exp', defaults must be a list",
        ),
    ],
)
def test_a_file_that_does_not_compose_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(written(tmp_path, text)).startswith(message)


def test_bad_yaml_in_a_groups_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "bad.yaml").write_text("path: [1\n")
    assert "at: model/bad.yaml:2\n" in refusal(written(tmp_path, "defaults: [{model: bad}]\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "exp.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(file).startswith("the experiment cannot be composed: 'utf-8' codec can't decode")


def test_a_missing_file_is_told_its_neighbours(tmp_path: Path) -> None:
    for name in ("smoke", "ratios"):
        (tmp_path / f"{name}.yaml").write_text("")
    assert refusal(tmp_path / "smok.yaml") == (
        f"there is no experiment file {tmp_path}/smok.yaml\n  at: smok.yaml\n".replace(f"{tmp_path}/", "")
        + f"  fix: did you mean smoke.yaml? in {tmp_path}: ratios, smoke"
    )


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "exp.yml"
    file.write_text("")
    assert refusal(file).startswith("an experiment file ends in .yaml")


def test_the_line_of_a_key_is_that_of_its_deepest_part(tmp_path: Path) -> None:
    file = written(tmp_path, "a:\n  b.c:\n    d: 1\nx: 2\n")
    assert line_of(file, ["a", "b.c", "d"]) == 3
    assert line_of(file, ["a", "missing"]) == 1
    assert line_of(file, ["missing"]) is None
