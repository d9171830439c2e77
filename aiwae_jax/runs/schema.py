"""Reads JSON by the types of dataclasses and typed dicts, and says where it is something else."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, NewType

# A number that was measured; what could not be written in JSON, NaN or infinite, is null there.
Measured = NewType("Measured", float)

_NAMES = {
    int: "an integer",
    float: "a number",
    Measured: "a number or null",
    str: "a string",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    list: "a list",
}
_SHOWN = 40  # characters of a wrong value
_TOO_LARGE = 2**1023  # for a float


class SchemaError(ValueError):
    """Content of another type than it should have."""


def read(value: Any, kind: Any, place: str = "") -> Any:
    """Reads `value` as a `kind`.

    Args:
      value: parsed JSON.
      kind: a type: int, float, str, bool, None, `Measured`, a dataclass, a typed dict, `dict[str,
        X]`, `list[X]`, or a union of such.
      place: of the value in the whole, for the message.

    Returns:
      The value, with NaN for a `Measured` null, and for a dataclass a dict that has the defaults of
      fields that are not there. Keys that are not known stay.

    Raises:
      SchemaError: if it is of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(value, kind, place)
    if origin in (typing.Required, typing.NotRequired):
        return read(value, arguments[0], place)
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        required = [field.name for field in fields if field.name not in defaults]
        found = _read_items(value, typing.get_type_hints(kind), required, place)
        return found | {name: v for name, v in defaults.items() if name not in found}
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        required = [name for name in hints if name in kind.__required_keys__]
        return _read_items(value, hints, required, place)
    if origin is dict:
        hints = dict.fromkeys(value, arguments[1]) if isinstance(value, dict) else {}
        return _read_items(value, hints, (), place)
    if origin is list:
        _require(isinstance(value, list), value, list, place)
        return [read(element, arguments[0], f"{place}[{i}]") for i, element in enumerate(value)]
    return _read_plain(value, kind, place)


def _read_plain(value: Any, kind: Any, place: str) -> Any:
    if kind is Measured:
        return float("nan") if value is None else _read_plain(value, float, place)
    if kind is float:
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
        is_right = is_right and not _TOO_LARGE <= abs(value) < math.inf
    else:
        is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _require(is_right, value, kind, place)
    return value


def _read_union(value: Any, kind: Any, place: str) -> Any:
    kinds = typing.get_args(kind)
    if value is None and type(None) in kinds:
        return None
    others = [each for each in kinds if each is not type(None)]
    for each in others[:-1]:
        try:
            return read(value, each, place)
        except SchemaError:
            pass
    return read(value, others[-1], place)


def _read_items(
    value: Any, hints: dict[str, Any], required: Iterable[str], place: str
) -> dict[str, Any]:
    _require(isinstance(value, dict), value, dict, place)
    for name in required:
        if name not in value:
            raise SchemaError(f"`{_join(place, name)}` is missing")
    return {
        name: read(item, hints[name], _join(place, name)) if name in hints else item
        for name, item in value.items()
    }


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _require(condition: bool, value: Any, kind: Any, place: str) -> None:
    if condition:
        return
    shown = json.dumps(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    what = f"`{place}`" if place else "the whole"
    raise SchemaError(f"{what} must be {_NAMES[kind]}, and is {shown}")
