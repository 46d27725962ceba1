"""Rows and columns by name: as a user types them, with a guess where there is none of that name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from orchestrator.errors import OrchError


def index_of(names: Sequence[Sequence[str]], wanted: str, *, noun: str, where: str) -> int:
    """Place of the one called `wanted`, whatever its case; each has an id and maybe other spellings, which may repeat.

    Raises:
        OrchError: none is called that, or several; the nearest and all ids are named.
    """
    spelled = wanted.strip().casefold()
    for kind in range(max(len(name) for name in names)):
        found = [
            index for index, name in enumerate(names) if name[kind : kind + 1] and name[kind].casefold() == spelled
        ]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(names[index][0] for index in found)
            raise OrchError(f"{len(found)} {noun}s are called {wanted!r}", where=where, fix=f"one of: {several}")
    ids = {spelling.casefold(): name[0] for name in names for spelling in name}
    close = get_close_matches(spelled, list(ids), n=1, cutoff=0.4)
    guess = f"did you mean {ids[close[0]]}? " if close else ""
    raise OrchError(f"no {noun} {wanted!r}", where=where, fix=f"{guess}{noun}s: {', '.join(name[0] for name in names)}")
