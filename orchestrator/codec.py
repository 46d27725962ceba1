"""Dataclasses to JSON and back, strictly: what is written reads back equal, and what does not fit is refused.

Every file of the store goes through here. Decoders are compiled once a type, so that a thousand records read in
a fraction of a second. NaN and infinities, which JSON has no word for, are written as strings.
"""

from __future__ import annotations

import dataclasses
import marshal
import math
from collections.abc import Callable
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Kind = Any
"""A type as annotations spell it: a class, a union, `tuple[int, ...]`, a Literal."""
Decoder = Callable[[Any], Any]
"""JSON value → typed value."""

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class CodecError(ValueError):
    """A JSON value does not have the declared shape; the message begins with where it stands."""

    def __init__(self, problem: str, place: str = "") -> None:
        """The place is put together as the error rises, so that values that fit pay nothing for it."""
        self.problem, self.place = problem, place
        super().__init__(f"{place}: {problem}" if place else problem)

    def within(self, step: str) -> CodecError:
        """The same problem, seen from one level further out: `.name` of a field, `[2]` of an item."""
        return CodecError(self.problem, step.removeprefix(".") if not self.place else _joined(step, self.place))


def encode(value: Any) -> Any:
    """Turn dataclasses, tuples, enums and paths into what `json.dumps(allow_nan=False)` accepts."""
    if value is None or isinstance(value, (bool, int)) or type(value) is str:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_not_finite(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _field_names(type(value))}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, Enum):
        return encode(value.value)
    if isinstance(value, (str, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def decode(kind: type[T], payload: Any) -> T:
    """Read a JSON value as `kind`.

    A field that is absent takes its default, so files written before it existed still read.

    Raises:
        CodecError: a field is missing, unknown, or of another type.
    """
    return cast(T, _decoder(cast(Kind, kind))(payload))


def _joined(step: str, place: str) -> str:
    return step.removeprefix(".") + (place if place.startswith("[") else f".{place}")


def _name_not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_PLAIN: Final = frozenset({str, int, float, bool})
"""Types that are in JSON what they are here."""
_MAX_KNOWN: Final = 256
"""Decoded sections of one kind that are kept for the next record; of a kind that hardly repeats itself, none."""
_WITHOUT_REFERENCES: Final = 2
"""Version of marshal whose bytes are equal exactly where values and their types are: 1 is not 1.0."""


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@cache
def _decoder(kind: Kind) -> Decoder:
    origin: Any = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(cast(type, kind))
    if origin in (Union, UnionType):
        return _union_decoder(get_args(kind))
    if origin is Literal:
        return _choice_decoder(get_args(kind))
    if origin is tuple:
        return _tuple_decoder(get_args(kind))
    if origin is dict:
        return _dict_decoder(get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_decoder(kind)
    return _scalar_decoder(kind)


def _scalar_decoder(kind: Kind) -> Decoder:
    if kind is Any:
        return lambda value: value
    if kind is float:
        return _decode_float
    accepted = {str: str, int: int, bool: bool, NoneType: NoneType, Path: str}
    if kind not in accepted:
        raise TypeError(f"no decoder for {kind!r}")
    json_type = accepted[kind]

    def decode_scalar(value: Any) -> Any:
        if type(value) is not json_type:
            raise CodecError(f"expected {kind.__name__}, found {value!r}")
        return Path(str(value)) if kind is Path else value

    return decode_scalar


def _decode_float(value: Any) -> float:
    if type(value) in (float, int):
        return float(value)
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise CodecError(f"expected a number, found {value!r}")


def _choice_decoder(choices: tuple[Any, ...]) -> Decoder:
    def decode_choice(value: Any) -> Any:
        if value not in choices:
            raise CodecError(f"expected one of {', '.join(map(str, choices))}, found {value!r}")
        return value

    return decode_choice


def _enum_decoder(kind: type[Enum]) -> Decoder:
    members = {member.value: member for member in kind}

    def decode_enum(value: Any) -> Enum:
        if not isinstance(value, (str, int)) or value not in members:
            raise CodecError(f"expected one of {', '.join(map(str, members))}, found {value!r}")
        return members[value]

    return decode_enum


def _union_decoder(kinds: tuple[Any, ...]) -> Decoder:
    """Try the members in turn, float last: integers stay integers, and a text that says NaN stays a text."""
    decoders = [_decoder(kind) for kind in sorted(kinds, key=lambda kind: kind is float) if kind is not NoneType]
    is_optional = NoneType in kinds

    def decode_union(value: Any) -> Any:
        if value is None and is_optional:
            return None
        errors = []
        for candidate in decoders:
            try:
                return candidate(value)
            except CodecError as error:
                errors.append(error)
        raise errors[0] if len(decoders) == 1 else CodecError(f"{value!r} fits no option")

    return decode_union


def _tuple_decoder(kinds: tuple[Any, ...]) -> Decoder:
    is_open = len(kinds) == 2 and kinds[1] is Ellipsis
    decoders = [_decoder(kind) for kind in (kinds[:1] if is_open else kinds)]

    def decode_tuple(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or (not is_open and len(value) != len(decoders)):
            raise CodecError(f"expected a list{'' if is_open else f' of {len(decoders)}'}, found {value!r}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(decoders[0 if is_open else index](item))
            except CodecError as error:
                raise error.within(f"[{index}]") from None
        return tuple(items)

    return decode_tuple


def _dict_decoder(value_kind: Any) -> Decoder:
    one = _decoder(value_kind)

    def decode_dict(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise CodecError(f"expected an object, found {value!r}")
        items = {}
        for key, item in value.items():
            try:
                items[key] = one(item)
            except CodecError as error:
                raise error.within(f".{key}") from None
        return items

    return decode_dict


def _dataclass_decoder(kind: type) -> Decoder:
    hints = get_type_hints(kind)
    is_frozen = cast(Any, kind).__dataclass_params__.frozen
    fields = {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind)}
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    known: dict[bytes, Any] = {}
    num_found = num_asked = 0

    def decode_dataclass(value: Any) -> Any:
        nonlocal num_found, num_asked
        if not isinstance(value, dict):
            raise CodecError(f"{kind.__name__}: expected an object, found {value!r}")
        if not is_frozen or num_asked > _MAX_KNOWN > 4 * num_found:
            return decode_fields(value)
        # A sweep's files repeat the same few sections a thousand times: frozen values can be shared.
        key = marshal.dumps(value, _WITHOUT_REFERENCES)
        num_asked += 1
        if key in known:
            num_found += 1
            return known[key]
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[key] = decoded = decode_fields(value)
        return decoded

    def decode_fields(value: dict[str, Any]) -> Any:
        if not value.keys() <= fields.keys():
            raise CodecError(f"{kind.__name__}: unknown field {', '.join(sorted(value.keys() - fields.keys()))}")
        if not required <= value.keys():
            raise CodecError(f"{kind.__name__}: missing field {', '.join(sorted(required - value.keys()))}")
        arguments = {}
        for name, item in value.items():
            if hints[name] is type(item) and hints[name] in _PLAIN:
                arguments[name] = item
                continue
            try:
                arguments[name] = fields[name](item)
            except CodecError as error:
                raise error.within(f".{name}") from None
        return kind(**arguments)

    return decode_dataclass
