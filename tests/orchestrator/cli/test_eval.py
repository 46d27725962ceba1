import json
import re
import shlex
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from typer.testing import CliRunner

from eval.errors import OrchError
from eval.grading import version
from eval.model_folder import FolderDigests, folder_digests
from orchestrator.cli.compare import compare
from orchestrator.cli.data import data
from orchestrator.cli.eval import evaluate
from orchestrator.cli.grade import grade
from orchestrator.cli.regrade import regrade

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's own

app = typer.Typer()
for name, command in {"grade": grade, "eval": evaluate, "compare": compare, "regrade": regrade}.items():
    app.command(name)(command)
app.add_typer(data, name="data")


def orch(*arguments):
    """Run a command; without MLflow, which the tests of tracking cover, unless it is asked for."""
    words = [str(argument) for argument in arguments]
    if words[0] == "eval" and "--tracking-uri" not in words:
        words.append("--no-mlflow")
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def save_model(folder, seed):
    """A Qwen2 of 40,000 random parameters over bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "<pad>", "<eos>"])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return save_model(root / "first", 0), save_model(root / "second", 1)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs"


def evaluated(model, store, *, k=2, limit=6):
    options = ("--bench", "arithmetic", "--k", k, "--limit", limit, "--max-new-tokens", 8, "--store", store, "--json")
    return json.loads(orch("eval", model, *options))


def timeless(line):
    return re.sub(r'"ms": [\d.]+', "", line)


def test_eval_keeps_its_samples_and_goes_on_from_them(two_models, store):
    (first,) = evaluated(two_models[0], store)
    files = sorted(store.glob("evaluations/*/eval/*/samples.jsonl"))
    assert len(files) == 1
    lines = files[0].read_text().splitlines()
    assert len(lines) == 12
    files[0].write_text("\n".join(lines[:5]) + "\n" + lines[5][:30])
    (again,) = evaluated(two_models[0], store)
    assert again["score"]["per_problem"] == first["score"]["per_problem"]
    assert sorted(map(timeless, files[0].read_text().splitlines())) == sorted(map(timeless, lines))
    (more,) = evaluated(two_models[0], store, k=4)
    assert {p: v[:2] for p, v in more["score"]["per_problem"].items()} == first["score"]["per_problem"]


def test_the_table_says_under_which_conditions_it_was_made(two_models, store):
    printed = orch(
        "eval", two_models[0], "--bench", "arithmetic", "--k", 2, "--limit", 3, "--max-new-tokens", 4, "--store", store
    )
    assert "3×2" in printed
    assert "template chat" in printed
    assert version.grader_version() in printed
    assert "hf " in printed


def test_compare_pairs_what_was_evaluated_alike(two_models, store, tmp_path):
    for model in two_models:
        evaluated(model, store)
    found = json.loads(orch("compare", *two_models, "--store", store, "--json", "--plot", tmp_path / "d.png"))
    row = found["benchmarks"]["arithmetic"]
    assert (row["num_problems"], row["num_samples"], row["num_seeds"]) == (6, 2, [1, 1])
    assert row["delta"] == pytest.approx(row["avg"][0] - row["avg"][1])
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    assert "One seed: no verdict." in orch("compare", *two_models, "--store", store)


def test_compare_refuses_what_was_evaluated_otherwise(two_models, store):
    evaluated(two_models[0], store)
    with pytest.raises(OrchError, match="has no scores yet"):
        orch("compare", *two_models, "--store", store)
    orch(
        "eval", two_models[1], "--bench", "arithmetic", "--k", 2, "--limit", 6, "--max-new-tokens", 9, "--store", store
    )
    with pytest.raises(OrchError, match="different conditions") as caught:
        orch("compare", *two_models, "--store", store)
    assert "max_new_tokens: 8, 9" in str(caught.value)


def test_regrade_makes_scores_of_an_older_grader_again(two_models, store):
    evaluated(two_models[0], store)
    (file,) = store.glob("evaluations/*/eval/*/score.json")
    present = version.grader_version()
    for name in ("score.json", "samples.jsonl"):
        path = file.parent / name
        path.write_text(path.read_text().replace(present, "0ld0ld0ld0ld"))
    old = file.parent.rename(file.parent.with_name("000000000000"))
    (row,) = json.loads(orch("regrade", two_models[0], "--store", store, "--json"))
    assert (row["grader_before"], row["grader_after"], row["num_changed"]) == ("0ld0ld0ld0ld", present, 0)
    assert "nothing to do" not in orch("regrade", two_models[0], "--store", store)
    assert file.exists()
    assert (old / "score.json").exists()


def test_regrade_without_a_target_takes_models_and_jsonl_benchmarks_too(two_models, store, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1+1", "answer": "2"}\n{"question": "2+2", "answer": "4"}\n')
    options = ("--k", 1, "--limit", 1, "--max-new-tokens", 4, "--template", "plain", "--store", store)
    for model in two_models:
        orch("eval", model, "--bench", f"{file},arithmetic", *options)
    present = version.grader_version()
    for path in store.glob("evaluations/*/eval/*/s*.json*"):
        path.write_text(path.read_text().replace(present, "0ld0ld0ld0ld"))
    for folder in list(store.glob("evaluations/*/eval/*")):
        folder.rename(folder.with_name(f"0ld{folder.name}"))
    rows = json.loads(orch("regrade", "--store", store, "--json"))
    assert sorted((row["benchmark"], row["grader_after"]) for row in rows) == [
        ("arithmetic", present),
        ("arithmetic", present),
        ("mine", present),
        ("mine", present),
    ]
    assert len(list(store.glob("evaluations/*/eval/0ld*"))) == 4
    file.write_text('{"question": "1+1", "answer": "3"}\n')
    with pytest.raises(OrchError, match="mine has changed since it was evaluated"):
        orch("regrade", "--store", store)


def test_other_graders_stand_beside_ours_and_are_never_mixed_with_it(two_models, store):
    for model in two_models:
        evaluated(model, store)
    present = version.grader_version()
    (row,) = json.loads(orch("regrade", two_models[0], "--grader", "qwen", "--store", store, "--json"))
    qwen = row["grader_after"]
    assert qwen.startswith("qwen:")
    assert row["grader_before"] == present
    assert "nothing to do" in orch("regrade", two_models[0], "--grader", "qwen", "--store", store)
    assert "nothing to do" in orch("regrade", "--store", store)
    scores = [json.loads(file.read_text()) for file in store.glob("evaluations/*/eval/*/score.json")]
    assert sorted(score["grader_version"] for score in scores) == sorted([present, present, qwen])
    ours, theirs = (
        next(score for score in scores if score["grader_version"] == grader and score["avg"] == average)
        for grader, average in ((present, row["before"]), (qwen, row["after"]))
    )
    assert ours["samples_digest"] == theirs["samples_digest"]
    assert json.loads(orch("compare", *two_models, "--store", store, "--json"))["graders"] == [present]
    with pytest.raises(OrchError, match="has no scores by the grader qwen yet") as caught:
        orch("compare", *two_models, "--grader", "qwen", "--store", store)
    assert caught.value.fix == "orch regrade --grader qwen"
    orch("regrade", "--grader", "qwen", "--store", store)
    assert json.loads(orch("compare", *two_models, "--grader", "qwen", "--store", store, "--json"))["graders"] == [qwen]
    assert f"Graded by {qwen}." in orch("compare", *two_models, "--grader", "qwen", "--store", store)
    # An evaluation that goes on takes over samples, never verdicts of another grader.
    (more,) = evaluated(two_models[0], store, k=4)
    assert more["score"]["grader_version"] == present


class Judge(BaseHTTPRequestHandler):
    """Takes every answer."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        reply = {
            "choices": [{"message": {"content": "VERDICT: right"}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 5},
        }
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_a_judge_grades_what_is_stored_once_and_says_what_it_cost(two_models, store):
    evaluated(two_models[0], store)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    options = ("--grader", "judge", "--judge-model", "big", "--judge-url", url, "--store", str(store))
    try:
        first = CliRunner().invoke(app, ["regrade", str(two_models[0]), *options])
        assert re.search(r"judge big: (\d+) asked, \d+ from earlier replies; \1,000 \+ \d+ tokens", first.stderr), (
            first.output
        )
        assert "→ 100.00" in first.stdout
        again = CliRunner().invoke(app, ["grade", "1", "1", "--all", "--question", "1?", *options[2:]])
        assert re.search(r"^judge +right", again.stdout, re.MULTILINE)
    finally:
        server.shutdown()
        server.server_close()
    (file,) = (score for score in store.glob("evaluations/*/eval/*/score.json") if "judge:big@" in score.read_text())
    shutil.rmtree(file.parent)
    later = CliRunner().invoke(app, ["regrade", *options])  # nobody answers any more
    assert "0 asked" in later.stderr, later.output
    assert "→ 100.00" in later.stdout


