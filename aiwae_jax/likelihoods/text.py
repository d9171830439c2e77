"""Likelihoods as a command has them: `normal`, or `normal:age,income;categorical:colour`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax.likelihoods import bits, classes, counts, mixed, pixels, real
from aiwae_jax.likelihoods.base import Likelihood
from aiwae_jax.likelihoods.missing import masked

BUILDERS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": bits.bernoulli,
    "normal": real.normal,
    "student_t": real.student_t,
    "discretized_logistic": pixels.discretized_logistic,
    "categorical": classes.categorical,
    "poisson": counts.poisson,
    "negative_binomial": counts.negative_binomial,
    "zero_inflated_negative_binomial": counts.zero_inflated_negative_binomial,
}
REAL = ("normal", "student_t")
_LEAST_SCALE = 1e-3  # of a learned scale, in standard deviations of the training data
_BOOLEANS = {"true": True, "false": False}


class Part(NamedTuple):
    """A likelihood as it is written.

    Attributes:
      name: one of `BUILDERS`.
      options: arguments of its builder.
      columns: names of its columns; None for all that no other part names.
    """

    name: str
    options: dict[str, Any]
    columns: tuple[str, ...] | None


def parse(text: str) -> list[Part]:
    """Reads a likelihood, or several: NAME or NAME+option=value, each with :COLUMN,COLUMN or not.

    Raises:
      ValueError: for what is none, with what there is.
    """
    parts = [_part(each.strip(), text) for each in text.split(";")]
    if sum(part.columns is None for part in parts) > 1:
        raise ValueError(
            f"`likelihood` must name the columns of all parts but one, got {text!r}; write "
            "normal:age,income;categorical:colour."
        )
    named = [name for part in parts for name in part.columns or ()]
    if twice := [name for i, name in enumerate(named) if name in named[:i]]:
        raise ValueError(f"`likelihood` names the column {twice[0]!r} twice in {text!r}.")
    return parts


def _part(each: str, text: str) -> Part:
    head, colon, names = each.partition(":")
    name, *settings = (word.strip() for word in head.split("+"))
    if name not in BUILDERS:
        raise ValueError(
            f"`likelihood` must be one of {', '.join(BUILDERS)}, or several with their columns, "
            f"normal:age,income;categorical:colour; got {name!r}"
            f"{'' if name == text else f' in {text!r}'}."
        )
    known = inspect.signature(BUILDERS[name]).parameters
    options = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if option not in known or not equals:
            raise ValueError(
                f"`likelihood`: {setting!r} in {text!r} is no option of {name}; it has "
                f"{', '.join(f'{n}=...' for n in known) or 'none'}."
            )
        options[option] = _value(value)
    columns = tuple(n.strip() for n in names.split(",") if n.strip()) if colon else None
    if columns == ():
        raise ValueError(f"`likelihood`: {each!r} in {text!r} names no column after its colon.")
    return Part(name, options, columns)


def _value(text: str) -> Any:
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def from_text(
    text: str,
    train: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    num_classes: Mapping[str, int] | None = None,
    with_standardizing: bool = True,
    with_missing: bool = False,
) -> Likelihood:
    """Builds the likelihood that a text says, for data.

    Of the training data come what real columns are standardized by, and how many classes there are
    where the text does not say it. A learned scale of real columns is one for each column, with a
    floor of a thousandth of its standard deviation, unless the text says otherwise.

    Args:
      text: see `parse`.
      train: `[N, X]` training data.
      names: X names of the columns; by default their numbers, "0", "1", ....
      num_classes: column -> how many classes it has, where that is known.
      with_standardizing: whether columns that are normal or Student's t are standardized within the
        model; NLLs are in the data's own units in either case.
      with_missing: whether NaN in the data is a missing value, see `masked`.

    Raises:
      ValueError: for what cannot be, and for data that it is not of.
    """
    names = tuple(map(str, range(train.shape[1]))) if names is None else tuple(names)
    parts = parse(text)
    named = {name for part in parts for name in part.columns or ()}
    rest = tuple(name for name in names if name not in named)
    built = {}
    for part in parts:
        columns = rest if part.columns is None else part.columns
        places = mixed.places_of(columns, names, "likelihood")
        if not columns:
            raise ValueError(f"`likelihood`: no column is left for {part.name} in {text!r}.")
        rows = train[:, list(places)]
        known = [(num_classes or {}).get(name, 0) for name in columns]
        built[",".join(columns)] = _build(part, rows, columns, known, with_standardizing)
    is_alone = len(parts) == 1 and (parts[0].columns is None or parts[0].columns == names)
    found = next(iter(built.values())) if is_alone else mixed.columns(built, names)
    return masked(found) if with_missing else found


def _build(
    part: Part,
    rows: np.ndarray,
    columns: Sequence[str],
    num_classes: Sequence[int],
    with_standardizing: bool,
) -> Likelihood:
    options = dict(part.options)
    if part.name == "categorical" and "num_classes" not in options:
        codes = np.where(np.isnan(rows), 0.0, rows)  # gaps are refused elsewhere, if they are
        classes.categorical(2**30).check(codes, name="train", columns=columns)
        most = codes.max(axis=0).astype(int) + 1
        options["num_classes"] = np.maximum(np.maximum(most, num_classes), 2).tolist()
    if part.name in REAL:
        _, spread = real.moments(rows)
        unit = 1.0 if with_standardizing else min(spread[spread > 0], default=1.0)
        options = {"scale": "per_column", "min_scale": _LEAST_SCALE * unit} | options
        options.setdefault("initial_scale", unit)
    made = BUILDERS[part.name](**options)
    if part.name in REAL and with_standardizing:
        return real.standardize(made, rows, columns=columns)
    return made
