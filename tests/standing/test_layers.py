"""The import rule: eval ← trainers ← orchestrator ← dashboards, and light modules stay light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["eval", "trainers", "orchestrator", "dashboards"]
HEAVY = ["ray", "torch", "verl", "vllm", "mlflow", "transformers"]
LIGHT_MODULES = [
    "eval.api",
    "trainers.api",
    "orchestrator.config.spec",
    "orchestrator.plan.make",
    "orchestrator.plan.identity",
    "orchestrator.plan.trial",
    "orchestrator.store.record",
    "orchestrator.store.store",
    "orchestrator.errors",
    "orchestrator.cli",
]
# The modules that may import each library, even inside a function; trainers/verl runs inside verl, Ray and vLLM.
OWNERS = {
    "ray": {"orchestrator/sweep/ray_tune.py", "orchestrator/sweep/ray_nodes.py"},
    "vllm": {"eval/engines/vllm.py"},
}
VERL = "trainers/verl/"


def sources() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    own = LAYERS.index(path.relative_to(ROOT).parts[0])
    is_composition_root = path.relative_to(ROOT).as_posix().startswith("orchestrator/cli/")
    for name in imported_modules(path):
        package = name.split(".")[0]
        if package not in LAYERS:
            continue
        allowed = LAYERS.index(package) <= own or (package == "dashboards" and is_composition_root)
        assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(("library", "owners"), OWNERS.items())
def test_a_heavy_library_has_its_owners(library: str, owners: set[str]) -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if any(name.split(".")[0] == library for name in imported_modules(path))
    }
    assert {path for path in importers if not path.startswith(VERL)} <= owners


def test_nothing_rebinds_the_builtin_eval() -> None:
    offenders = [
        path
        for path in sources()
        for name in ast.walk(ast.parse(path.read_text()))
        if isinstance(name, ast.Import) and any(alias.name.split(".")[0] == "eval" for alias in name.names)
    ]
    assert offenders == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ.copy())
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