def test_grade_shows_what_all_graders_say(tmp_path):
    said = json.loads(orch("grade", "[1,2]", "(1,2)", "--all", "--json"))
    assert {name: verdict["is_correct"] for name, verdict in said.items()} == {
        "ours": False, "math_verify": False, "qwen": True, "prime": False,
    }  # fmt: skip
    printed = orch("grade", "[1,2]", "(1,2)", "--all")
    assert re.search(r"^qwen +right ", printed, re.MULTILINE)
    assert re.search(r"^prime +wrong ", printed, re.MULTILINE)
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"answer": "5", "gold": "5"}\n{"response": "So x is 5.", "gold": "5"}\n')
    rows = [json.loads(line) for line in orch("grade", "--jsonl", file, "--all").splitlines()]
    assert [row["verdicts"]["ours"]["is_correct"] for row in rows] == [True, False]
    assert [row["verdicts"]["qwen"]["is_correct"] for row in rows] == [True, True]
    (one, _) = [json.loads(line) for line in orch("grade", "--jsonl", file, "--grader", "prime").splitlines()]
    assert one["verdict"]["grader_version"].startswith("prime:")
    with pytest.raises(OrchError, match="needs a model and its endpoint"):
        orch("grade", "1", "1", "--grader", "judge")
    with pytest.raises(OrchError, match="the grader qwen asks no model"):
        orch("grade", "1", "1", "--grader", "qwen", "--judge-model", "big")


