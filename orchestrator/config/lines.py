"""Where a YAML file says something: the line of a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    pass


def place_in(file: Path, path: Sequence[str], key: str) -> str:
    """`file:line: key`, without the line where the file has not even the first part of `path`."""
    line = line_of(file, path)
    return f"{file}{f':{line}' if line else ''}: {key}"


def line_of(file: Path, path: Sequence[str]) -> int | None:
    """Line of the deepest key of `path` that a YAML file has, or None where it has not even the first."""
    try:
        node = yaml.compose(file.read_text())
    except (yaml.YAMLError, OSError):
        return None
    line = None
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next((pair for pair in node.value if pair[0].value == name), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


def has_key(file: Path, path: Sequence[str]) -> bool:
    """Whether a YAML file holds a key at `path`."""
    try:
        node = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, OSError):
        return False
    for name in path:
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True
