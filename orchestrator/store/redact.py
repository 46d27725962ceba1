"""What goes on record or into a log: the time in one format, and no secret, whoever wrote the text."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime

_SECRET_NAME = re.compile(r"(?i)((?<![a-z])token(?!s|izer)|secret|passw|api[-_]?key|credential)")

_URL_PASSWORD = re.compile(r"(://[^/\s:@]+:)[^@\s]+(@)")

_SHORTEST_SECRET = 8
"""Characters; what is shorter may be a word or a number of any text."""


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds and a Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line with the values of anything named like a credential, and passwords in URLs, starred out."""
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, _value = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append("***")
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=***")
        else:
            shown.append(_URL_PASSWORD.sub(r"\1***\2", argument))
        hide_next = argument.startswith("-") and not equals and bool(_SECRET_NAME.search(argument))
    return tuple(shown)


def without_secrets(text: str) -> str:
    """The text with the values of environment variables named like credentials starred out, as libraries quote them."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name) and value in text:
            text = text.replace(value, "***")
    return text


class SecretlessFormatter(logging.Formatter):
    """Formats log records, tracebacks included, `without_secrets`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return without_secrets(super().format(record))
