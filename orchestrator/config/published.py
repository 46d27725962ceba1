"""The block `published:` of an experiment: the printed tables that its numbers are put beside.

    published:
      tables: [gmts_table4, gmts_table1]    # rows as the first prints them, then what only the others print
      stands_for:                           # for a scaled twin: what its own model and data take the place of
        model: Qwen2.5-Math-1.5B

It changes no trial. Whether a table of that name exists is for `dashboards.papers` to say, which reads it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from orchestrator.config.blocks import Misfit
from orchestrator.config.fields import check_name, convert

KEY = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandsFor:
    """What of the paper an experiment's own parts take the place of; None where they are the paper's own."""

    model: str | None = None
    training_data: str | None = None
    max_response_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBlock:
    """A checked block."""

    tables: tuple[str, ...]
    """Ids of `dashboards/papers/*.yaml`."""
    stands_for: StandsFor = StandsFor()


def read_published(block: Any) -> PublishedBlock | None:
    """Check the block as YAML gives it; None where the experiment has none.

    Raises:
        Misfit: an unknown key, no table, or a value of the wrong type.
    """
    if block is None:
        return None
    values = _mapping(block, KEY)
    for name in values:
        check_name("key", name, ("tables", "stands_for"), where=f"{KEY}.{name}")
    tables = convert(values.get("tables", []), tuple[str, ...], key=f"{KEY}.tables")
    if not tables or len(set(tables)) < len(tables):
        raise Misfit(
            f"{KEY}.tables is {list(tables)}",
            where=f"{KEY}.tables",
            fix="list different tables of `orch paper list`, the one whose rows are wanted first",
        )
    return PublishedBlock(tables=tables, stands_for=_stands_for(values.get("stands_for")))


def _stands_for(block: Any) -> StandsFor:
    where = f"{KEY}.stands_for"
    values = _mapping({} if block is None else block, where)
    hints = get_type_hints(StandsFor)
    for name in values:
        check_name("key", name, [field.name for field in fields(StandsFor)], where=f"{where}.{name}")
    return StandsFor(**{name: convert(value, hints[name], key=f"{where}.{name}") for name, value in values.items()})


def _mapping(block: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(block, Mapping):
        raise Misfit(f"{where} is {block!r}, no block of keys", where=where, fix="write `key: value` lines under it")
    return block
