"""What a training process said last that tells why it ended: the cause within pages of verl's, vLLM's and Ray's output.

The last traceback of the process itself counts; what its actors printed counts where it has none.
"""

from __future__ import annotations

import re

_ACTOR = re.compile(r"(?:\x1b\[\d+m)?\((?:[\w:.<>]+ )?pid=\d+[^)]*\)(?:\x1b\[0m)? ?")
"""Ray's prefix of an actor's line."""
_EXCEPTION = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Exit|Died)\w*)(?:\(\w+\))?: (.*\S)")
_LONGEST = 600


def last_words(text: str) -> str:
    """Return the exception that ended a process, with its message's first line; empty where there is none.

    Args:
        text: of its log.
    """
    lines = text.splitlines()
    own = [line for line in lines if not _ACTOR.match(line)]
    for candidates in (own, [_ACTOR.sub("", line, count=1) for line in lines]):
        found = [match for line in candidates if (match := _EXCEPTION.fullmatch(line))]
        if found:
            name, message = found[-1].groups()
            return f"{name}: {message}"[:_LONGEST]
    return ""
