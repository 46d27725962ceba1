import json
import subprocess
import sys

import pytest

from eval.benchmarks import gpqa_diamond, gsm8k
from eval.benchmarks.declaration import digest_of_problems
from eval.benchmarks.registry import NAMES, declared, digest, load
from eval.errors import DataError

LOCAL = (
    "aime2023",
    "aime2024",
    "aime2025",
    "amc23",
    "math500",
    "minerva_math",
    "olympiadbench",
    "gsm8k",
    "mmlu_stem",
    "gsm8k_train",
    "math_train_part",
)


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("name", LOCAL)
def test_every_local_set_has_the_declared_rows(name, data_folder):
    benchmark = load(name, data_folder=data_folder)
    declaration = declared(name)
    assert len(benchmark.problems) == declaration.count
    assert benchmark.digest == declaration.digest == digest_of_problems(benchmark.problems)
    assert len({problem.id for problem in benchmark.problems}) == declaration.count
    for problem in benchmark.problems:
        assert problem.question
        assert problem.answer
        if problem.kind == "integer":
            assert str(int(problem.answer)) == problem.answer
        if problem.kind == "choice":
            assert "ABCD".index(problem.answer) < len(problem.choices) == 4


def test_a_limit_keeps_the_first_rows_and_the_digest_of_the_whole(data_folder):
    whole = load("aime2024", data_folder=data_folder)
    part = load("aime2024", data_folder=data_folder, limit=3)
    assert part.problems == whole.problems[:3]
    assert part.digest == whole.digest


def test_a_stated_error_makes_an_answer_numeric(data_folder):
    numeric = [p for p in load("olympiadbench", data_folder=data_folder).problems if p.tolerance is not None]
    assert [(p.answer, p.kind, p.tolerance) for p in numeric] == [("4.2", "numeric", 0.1)]


def test_a_changed_row_is_refused(tmp_path, data_folder):
    text = (data_folder / "aime2024.jsonl").read_text()
    (tmp_path / "aime2024.jsonl").write_text(text.replace('"answer": "204"', '"answer": "205"'))
    with pytest.raises(DataError, match="not the declared set"):
        load("aime2024", data_folder=tmp_path)


def test_a_missing_row_is_refused(tmp_path, data_folder):
    lines = (data_folder / "aime2024.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "aime2024.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="29 rows, but 30"):
        load("aime2024", data_folder=tmp_path)


def test_spelling_of_integers_does_not_change_the_digest(tmp_path, data_folder):
    rows = [json.loads(line) for line in (data_folder / "amc23.jsonl").read_text().splitlines()]
    for row in rows:
        row["answer"] = f"{row['answer']}.0"
    write_rows(tmp_path / "amc23.jsonl", rows)
    assert load("amc23", data_folder=tmp_path).digest == declared("amc23").digest


def test_an_unknown_name_proposes_the_nearest():
    with pytest.raises(DataError, match="did you mean aime2024"):
        declared("aime24")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "1+1?"}', "no answer"),
        ('{"question": "", "answer": "2"}', "no question"),
        ('{"question": "q", "answer": "2", "error": "abc"}', "error is 'abc'"),
        ('{"question": "q", "answer": "2", "error": -1}', "error is -1"),
        ('{"question": "q", "answer": "2", "error": true}', "error is True"),
        ('{"question": "q", "answer": "2", "error": [1]}', "error is \\[1\\]"),
        ('{"question": "q", "answer": "A", "choices": 5}', "choices are 5"),
        ('{"question": "q", "answer": "A", "choices": "AB"}', "choices are 'AB'"),
        ('{"question": "q", "answer": "A", "choices": [{}]}', "choices are"),
        ('{"question": "1+1?", "answer": "2"', "not a JSON row"),
        ("[1]", "not a JSON object"),
        ('{"question": "1+1?", "answer": "x", "kind": "integer"}', "not an integer"),
        ('{"question": "1+1?", "answer": "E", "kind": "choice", "choices": ["a", "b"]}', "not one of the 2 choices"),
        ('{"question": "1+1?", "answer": "2", "kind": "essay"}', "unknown answer kind"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(tmp_path, line, message):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "0+1?", "answer": "1"}\n' + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        load(str(file), data_folder=None)
    assert "mine.jsonl:2" in str(caught.value)


def test_invalid_utf8_is_named_with_its_line(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'{"question": "\xff", "answer": "1"}\n')
    with pytest.raises(DataError, match="not a JSON row"):
        load(str(file), data_folder=None)


def test_a_users_file_is_read_and_keyed_by_its_bytes(tmp_path):
    rows = [{"question": "1+1?", "answer": 2, "kind": "integer"}, {"question": "x?", "answer": "x^2"}]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    benchmark = load(str(file), data_folder=None)
    assert [(p.id, p.answer, p.kind) for p in benchmark.problems] == [
        ("mine-0000", "2", "integer"),
        ("mine-0001", "x^2", "expression"),
    ]
    before = digest(str(file), None)
    assert benchmark.digest == before
    write_rows(file, rows[:1])
    assert digest(str(file), None) != before


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        load(str(tmp_path / "none.jsonl"), data_folder=None)


def test_a_set_without_declared_digest_must_be_fetched_before_planning(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match="orch data fetch gpqa_diamond"):
        digest("gpqa_diamond", tmp_path)


def test_gpqa_options_are_permuted_by_the_question_alone():
    row = {"Question": "Which?", "Correct Answer": "right", **{f"Incorrect Answer {n}": f"w{n}" for n in (1, 2, 3)}}
    read = gpqa_diamond.DECLARATION.hub[0].read(row)
    assert read is not None
    assert read["choices"]["ABCD".index(read["answer"])] == "right"
    assert sorted(gpqa_diamond.permutation("Which?")) == [0, 1, 2, 3]
    orders = {gpqa_diamond.permutation(f"question {number}") for number in range(500)}
    assert len(orders) == 24


def test_gsm8k_rows_of_the_hub_are_read_after_the_four_hashes():
    assert gsm8k.read_row({"question": "q", "answer": "1,000+5=1,005\n#### 1,005"})["answer"] == "1005"


def test_every_name_is_declared_with_a_licence_and_a_source():
    for name in NAMES:
        declaration = declared(name)
        assert declaration.name == name
        assert declaration.licence
        assert declaration.hub or name in ("math_train_part", "arithmetic", "arithmetic_train")


def test_declarations_load_no_heavy_library():
    code = (
        "import sys; from eval.benchmarks.registry import declared, digest; digest('math500', None);"
        "print([m for m in ('torch','datasets','transformers','numpy','pandas','scipy','sympy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
