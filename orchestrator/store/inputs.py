"""What a runs folder has seen of the data and weights that its trials use: trusted on first use, compared ever after.

    runs/inputs/<name>.json    source, commits and digest of the content, as this runs folder first met it

A trial's id names an input by its declared digest or its source, so that it is the same before anything is fetched;
that the content behind a source stays the same is held here. Commits are what another machine is to fetch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from orchestrator.codec import encode
from orchestrator.errors import DataError, ModelError
from orchestrator.store.files import create_json, decoded, read_json, write_json
from orchestrator.store.redact import now

FOLDER = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenInput:
    """One input as it was first used."""

    name: str
    """`math12k`, or `owner/name@revision`."""
    kind: Literal["set", "model"]
    digest: str
    """Of the normalised rows, or of the files of the model."""
    commits: dict[str, str] = field(default_factory=dict)
    """Repository → commit; empty where the input did not come from a hub."""
    seen_at: str = ""


class SeenInputs:
    """The inputs that one runs folder has seen."""

    def __init__(self, root: Path) -> None:
        """Nothing is read or made yet."""
        self._folder = root / FOLDER

    def file(self, name: str) -> Path:
        """Where an input is kept."""
        return self._folder / f"{name.replace('/', '--')}.json"

    def find(self, name: str) -> SeenInput | None:
        """The input as it was first used, or None.

        Raises:
            StoreError: the file does not read.
        """
        payload = read_json(self.file(name))
        if payload is None:
            return None
        return decoded(SeenInput, payload, what=f"what was seen of {name}", where=self.file(name))

    def commits(self, name: str) -> Mapping[str, str]:
        """Repository → the commit that this runs folder uses of it; empty before the first use."""
        seen = self.find(name)
        return {} if seen is None else seen.commits

    def check(self, found: SeenInput, *, place: Path, former: str = "") -> bool:
        """Keep what is seen for the first time, and compare it from then on; whether this was the first time.

        Args:
            found: the input as it is on this machine.
            place: where its content lies here, for the message.
            former: what earlier versions called the same content; kept under that, it is kept anew.

        Raises:
            DataError, ModelError: another content than at first. StoreError: the file does not read or write.
        """
        seen = self.find(found.name)
        if seen is None:
            if create_json(self.file(found.name), encode(replace(found, seen_at=now()))):
                return True
            seen = self.find(found.name)
        if seen is not None and seen.digest == former != found.digest:
            write_json(self.file(found.name), encode(replace(seen, digest=found.digest)))
            return True
        if seen is not None and seen.digest != found.digest:
            raise self._changed(found, seen, place)
        return False

    def _changed(self, found: SeenInput, seen: SeenInput, place: Path) -> DataError | ModelError:
        kind = ModelError if found.kind == "model" else DataError
        at = "".join(f", commit {commit}" for commit in seen.commits.values())
        return kind(
            f"{found.name} has changed since this runs folder first used it: its digest is {found.digest[:12]}…, "
            f"{seen.digest[:12]}… was seen at {seen.seen_at}{at}",
            where=f"{self.file(found.name)}: digest",
            fix=f"to have the first content again, remove {place} and run the same command: it is fetched anew; "
            "to use the new one, take another runs folder (--store), since trials of both under one id would mix",
        )
