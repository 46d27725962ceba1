"""Which grader gave a verdict: a hash over this package's code and the versions of what it calls."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime")


@cache
def grader_version() -> str:
    """Return 12 hex digits that change whenever a verdict could."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    for library, version in library_versions().items():
        digest.update(f"{library}=={version}\n".encode())
    return digest.hexdigest()[:12]


@cache
def library_versions() -> dict[str, str]:
    """Return the installed version of every library a verdict depends on; `absent` where it is not installed."""
    return {library: _version(library) for library in LIBRARIES}


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


GRADER_VERSION = grader_version()