def own_benchmark(folder):
    folder.mkdir(exist_ok=True)
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(3)))
    return file


SHORT = ("--k", 2, "--limit", 3, "--max-new-tokens", 6, "--json", "--template", "plain")


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_all_benchmarks_are_sampled_as_one_stream(two_models, store, tmp_path, num_workers):
    benchmarks = f"{own_benchmark(tmp_path)},arithmetic"
    options = ("--workers", num_workers, "--store", store, *SHORT)
    (mine, sums) = json.loads(orch("eval", two_models[0], "--bench", benchmarks, *options))
    assert (mine["score"]["benchmark"], sums["score"]["benchmark"]) == ("mine", "arithmetic")
    assert mine["score"]["engine"].endswith(" × 2") is (num_workers == 2)
    assert [len(score["score"]["per_problem"]) for score in (mine, sums)] == [3, 3]


def test_two_benchmarks_of_one_name_are_refused(two_models, store, tmp_path):
    files = f"{own_benchmark(tmp_path / 'a')},{own_benchmark(tmp_path / 'b')}"
    with pytest.raises(OrchError, match="2 benchmarks are called mine"):
        orch("eval", two_models[0], "--bench", files, "--store", store, *SHORT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "MODEL", "--bench", "aime24"), "did you mean aime2024"),
        (("eval", "/nowhere/model", "--bench", "arithmetic"), "/nowhere/model"),
        (("eval", "MODEL", "--bench", "arithmetic", "--template", "chatty"), "unknown prompt template"),
        (("eval", "MODEL", "--bench", "arithmetic", "--max-new-tokens", "4000"), "context"),
        (("eval", "MODEL", "--bench", "arithmetic", "--top-p", "0"), "top_p is 0"),
        (("eval", "MODEL", "--bench", "arithmetic", "--temperature", "inf"), "temperature is inf"),
        (("eval", "MODEL", "--bench", "arithmetic", "--engine-arg", "seed=1"), "takes no --engine-arg"),
        (("eval", "MODEL", "--bench", "arithmetic", "--tensor-parallel", "2"), "takes no --tensor-parallel"),
        (("eval", "MODEL", "--bench", "arithmetic", "--engine", "vllm", "--engine-arg", "seed"), "write KEY=VALUE"),
        (("eval", "name", "--bench", "arithmetic", "--engine", "openai"), "needs an endpoint"),
        (
            ("eval", "name", "--bench", "arithmetic", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"),
            "does not answer",
        ),
        (("grade", "5"), "nothing to grade"),
        (("grade", "--jsonl", "/nowhere.jsonl"), "cannot read"),
    ],
)
def test_what_a_user_can_mend_is_one_message(two_models, store, arguments, message):
    given = [str(two_models[0]) if word == "MODEL" else word for word in arguments]
    with pytest.raises(OrchError, match=message):
        orch(*given, *(("--store", store) if given[0] == "eval" else ()))


