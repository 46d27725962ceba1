"""Command-line changes as Hydra users write them: `selection.ratio=[0.1,0.2] algorithm=dapo seeds=[0,1,2]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException

from orchestrator.errors import SpecError

PLACE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: a key and its new value, or several values to sweep over."""

    key: str
    value: Any
    """A list where `is_sweep`."""
    is_sweep: bool
    """Written as Hydra's sweeps are: `a,b` or `range(0,3)`."""
    text: str


def read_overrides(texts: Sequence[str]) -> tuple[Change, ...]:
    """Parse changes with Hydra's own grammar.

    Raises:
        SpecError: not `key=value`, a `+` or `~` prefix, a package, a sweep without an end, or one key changed twice.
    """
    changes = tuple(_read(text) for text in texts)
    first: dict[str, Change] = {}
    for change in changes:
        key = "seeds" if change.key == "sweep.seeds" else change.key  # two spellings of one key
        earlier = first.setdefault(key, change)
        if earlier is not change:
            raise SpecError(
                f"{key} is changed twice",
                where=f"{PLACE}: {earlier.text} {change.text}",
                fix="keep one of them; several values to sweep over are one list: key=[a,b]",
            )
    return changes


def _read(text: str) -> Change:
    where = f"{PLACE}: {text}"
    bare = text.lstrip("+~")
    if text.startswith("+"):
        raise SpecError("a change takes no `+`", where=where, fix=f"every key has its place already: write {bare}")
    if text.startswith("~"):
        key = bare.partition("=")[0]
        raise SpecError("a change takes no `~`", where=where, fix=f"to switch an option off, write {key}=null")
    try:
        parsed = OverridesParser.create().parse_override(text)
        if parsed.package is not None:
            raise SpecError("a change takes no `@package`", where=where, fix="write group=choice")
        return Change(
            key=parsed.key_or_group.replace("/", "."),
            value=_sweep_values(parsed) if parsed.is_sweep_override() else parsed.value(),
            is_sweep=parsed.is_sweep_override(),
            text=text,
        )
    except (HydraException, ValueError) as error:
        raise SpecError(
            "a change does not read as key=value",
            where=where,
            fix="write selection.ratio=0.2, selection.ratio=[0.1,0.2] or algorithm=dapo; quote a text with "
            "blanks or signs: 'model.path=\"my model\"'",
        ) from error


def _sweep_values(parsed: Override) -> list[Any]:
    if not parsed.is_discrete_sweep():
        raise SpecError(
            "a change sweeps over a list, not over an interval or a pattern",
            where=f"{PLACE}: {parsed.input_line}",
            fix=f"list the values: {parsed.key_or_group}=[…]",
        )
    return list(parsed.sweep_iterator(transformer=Transformer.identity))
