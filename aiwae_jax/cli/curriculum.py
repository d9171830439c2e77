"""`--curriculum=vae:0.3,aiwae+K=1+T=5:0.7`: methods one after the other, as settings of each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiwae_jax import methods
from aiwae_jax.cli.flags import UsageError, one_of, refusals, require
from aiwae_jax.cli.settings import FLAGS, OF_METHODS, Fitting, foreign_to, method_options
from aiwae_jax.options import checked, type_of

_FIELDS = {FLAGS[name]: name for name in (*OF_METHODS, "batch_size")}  # by flag

_BOOLEANS = {"true": True, "false": False}


class Part(NamedTuple):
    """A leg as it is written.

    Attributes:
      method: its name.
      given: field -> value.
      share: of the epochs.
    """

    method: str
    given: dict[str, Any]
    share: float


def parse(text: str) -> list[Part]:
    """Reads a curriculum.

    Raises:
      UsageError: for what is none.
    """
    parts = [_part(each) for each in text.replace(" ", "").split(",")]
    total = sum(part.share for part in parts)
    require(
        abs(total - 1.0) < 1e-6, f"--curriculum: the shares must sum to 1, got {total:g} in {text}."
    )
    return parts


def _part(text: str) -> Part:
    left, colon, share_text = text.rpartition(":")
    method, *flags = left.split("+")
    require(
        bool(colon), f"--curriculum must be like vae:0.3,aiwae+K=1+T=5:0.7, got {text!r} in it."
    )
    one_of("curriculum: the method", method, methods.BUILDERS)
    try:
        share = float(share_text)
    except ValueError:
        raise UsageError(f"--curriculum: {share_text!r} in {text!r} is no share.") from None
    require(
        0.0 < share <= 1.0, f"--curriculum: the share {share_text} of {text!r} must lie in (0, 1]."
    )
    given = {}
    for each in flags:
        flag, equals, value = each.partition("=")
        one_of(f"curriculum: a flag of {method}", flag, _FIELDS)
        require(bool(equals), f"--curriculum: {flag} of {text!r} must be like {flag}=1.")
        require(_FIELDS[flag] not in given, f"--curriculum: {flag} is given twice in {text!r}.")
        given[_FIELDS[flag]] = _value(_FIELDS[flag], value)
    return Part(method, given, share)


def _value(name: str, text: str) -> Any:
    """A value of a field from its text."""
    kind, _ = type_of(Fitting, name)
    try:
        value = _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise UsageError(f"--curriculum: {text!r} is no value of --{FLAGS[name]}.") from None
    with refusals(FLAGS):
        return checked(Fitting, name, value)


def write(parts: Sequence[tuple[Fitting, float]], batch_size: int) -> str:
    """The text of a curriculum that says all that is not as methods have it by themselves."""
    texts = []
    for fitting, share in parts:
        usual = {**method_options(fitting.method), "batch_size": batch_size}
        given = {name: getattr(fitting, name) for name in usual}
        said = [f"+{FLAGS[n]}={value}" for n, value in given.items() if value != usual[n]]
        texts.append(f"{fitting.method}{''.join(said)}:{share!r}")
    return ",".join(texts)


def legs_of(fitting: Fitting) -> list[tuple[Fitting, float]]:
    """Each leg's own settings, and its share; of a run without a curriculum the run itself."""
    if fitting.curriculum is None:
        return [(fitting, 1.0)]
    found = []
    for part in parse(fitting.curriculum):
        foreign = foreign_to(part.method, fitting.model)
        defaults = {f.name: f.default for f in dataclasses.fields(Fitting) if f.name in foreign}
        defaults = {name: value for name, value in defaults.items() if name in OF_METHODS}
        if "num_particles" in foreign:
            defaults["num_particles"] = 1
        own = {**defaults, **method_options(part.method), **part.given}
        found.append(
            (dataclasses.replace(fitting, method=part.method, curriculum=None, **own), part.share)
        )
    return found


def complete(given: dict[str, Any], complete_fn: Callable[[dict[str, Any]], Any]) -> Any:
    """The settings of a run with a curriculum; those of its last leg say what is reported.

    Args:
      given: field -> value; options of methods are of every leg that takes them.
      complete_fn: field -> value of a run of one method, to its whole settings.

    Raises:
      UsageError: for what cannot be run.
    """
    require("method" not in given, "--curriculum names its methods; leave --method out.")
    parts, taken = parse(given["curriculum"]), set()
    require(
        given.get("epochs") is not None,
        "--curriculum shares the --epochs of the run among its methods: say how many.",
    )
    shared = {name: value for name, value in given.items() if name != "curriculum"}
    legs = []
    for part in parts:
        foreign = foreign_to(part.method, shared.get("model", "one_layer")) & {*OF_METHODS}
        taken |= shared.keys() - foreign
        own = {name: value for name, value in shared.items() if name not in foreign}
        legs.append((complete_fn({**own, **part.given, "method": part.method}), part.share))
    if never := sorted(shared.keys() - taken):
        raise UsageError(f"--{FLAGS[never[0]]} belongs to no method of --curriculum; leave it out.")
    last = legs[-1][0]
    size = shared.get("batch_size", last.batch_size)
    text = write(legs, size)
    return dataclasses.replace(last, batch_size=size, curriculum=text)
