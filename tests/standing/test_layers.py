"""The import rule: packages and rooms in floors, no circle anywhere, no crowded room, and light modules stay light.

Every import counts: those inside functions and those for type checkers as well.
"""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["eval", "trainers", "orchestrator", "dashboards"]
FLOORS = [
    ("errors", "codec"),
    ("config",),
    ("sizing",),
    ("plan",),
    ("store",),
    ("evaluations", "trial", "status"),
    ("archive", "sweep", "tracking"),
    ("forecast",),
    ("cli",),
]
"""The rooms of orchestrator/, from the ground up; each imports only from those below it."""
MOST_FILES = 20
CROWDED = {
    "orchestrator/cli": "one file a command",
}
HEAVY = ["ray", "torch", "verl", "vllm", "mlflow", "transformers"]
LIGHT_MODULES = [
    "eval.api",
    "trainers.api",
    "trainers.recipe",
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


@cache
def import_statements(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.level == 0 and node.module:
            names.add(node.module)
    return names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports; `from package import name` is the module, where it is one."""
    modules = {module_of(path): path for path in sources()}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        found[module] = set()
        for node in import_statements(path):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= (names & modules.keys()) or {node.module}
            elif isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names} & modules.keys()
    return found


def test_no_module_imports_itself_by_any_way() -> None:
    waiting = {module: others - {module} for module, others in imports().items()}
    while free := {module for module, others in waiting.items() if not others}:
        waiting = {module: others - free for module, others in waiting.items() if module not in free}
    assert waiting == {}, "what is left imports in a circle, or something that does"


def test_a_room_imports_from_lower_floors_only() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for module, others in imports().items():
        for other in others:
            ours, theirs = module.split("."), other.split(".")
            if ours[0] != "orchestrator" or theirs[0] != "orchestrator" or min(len(ours), len(theirs)) < 2:
                continue
            assert ours[1] == theirs[1] or floor[theirs[1]] < floor[ours[1]], f"{module} imports {other}"


def test_no_room_is_crowded() -> None:
    folders = {path.parent for path in sources()}
    counts = {
        str(folder.relative_to(ROOT)): len([file for file in folder.glob("*.py") if file.name != "__init__.py"])
        for folder in folders
    }
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES and folder not in CROWDED} == {}
    assert all(counts[folder] > MOST_FILES for folder in CROWDED), "an exception that is none any more"


def test_a_module_imports_only_its_own_layer_and_those_below() -> None:
    offenders = []
    for path in sources():
        file = path.relative_to(ROOT).as_posix()
        allowed = LAYERS[: LAYERS.index(file.split("/")[0]) + 1]
        if file.startswith("orchestrator/cli/"):  # the composition root
            allowed = LAYERS
        packages = {name.split(".")[0] for name in imported_modules(path)} & set(LAYERS)
        offenders += [f"{file} imports {package}" for package in packages - set(allowed)]
    assert offenders == []


@pytest.mark.parametrize(("library", "owners"), OWNERS.items())
def test_a_heavy_library_has_its_owners(library: str, owners: set[str]) -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if any(name.split(".")[0] == library for name in imported_modules(path))
    }
    assert {path for path in importers if not path.startswith(VERL)} <= owners


def test_nothing_uses_what_ray_calls_private() -> None:
    private = [path for path in sources() if any(name.startswith("ray._private") for name in imported_modules(path))]
    assert private == []


def test_nothing_rebinds_the_builtin_eval() -> None:
    offenders = [
        path
        for path in sources()
        for name in import_statements(path)
        if isinstance(name, ast.Import) and any(alias.name.split(".")[0] == "eval" for alias in name.names)
    ]
    assert offenders == []


def test_light_modules_load_nothing_heavy() -> None:
    code = "\n".join(
        f"import {module}; print({module!r}, [m for m in {HEAVY!r} if m in sys.modules])" for module in LIGHT_MODULES
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, cwd=ROOT, env=os.environ.copy()
    )
    assert done.stdout.splitlines() == [f"{module} []" for module in LIGHT_MODULES], done.stderr
