"""Where an experiment says something: file and line of a dotted key, or the change on the command line.

Only error messages ask, so the files are read again then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.lines import has_key, place_in
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
        for change in self.changes.values():
            if isinstance(change.value, dict) and plain.startswith(change.key.removeprefix("sweep.") + "."):
                return f"{PLACE}: {change.text}"
        file, path = self._file_of(key, plain, chosen)
        return place_in(file, path, key)

    @contextmanager
    def located(self, chosen: Mapping[str, str]) -> Iterator[None]:
        """Turn what is refused inside into a SpecError with its place."""
        try:
            yield
        except SpecError:
            raise
        except OrchError as error:
            raise SpecError(error.what, where=self.place_of(error.where, chosen), fix=error.fix) from error

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
