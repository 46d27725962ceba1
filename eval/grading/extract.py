r"""Finds the final answer of a response: its last complete `\boxed{…}` or `\fbox{…}`, and nothing else.

There is no fall-back to the last number: a response without a box is wrong and counted as such, for reward and
evaluation alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

ExtractionStatus = Literal["ok", "none", "unclosed", "empty"]

MAX_BOXES = 8
"""How many boxes are looked at from the end: bounds the work on a response that opens thousands."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TOKEN = re.compile(r"\\.|[{}]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a response offers for grading."""

    answer: str | None
    """Inside of the box, stripped; None unless `status` is ok."""
    status: ExtractionStatus


def extract(response: str) -> Extraction:
    r"""Return the content of the last complete box, with nested boxes unwrapped.

    Escaped braces do not count for closing: `\boxed{\{1, 2\}}` holds `\{1, 2\}`. Linear in the response's length.
    """
    if "\\boxed" not in response and "\\fbox" not in response:
        return Extraction(None, "none")
    opened = [match.span() for match in _BOX.finditer(response)]
    if not opened:
        return Extraction(None, "none")
    span = _last_complete(response, opened[-MAX_BOXES:])
    if span is None:
        return Extraction(None, "unclosed")
    content = _unwrap(response[span[0] : span[1]])
    return Extraction(content, "ok") if content else Extraction(None, "empty")


def _last_complete(text: str, opened: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the content span of the last complete box, or of the box around it."""
    found: tuple[int, int] | None = None
    for _, inside in reversed(opened):
        end = _closing(text, inside)
        if end is None:
            continue
        if found is None or end > found[1]:
            found = (inside, end)
        else:
            break
    return found


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for match in _TOKEN.finditer(text, start):
        token = match.group()
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return None


def _unwrap(content: str) -> str:
    for _ in range(MAX_BOXES):
        match = _BOX.search(content)
        end = _closing(content, match.end()) if match else None
        if match is None or end is None:
            break
        content = content[: match.start()] + content[match.end() : end] + content[end + 1 :]
    return content.strip()
