"""Nothing that is read can run code, nothing listens beyond this machine unless asked: held for every source file."""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for layer in ("eval", "trainers", "orchestrator", "dashboards") for path in (ROOT / layer).rglob("*.py")
)
PICKLE_OWNER = "trainers/verl/launch/job.py"
"""Its file is written and read by the processes of one attempt; archives leave it out."""
CODE_LOADERS = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle")
READS = ("load", "loads", "Unpickler", "open")


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """(file, node) of all sources."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call | ast.Constant)
    )


@cache
def calls() -> tuple[tuple[str, str, ast.Call], ...]:
    """(file, dotted name, call) of all sources."""
    return tuple((file, ast.unparse(node.func), node) for file, node in nodes() if isinstance(node, ast.Call))


def offenders(is_wrong: Callable[[str, ast.Call], object]) -> list[str]:
    return [f"{file}:{node.lineno}: {name}" for file, name, node in calls() if is_wrong(name, node)]


def argument(node: ast.Call, name: str) -> str | None:
    return next((ast.unparse(one.value) for one in node.keywords if one.arg == name), None)


def test_nothing_unpickles_what_another_process_of_the_same_attempt_did_not_write() -> None:
    found = offenders(lambda name, _: name.split(".")[0] in CODE_LOADERS and name.split(".")[-1] in READS)
    assert {place.split(":")[0] for place in found} == {PICKLE_OWNER}


def test_tensors_are_read_as_weights_only() -> None:
    assert offenders(lambda name, node: name == "torch.load" and argument(node, "weights_only") != "True") == []
    assert offenders(lambda name, node: name in ("np.load", "numpy.load") and argument(node, "allow_pickle")) == []
    assert len(offenders(lambda name, _: name == "torch.load")) == 1


def test_yaml_is_read_by_its_safe_loader() -> None:
    safe = {"yaml.safe_load", "yaml.compose", "yaml.safe_dump", "yaml.dump", "yaml.YAMLError"}
    loaders = offenders(lambda name, node: name.startswith("yaml.") and name not in safe)
    assert [one for one in loaders if "Loader=yaml.SafeLoader" not in one] == []
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("!!python/object/apply:os.system ['true']")


def test_nothing_is_evaluated_or_run_through_a_shell() -> None:
    found = offenders(lambda name, node: name in ("eval", "exec", "os.system", "os.popen", "__import__"))
    # prefork.py is a Python itself: it runs the program that a caller with access to its socket, the owner, was given.
    assert [one for one in found if not one.startswith("trainers/verl/processes/prefork.py")] == []
    assert offenders(lambda _, node: argument(node, "shell") not in (None, "False")) == []


def test_a_models_own_code_is_never_trusted_by_a_literal() -> None:
    assert offenders(lambda _, node: argument(node, "trust_remote_code") == "True") == []
    assert (
        offenders(lambda name, node: name.endswith("from_pretrained") and "trust_remote_code" not in keywords(node))
        == []
    )


def keywords(node: ast.Call) -> set[str]:
    return {one.arg or "**" for one in node.keywords}


def test_no_address_but_loopback_is_written_into_a_source() -> None:
    places = [file for file, node in nodes() if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::")]
    assert places == ["orchestrator/tracking/server.py"], "which compares what a user gave as --host"