def test_grade_explains_a_verdict():
    assert orch("grade", r"\frac{2}{4}", "0.5").startswith("right   compared as exact numbers")
    assert "no \\boxed{} answer" not in orch("grade", "5", "6")
    assert orch("grade", r"so \boxed{5", "5").startswith("wrong   the box is never closed")
    assert json.loads(orch("grade", "--json", "--kind", "integer", "--", "-5", "-5"))["is_correct"] is True


def test_grade_reads_rows_and_prints_each_with_its_verdict(tmp_path):
    rows = [
        {"answer": "1/2", "gold": "0.5", "note": 1},
        {"response": r"it is \boxed{3}", "gold": "4", "kind": "integer"},
        {"answer": 4.25, "gold": "4.2", "kind": "numeric", "tolerance": 0.1},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = [json.loads(line) for line in orch("grade", "--jsonl", file).splitlines()]
    assert [row["verdict"]["is_correct"] for row in printed] == [True, False, True]
    assert printed[0]["note"] == 1
    file.write_text('{"answer": "1"}\n')
    with pytest.raises(OrchError, match="no gold answer") as caught:
        orch("grade", "--jsonl", file)
    assert "rows.jsonl:1" in str(caught.value)


def test_data_lists_checks_and_compares_sets(tmp_path):
    listed = {row["name"]: row for row in json.loads(orch("data", "list", "--json"))}
    assert listed["aime2024"]["count"] == 30
    assert "arithmetic" in orch("data", "check", "arithmetic", "arithmetic_train")
    Path(tmp_path / "aime2024.jsonl").write_text('{"question": "q", "answer": "1"}\n')
    with pytest.raises(OrchError, match="1 of 1 sets are not as declared: aime2024"):
        orch("data", "check", "aime2024", "--data-dir", tmp_path)
    assert "0 of 100 questions" in orch("data", "overlap", "arithmetic_train", "arithmetic")


def test_scores_are_logged_to_mlflow_once_with_their_benchmark(two_models, store, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = ("--bench", "arithmetic", "--k", 2, "--limit", 3, "--max-new-tokens", 4, "--store", store)
    for _ in range(2):
        orch("eval", two_models[0], *options, "--tracking-uri", uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("evaluations")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "eval/arithmetic/avg_at_2" in run.data.metrics
    assert len(client.get_metric_history(run.info.run_id, "eval/arithmetic/avg_at_2")) == 1
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["arithmetic"]


def test_a_dead_mlflow_server_costs_no_result(two_models, store):
    options = ("--bench", "arithmetic", "--k", 1, "--limit", 2, "--max-new-tokens", 4, "--store", store)
    assert "2×1" in orch("eval", two_models[0], *options, "--tracking-uri", "http://127.0.0.1:9")


def test_new_tokens_are_capped_by_the_context_with_a_line(two_models, store, tmp_path):
    file = tmp_path / "long.jsonl"
    rows = [{"question": "x" * 150, "answer": "1"}, {"question": "y" * 20, "answer": "2"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("eval", two_models[0], "--bench", file, "--k", 1, "--template", "plain", "--store", store, "--no-mlflow")
    result = CliRunner().invoke(app, [str(word) for word in (*asked, "--limit", 1, "--json")])
    (row,) = json.loads(result.stdout)
    assert row["score"]["settings"]["max_new_tokens"] == 256 - 151
    assert "long: at most 105 new tokens, not 4,096: the model's context of 256" in result.stderr
    (both,) = json.loads(orch(*asked, "--json"))
    assert both["score"]["settings"]["max_new_tokens"] == 105


def test_a_greedy_evaluation_says_that_it_draws_once(two_models, store):
    asked = ("--bench", "arithmetic", "--limit", 2, "--max-new-tokens", 4, "--store", store)
    printed = orch("eval", two_models[0], *asked, "--k", 4, "--temperature", 0)
    assert "T=0, so each question was drawn once and counts 4 times" in printed
    assert "drawn once" not in orch("eval", two_models[0], *asked, "--k", 1, "--temperature", 0)


@pytest.fixture
def large_model(two_models, tmp_path, monkeypatch):
    """A model with a file of which earlier versions read only parts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = shutil.copytree(two_models[0], tmp_path / "large")
    (folder / "vocabulary.txt").write_bytes(bytes(5 << 20))
    return folder


def test_what_an_earlier_version_evaluated_is_found_with_a_line_and_only_for_one_content(
    large_model, store, caplog, monkeypatch
):
    digests = folder_digests(large_model)
    former = FolderDigests(digest=digests.former, former=digests.former)
    with monkeypatch.context() as earlier:
        for place in ("trainers.models.resolve", "eval.engines.hf"):
            earlier.setattr(f"{place}.folder_digests", lambda *_, **__: former)
        before = evaluated(large_model, store)
    (file,) = store.glob("evaluations/*/eval/*/samples.jsonl")
    lines = file.read_text()
    assert "earlier version" not in caplog.text
    assert evaluated(large_model, store)[0]["score"]["per_problem"] == before[0]["score"]["per_problem"]
    assert file.read_text() == lines
    assert caplog.text.count("found under the digest of an earlier version") == 1
    assert "arithmetic" in orch("compare", large_model, large_model, "--store", store)
    with (large_model / "vocabulary.txt").open("r+b") as content:
        content.seek(70_000)
        content.write(b"other")
    evaluated(large_model, store)
    assert len(list(store.glob("evaluations/*/eval/*/samples.jsonl"))) == 2


def test_what_is_printed_next_works_for_folders_and_files_too(two_models, store, tmp_path):
    file = tmp_path / "my sums.jsonl"
    file.write_text('{"question": "1+1", "answer": "2"}\n{"question": "2+2", "answer": "4"}\n')
    asked = ("--bench", file, "--k", 2, "--max-new-tokens", 4, "--template", "plain", "--store", store)
    orch("eval", two_models[0], *asked)
    printed = orch("eval", two_models[1], *asked)
    (line,) = (line for line in printed.splitlines() if line.startswith("next: orch "))
    assert "my sums" in orch(*shlex.split(line.removeprefix("next: orch ")))
