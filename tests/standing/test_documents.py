"""The documents stay true: links resolve, every command is documented, CI runs what the README says."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from orchestrator.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_command_is_documented_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]  # a group, since the app has several commands
    assert [name for name in commands if f"orch {name}" not in readme] == []


def test_ci_runs_the_command_that_the_readme_names() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "`make test`" in readme
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_every_dependency_is_pinned_for_cpu_machines() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in wanted}
    pins = (ROOT / "constraints" / "cpu.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins if "==" in line}
    assert names - pinned == set()


def test_the_map_names_every_file() -> None:
    with_map = runpy.run_path(str(Path(__file__).with_name("file_map.py")))["with_map"]
    document = (ROOT / "ARCHITECTURE.md").read_text()
    assert document == with_map(document), "make map writes it anew"
