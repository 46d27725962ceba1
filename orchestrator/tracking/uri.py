"""What a tracking URI says without mlflow: a local database and its folder, or a server."""

from __future__ import annotations

from pathlib import Path

from orchestrator.store.redact import masked

_SQLITE = "sqlite:///"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI, absolute; None for other stores and for memory."""
    if not tracking_uri.startswith(_SQLITE):
        return None
    name = tracking_uri.removeprefix(_SQLITE).partition("?")[0]
    return None if name in ("", ":memory:") else Path(name).absolute()


def absolute_uri(tracking_uri: str) -> str:
    """The same URI, with the path of a local database made absolute."""
    database = sqlite_file(tracking_uri)
    if database is None:
        return tracking_uri
    query = tracking_uri.partition("?")[2]
    return f"{_SQLITE}{database}" + (f"?{query}" if query else "")


def artifact_root(tracking_uri: str) -> Path | None:
    """`mlartifacts` beside a local database; None where the server decides."""
    database = sqlite_file(tracking_uri)
    return None if database is None else database.parent / "mlartifacts"


def shown_uri(tracking_uri: str) -> str:
    """The URI without its password."""
    return masked([tracking_uri])[0]
