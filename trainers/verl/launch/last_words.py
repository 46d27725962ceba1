"""What a training process said last that tells why it ended: the cause within pages of verl's, vLLM's and Ray's output.

The last traceback of the process itself counts; what its actors printed counts where it has none, or where it only
says that an actor has printed why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ACTOR = re.compile(r"(?:\x1b\[\d+m)?\((?:[\w:.<>]+ )?pid=\d+[^)]*\)(?:\x1b\[0m)? ?")
"""Ray's prefix of an actor's line."""
_EXCEPTION = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Exit|Died|Failed)\w*)(?:\(\w+\))?: (.*\S)")
_ELSEWHERE = "ResponseFailed"
"""See `trainers.verl.inside.rounds`."""
_LONGEST = 600


def last_words(text: str) -> str:
    """Return the exception that ended a process, with its message's first line; empty where there is none.

    Args:
        text: of its log.
    """
    lines = text.splitlines()
    own = _last_exception(line for line in lines if not _ACTOR.match(line))
    if own and not own.startswith(_ELSEWHERE):
        return own
    theirs = _last_exception(_ACTOR.sub("", line, count=1) for line in lines if _ACTOR.match(line))
    return ": ".join(part for part in (own, theirs) if part)


def _last_exception(lines: Iterable[str]) -> str:
    found = [match for line in lines if (match := _EXCEPTION.fullmatch(line.rstrip()))]
    return f"{found[-1][1]}: {found[-1][2]}"[:_LONGEST] if found else ""
