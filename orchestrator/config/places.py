"""Where an experiment says something: file and line of a dotted key, or the change on the command line.

Only error messages ask, so the files are read again then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from orchestrator.config.overrides import PLACE, Change
from orchestrator.errors import OrchError, SpecError

if TYPE_CHECKING:
    from orchestrator.config.compose import Composer


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Finds what a message is about in an experiment file, its sweep block, its groups' files, or the command line."""

    composer: Composer
    changes: Mapping[str, Change]
    """Key → change on the command line."""

    def place_of(self, key: str, chosen: Mapping[str, str]) -> str:
        """File, line and key of `key` under some group choices."""
        plain = key.removeprefix("sweep: ").removeprefix("sweep.")
        for spelled in (plain, f"sweep.{plain}"):
            if spelled in self.changes:
                return f"{PLACE}: {self.changes[spelled].text}"
        file, path = self._file_of(key, plain, chosen)
        return place_in(file, path, key)

    @contextmanager
    def told(self, chosen: Mapping[str, str]) -> Iterator[None]:
        """Turn what is refused inside into a SpecError with its place."""
        try:
            yield
        except SpecError:
            raise
        except OrchError as error:
            raise SpecError(error.what, where=self.place_of(error.where, chosen), mend=error.mend) from error

    def _file_of(self, key: str, plain: str, chosen: Mapping[str, str]) -> tuple[Path, list[str]]:
        """The file that states a key, and the way to it inside: the sweep block, the experiment, or a group's file."""
        experiment = self.composer.file
        for block in ("grid", "zip"):
            if has_key(experiment, ["sweep", block, plain]):
                return experiment, ["sweep", block, plain]
        if key.startswith("sweep"):
            return experiment, re.split(r"[.:\[]\s*", key)[:3]
        group, _, name = key.partition(".")
        path = [group, name] if name else [group]
        choice = self.composer.choice(group, chosen)
        if name and choice and not has_key(experiment, path):
            return self.composer.file_of(group, choice) or experiment, [name]
        return experiment, path


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
