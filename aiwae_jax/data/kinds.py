"""What the values of a data set are, looked at and said: it decides which likelihood fits.

Numbers alone do not always tell. Whole numbers in an image are shades of grey, in a table they are
counts; fractions in [0, 1] are shades where columns have no names, and real numbers where they
have. What was decided is said in words, so that it can be contradicted.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aiwae_jax import support

KINDS = ("bits", "grey", "counts", "real", "categories", "mixed")
# Which likelihood fits which kind, in words; of several the first is the usual one.
FITTING = {
    "bits": "bernoulli",
    "grey": "bernoulli, of bits drawn anew at every use, or discretized_logistic",
    "counts": "negative_binomial or poisson",
    "real": "normal or student_t",
    "categories": "categorical",
    "mixed": "a likelihood for each group of columns",
}
_CHUNK = 4096  # rows looked at together
_FEW = 20  # whole numbers up to this may as well be codes
_EIGHT_BITS = 255


class Values(NamedTuple):
    """What is known of columns of values.

    Attributes:
      low: `[X]` smallest values; NaN of a column that has none.
      high: `[X]` largest ones.
      is_whole: `[X]` whether all are whole numbers.
      num_missing: `[X]` how many are NaN.
    """

    low: np.ndarray
    high: np.ndarray
    is_whole: np.ndarray
    num_missing: np.ndarray

    def join(self, other: "Values") -> "Values":
        """Of the rows of both."""
        return Values(
            np.fmin(self.low, other.low),
            np.fmax(self.high, other.high),
            self.is_whole & other.is_whole,
            self.num_missing + other.num_missing,
        )


def look(rows: np.ndarray) -> Values:
    """Looks at rows `[N, X]`, a few thousand at a time."""
    rows = np.asarray(rows)
    return look_at(rows[first : first + _CHUNK] for first in range(0, max(len(rows), 1), _CHUNK))


def look_at(chunks: Iterable[np.ndarray]) -> Values:
    """Looks at rows that come some at a time, `[n, X]` each."""
    found = None
    for chunk in chunks:
        if found is None:
            num_columns = chunk.shape[1]
            found = Values(
                np.full(num_columns, np.nan),
                np.full(num_columns, np.nan),
                np.ones(num_columns, bool),
                np.zeros(num_columns, int),
            )
        if not len(chunk):
            continue
        is_missing = np.isnan(chunk) if chunk.dtype.kind == "f" else np.zeros(chunk.shape, bool)
        is_whole = (np.rint(chunk) == chunk) | is_missing if chunk.dtype.kind == "f" else True
        found = found.join(
            Values(
                np.fmin.reduce(chunk, axis=0).astype(float),
                np.fmax.reduce(chunk, axis=0).astype(float),
                np.all(is_whole, axis=0),
                is_missing.sum(axis=0),
            )
        )
    return found


def kind_of(
    rows: np.ndarray | Values,
    *,
    max_level: float | None = None,
    has_names: bool = False,
    is_image: bool = False,
) -> str:
    """What the values are: one of "bits", "grey", "counts" and "real".

    Args:
      rows: `[N, X]`, or what `look` found of them; NaN, which is missing, says nothing.
      max_level: the level that stands for 1, where the values are said to be grey levels.
      has_names: whether columns have names, as in a table.
      is_image: whether a row is an image.
    """
    values = rows if isinstance(rows, Values) else look(rows)
    if np.isnan(values.low).all():
        return "real"
    low, high = np.nanmin(values.low), np.nanmax(values.high)
    is_whole = bool(values.is_whole.all())
    if is_whole and low >= 0 and high <= 1 and (max_level or 1) == 1:
        return "bits"
    if max_level is not None:
        return "grey"
    if low < 0 or not np.isfinite(high):
        return "real"
    if is_whole:
        is_grey = is_image or (high == _EIGHT_BITS and not has_names)
        return "grey" if is_grey else "counts"
    return "grey" if high <= 1 and (is_image or not has_names) else "real"


def kinds_of_columns(values: Values, is_category: Sequence[bool]) -> tuple[str, ...]:
    """Of every column of a table, by itself; one whose codes have names holds categories."""
    return tuple(
        "categories"
        if is_category[i]
        else kind_of(Values(*(each[i : i + 1] for each in values)), has_names=True)
        for i in range(len(values.low))
    )


def white(values: Values) -> float:
    """The level of grey levels that stands for 1: 1 of fractions, else that of as many bits."""
    high = float(np.nanmax(values.high))
    return 1.0 if high <= 1 else support.full_level(high)


def sentence(kind: str, values: Values) -> str:
    """Says what the values are taken for, why, and what fits them."""
    low, high = np.nanmin(values.low), np.nanmax(values.high)
    span = f"from {low:.6g} to {high:.6g}"
    what = {
        "bits": "bits, 0 or 1",
        "grey": f"grey levels {span}, of which {white(values):g} is white",
        "counts": f"counts, whole numbers {span}",
        "real": f"real numbers {span}",
        "categories": "categories, as codes from 0 on",
        "mixed": "categories beside numbers",
    }[kind]
    if kind == "counts" and high <= _FEW:
        what += " (if they are codes of categories, choose that likelihood)"
    if kind == "grey" and high <= 1:
        what += " (if they are no shades but real numbers, choose a likelihood of those)"
    missing = int(values.num_missing.sum())
    words = f", {missing} of them missing" if missing else ""
    return f"{what}{words}; {FITTING[kind]} fits"
