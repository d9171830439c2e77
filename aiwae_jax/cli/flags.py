"""Flags made of settings, one for each option; parsing, help, and errors of one line."""

import contextlib
import dataclasses
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from absl import flags as absl_flags

from aiwae_jax.options import Option, checked, options_of, type_of

_DEFINE = {
    bool: absl_flags.DEFINE_bool,
    int: absl_flags.DEFINE_integer,
    float: absl_flags.DEFINE_float,
    str: absl_flags.DEFINE_string,
}


_QUOTE = "'"
_HELP = {"width": 88, "initial_indent": "  ", "subsequent_indent": "    "}


class UsageError(ValueError):
    """A user's mistake on the command line; the message is one clear line."""


def _options(
    settings: type, without: Sequence[str], prefix: str
) -> Iterator[tuple[dataclasses.Field, Option, str]]:
    """The options of a dataclass with their flags; those without a default come first."""
    for field, said in sorted(options_of(settings), key=lambda each: _has_default(each[0])):
        if field.name not in without:
            yield field, said, (said.flag or field.name).removeprefix(prefix)


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING


def define_options(
    fv: absl_flags.FlagValues,
    settings: type,
    help_fn: Callable[[str, Option], str] = lambda field, said: said.help,
    *,
    without: Sequence[str] = (),
    prefix: str = "",
) -> None:
    """Defines the flag of every option of a dataclass; none has a value before it is given.

    Args:
      fv: where.
      settings: the dataclass.
      help_fn: `help_fn(field, option)`, the help of a flag.
      without: fields that get none.
      prefix: what is left out of the flags' names.
    """
    for field, said, flag in _options(settings, without, prefix):
        text = help_fn(field.name, said)
        if _has_default(field) and field.default is not None and field.default is not False:
            text += "" if "Default" in text else f" Default {field.default}."
        kind, _ = type_of(settings, field.name)
        _DEFINE[kind](flag, None, text, flag_values=fv)
        fv[flag].choices = said.choices


def names_of(settings: type, *, without: Sequence[str] = (), prefix: str = "") -> dict[str, str]:
    """Field -> flag, of all options of a dataclass; arguments as in `define_options`."""
    return {field.name: flag for field, _, flag in _options(settings, without, prefix)}


def given(fv: absl_flags.FlagValues, settings: type, **options: Any) -> dict[str, Any]:
    """Field -> value, of the options whose flags were given; `options` as in `define_options`.

    Raises:
      UsageError: for a value that its option excludes, whatever the others are.
    """
    names = names_of(settings, **options)
    with refusals(names):
        return {
            name: checked(settings, name, fv[flag].value)
            for name, flag in names.items()
            if fv[flag].present
        }


def make(fv: absl_flags.FlagValues, settings: type, **options: Any) -> Any:
    """The settings that the flags describe; `options` as in `define_options`.

    Raises:
      UsageError: for what cannot be.
    """
    found = given(fv, settings, **options)
    with refusals(names_of(settings, **options)):
        return settings(**found)


def arguments(settings: type, values: dict[str, Any]) -> list[str]:
    """The flags that give the options these values; None is left to its default."""
    return [
        f"--{flag}={values[name]}"
        for name, flag in names_of(settings).items()
        if values.get(name) is not None
    ]


