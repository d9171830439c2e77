"""Settings as dataclasses whose fields say all there is to an option: help, choices, bounds, flag.

One option is one field and its use: `check` refuses what the field excludes, and a command makes
its flag of it.
"""

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from aiwae_jax import checks

_RULES = {
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
    "multiple_of": ("a multiple of", lambda value, of: value % of == 0),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """Everything that is said of an option, as the metadata of its field.

    Attributes:
      help: one or two sentences for a person at a command line.
      flag: its name there, if that is not the field's own.
      choices: the words that it may be.
      at_least: of a number, a bound that it may reach.
      at_most: likewise.
      above: a bound that it may not reach.
      below: likewise.
      multiple_of: what it must be a multiple of.
    """

    help: str
    flag: str | None = None
    choices: Sequence[str] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    multiple_of: int | None = None

    def refuse(self, name: str, value: float) -> None:
        """Raises ValueError for a number that is not finite, or that a bound excludes."""
        if not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite, got {value}.")
        for rule, (words, is_within) in _RULES.items():
            bound = getattr(self, rule)
            if bound is not None and not is_within(value, bound):
                words = "positive" if (rule, bound) == ("above", 0) else f"{words} {bound:,}"
                raise ValueError(f"`{name}` must be {words}, got {value}.")


def option(default: Any = dataclasses.MISSING, /, **said: Any) -> Any:
    """A field of a settings dataclass; `said` are the attributes of its `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(**said)})


def options_of(settings: Any) -> Iterator[tuple[dataclasses.Field, Option]]:
    """The fields of a dataclass, or of one of its objects, that are options."""
    for field in dataclasses.fields(settings):
        if "option" in field.metadata:
            yield field, field.metadata["option"]


def type_of(settings: type, name: str) -> tuple[type, bool]:
    """The type of a field, and whether it may be None."""
    hint = typing.get_type_hints(settings)[name]
    if isinstance(hint, types.UnionType):
        (kind,) = set(typing.get_args(hint)) - {type(None)}
        return kind, True
    return hint, False


def check(settings: Any) -> None:
    """Refuses what the options' types, choices and bounds exclude; numbers become Python's own.

    Called in the `__post_init__` of a dataclass, so that a setting is refused once, wherever it
    comes from.

    Raises:
      TypeError: for a value of another kind.
      ValueError: for one that is excluded.
    """
    for field, _ in options_of(settings):
        value = checked(type(settings), field.name, getattr(settings, field.name))
        object.__setattr__(settings, field.name, value)


def checked(settings: type, name: str, value: Any) -> Any:
    """One option's value, as Python has it; raises as `check` does."""
    said = next(said for field, said in options_of(settings) if field.name == name)
    kind, may_be_none = type_of(settings, name)
    if value is None and may_be_none:
        return None
    if said.choices and value not in said.choices:
        raise ValueError(f"`{name}` must be one of {', '.join(said.choices)}; got {value!r}.")
    if kind in (int, float):
        value = checks.integer(name, value) if kind is int else float(checks.real(name, value))
        said.refuse(name, value)
    return value
