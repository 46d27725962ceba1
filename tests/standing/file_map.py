"""The map at the end of ARCHITECTURE.md: each room, each file, the first sentence of its docstring (`make map`)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("eval", "trainers", "orchestrator", "dashboards")
BEGIN, END = "<!-- map: written by `make map` -->\n```\n", "```\n<!-- end of the map -->\n"


def file_map() -> str:
    """One line a file, rooms from the lowest package up."""
    lines: list[str] = []
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            lines += ["", f"{folder.relative_to(ROOT)}/  {_purpose(folder / '__init__.py')}"] if files else []
            lines += [f"  {path.name:<22}{_purpose(path)}" for path in files]
    return "\n".join(lines[1:]) + "\n"


def with_map(document: str) -> str:
    """The document with the map of the files that are there."""
    head, _, rest = document.partition(BEGIN)
    return head + BEGIN + file_map() + END + rest.partition(END)[2]


def _purpose(path: Path) -> str:
    """The first sentence of a docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    paragraph = (text or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[^.A-Z])\. (?=[A-Z`])", paragraph)[0].removesuffix(".")


if __name__ == "__main__":
    file = ROOT / "ARCHITECTURE.md"
    file.write_text(with_map(file.read_text()))