# `name`, `name`=value or `name=value`, as the library writes an argument.
_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]+))?`(?:=('[^']*'|[\w.+-]*\w))?")


def in_flags(message: str, names: dict[str, str]) -> str:
    """A refusal of the library in the words of the command line: arguments become flags."""

    def flag(match: re.Match) -> str:
        name, inside, after = match.groups()
        if name not in names:
            return match[0]
        value = inside or after
        return f"--{names[name]}" + (f"={value.strip(_QUOTE)}" if value else "")

    return _ARGUMENT.sub(flag, message)


@contextlib.contextmanager
def refusals(names: dict[str, str]) -> Iterator[None]:
    """Raises what the library refuses inside as a UsageError that names flags.

    Args:
      names: argument -> flag.
    """
    try:
        yield
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(in_flags(str(error), names)) from None


def define(fv: absl_flags.FlagValues) -> None:
    """Flags of every command."""
    absl_flags.DEFINE_bool("help", False, "Shows this help.", flag_values=fv, short_name="h")
    absl_flags.DEFINE_string(
        "data_dir",
        None,
        "Folder with raw files, in DIR/<dataset>/ or DIR itself (MNIST: the four IDX files, "
        "gzipped or not; Omniglot: chardata.mat), or a TFDS folder. Without it: TFDS, then a "
        "download.",
        flag_values=fv,
    )


def parse(
    fv: absl_flags.FlagValues,
    argv: Sequence[str],
    usage: str,
    *,
    known_only: bool = False,
    arguments: Sequence[str] = (),
) -> list[str]:
    """Parses, or prints the help and exits; returns what is no flag of these.

    Args:
      fv: the flags.
      argv: of which the first is the command.
      usage: the help's first line.
      known_only: whether there may be flags that are not known, which are returned.
      arguments: names of what is given without a flag, which is returned.

    Raises:
      UsageError: for what is no flag, no value of one, no finite number, or two values of one.
    """
    for name in fv:
        _take_one_value(fv[name])
    try:
        rest = fv(argv, known_only=known_only)
    except absl_flags.IllegalFlagValueError as error:
        found = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
        if found is None or found[1] not in fv:
            raise UsageError(str(error).splitlines()[0]) from None
        what = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        kind = what.get(fv[found[1]].parser.flag_type(), "something else")
        raise UsageError(f"--{found[1]} must be {kind}, got {found[2]!r}.") from None
    except absl_flags.Error as error:
        raise UsageError(f"{str(error).splitlines()[0]} (--help lists the flags)") from None
    if fv["help"].value:
        print(f"{usage}\n\n{_help_text(fv)}")
        sys.exit(0)
    unknown = [argument for argument in rest[1:] if known_only and argument.startswith("--")]
    others = [argument for argument in rest[1:] if argument not in unknown]
    if len(others) > len(arguments):
        raise UsageError(
            f"Unexpected argument {others[len(arguments)]!r}; flags are written --name=value."
        )
    missing = arguments[len(others) :]
    require(not missing, f"{' and '.join(missing)} is missing (--help says more).")
    for name, value in fv.flag_values_dict().items():
        require(
            not isinstance(value, float) or math.isfinite(value),
            f"--{name} must be a finite number, got {value}.",
        )
    return [*others, *unknown]


def _take_one_value(flag: absl_flags.Flag) -> None:
    """Makes a flag refuse another value than the one that it has been given."""
    parse, given = flag.parse, []

    def parse_once(argument: str) -> None:
        parse(argument)
        given.append(flag.value)
        require(
            str(flag.value) == str(given[0]),
            f"--{flag.name} is given twice, as {given[0]} and as {flag.value}; leave one out.",
        )

    flag.parse = parse_once


def _help_text(fv: absl_flags.FlagValues) -> str:
    lines = []
    for flags in fv.flags_by_module_dict().values():
        for flag in flags:
            value = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
            default = "" if value is None or flag.boolean else f" (default {value})"
            choices = getattr(flag, "choices", ())
            values = f"  one of {', '.join(choices)}" if choices else ""
            lines += textwrap.wrap(f"--{flag.name}{default}{values}", **_HELP)
            lines.append(absl_flags.text_wrap(flag.help, length=88, indent="      "))
    return "\n".join(lines)


def require(condition: bool, message: str) -> None:
    """Raises UsageError unless the condition holds."""
    if not condition:
        raise UsageError(message)


def check_folder(name: str, value: str) -> None:
    """Raises UsageError for a folder whose name checkpoints cannot have."""
    try:
        os.path.abspath(value).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"--{name}={value}: checkpoints need a folder whose name is UTF-8; use another one, "
            "or PYTHONUTF8=1 if it is."
        ) from None


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raises UsageError for an unknown name, and lists the known ones."""
    require(value in known, f"--{name} must be one of {', '.join(known)}; got {value!r}.")
