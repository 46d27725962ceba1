"""The repository explains itself: whatever file, test or section its words cite is there to be opened.

Looked at are comments and docstrings of code and of data, and the documents. A citation is a path below one of the
repository's folders, a document by its name, or a Python file by its name, each with an optional `#section`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("benchmarks", "dashboards", "eval", "experiments", "orchestrator", "tests", "trainers")
FOLDERS = (*CODE, "constraints", "docs")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FILES = sorted(
    {
        *DOCUMENTS,
        *(path for folder in CODE for ending in ("py", "yaml") for path in (ROOT / folder).rglob(f"*.{ending}")),
        *(ROOT / name for name in ("Makefile", "pyproject.toml", ".ci/run", ".github/workflows/ci.yml")),
    }
    - {Path(__file__)}  # which cites what is not there to see it refused
)
NAMES = {path.name for folder in CODE for path in (ROOT / folder).rglob("*.py")}
WRITTEN = {"published.md", "table.md"}
"""Documents that orch writes."""
ELSEWHERE = {
    "tasks/gsm8k/gsm8k.yaml": "lm_eval",
    "tasks/minerva_math/utils.py": "lm_eval",
}
"""Files of other projects → the project, which the citing line or the one before must name."""

PATH = re.compile(r"(?<![\w./~-])((?:\.\./)?(?:[\w.-]+/)+[\w.-]*\w\.(?:py|md|yaml|json|txt|jsonl))(#[\w-]+)?")
DOCUMENT = re.compile(r"(?<![\w./*<{-])(\w[\w-]*\.md)(#[\w-]+)?")
MODULE = re.compile(r"`(\w+\.py)`")


def citations(text: str) -> list[tuple[str, str]]:
    """(file, section or nothing) of everything that a text cites."""
    paths = [(path, section.lstrip("#")) for path, section in PATH.findall(text) if is_claimed(path)]
    names = [(name, section.lstrip("#")) for name, section in DOCUMENT.findall(text) if name not in WRITTEN]
    return [*paths, *names, *((name, "") for name in MODULE.findall(text))]


def is_claimed(path: str) -> bool:
    """Whether a path speaks of this repository, or of what only its authors had: not of a run, a package, a user."""
    first = path.split("/")[0]
    return first in (*FOLDERS, "shared", "..") or path in ELSEWHERE


def is_there(cited: str, *, beside: Path) -> bool:
    if "/" not in cited and cited.endswith(".py"):
        return cited in NAMES or (ROOT / cited).is_file()
    return any((folder / cited).is_file() for folder in (ROOT, beside.parent, ROOT / "docs"))


def sections(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@cache
def words_of(path: Path) -> str:
    """What a file says to its readers: all of a document, comments and docstrings of code, comments of data."""
    text = path.read_text()
    if path.suffix == ".md":
        return text
    if path.suffix != ".py":
        return "\n".join(line[line.index("#") :] for line in text.splitlines() if "#" in line)
    return "\n".join([*_comments(text), *_docstrings(text)])


def _comments(code: str) -> Iterator[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def _docstrings(code: str) -> Iterator[str]:
    """Of modules, classes, functions and attributes: every string that stands alone. And texts that cite docs/."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "docs/" in node.value:
            yield node.value


def faults(path: Path, text: str) -> list[str]:
    """What a text cites and a reader of the repository cannot open."""
    found = []
    for cited, section in dict.fromkeys(citations(text)):
        if cited in ELSEWHERE:
            if ELSEWHERE[cited] not in text:
                found.append(f"{cited} without naming {ELSEWHERE[cited]}")
        elif not is_there(cited, beside=path):
            found.append(f"{cited}, which is not there")
        elif section and section not in sections(next(_candidates(cited, path))):
            found.append(f"{cited}#{section}, and there is no such section")
    return found


def _candidates(cited: str, path: Path) -> Iterator[Path]:
    yield from (folder / cited for folder in (ROOT, path.parent, ROOT / "docs") if (folder / cited).is_file())


def test_whatever_is_cited_can_be_opened() -> None:
    found = {str(path.relative_to(ROOT)): faults(path, words_of(path)) for path in FILES}
    assert {path: told for path, told in found.items() if told} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_section_finds_it(document: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text()):
        if "://" not in target:
            linked = document.parent / target if target else document
            assert section in sections(linked), f"{document.name} links to {target}#{section}"


@pytest.mark.parametrize(
    "text",
    [
        'Source: METHODS.md "Losses".',
        "see docs/nothing.md",
        "see docs/methods.md#nothing",
        "see shared/papers/gmts.txt and ../shared/data/SOURCES.json",
        "held by tests/standing/test_nothing.py",
        "as in orchestrator/nothing.py",
        "`nothing_at_all.py` decides",
        "Source: tasks/gsm8k/gsm8k.yaml",
    ],
)
def test_a_citation_of_what_is_not_there_is_refused(text: str) -> None:
    assert faults(ROOT / "orchestrator" / "plan.py", text) != []


def test_citations_of_what_is_there_are_accepted() -> None:
    text = "docs/methods.md#losses, methods.md, `test_layers.py`, tests/standing/test_layers.py, runs/x/table.md"
    assert faults(ROOT / "README.md", text) == []


def test_no_exception_outlives_its_citation() -> None:
    cited = {file for path in FILES for file, _ in citations(words_of(path))}
    assert set(ELSEWHERE) <= cited
