"""Labels: they are no data, and whatever differs in the file must differ here too.

Whole numbers are int64, exact to the digit, and numbers with fractions float64. All else is codes
of names: words, truths, and whole numbers that no int64 holds or of which one is missing, because
float64 makes neighbours above 2^53 the same.
"""

import decimal
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TRUTHS = ("false", "true")  # of files that have truths, and no words for them
_EXACT = 2.0**53  # below it float64 has every whole number
_INT64 = np.iinfo(np.int64)
_LONGEST = 10**40  # whole numbers beyond would be too long to be spelled out

_Value = str | bool | int | float | decimal.Decimal


class Labels(NamedTuple):
    """Labels of the rows of a file.

    Attributes:
      values: `[N]` int64 or float64, or codes of `names`; NaN where there is none.
      names: of the codes 0, 1, ..., in order.
    """

    values: np.ndarray
    names: tuple[str, ...] | None = None


def are_sure(numbers: np.ndarray) -> bool:
    """Whether float64 `[N]` are what the file says: none is missing, or may have been rounded."""
    return bool((np.abs(numbers) < _EXACT).all())


def of_numbers(numbers: np.ndarray) -> np.ndarray:
    """Numbers `[N]` as int64 where all are whole, else as float64; NaN is one that is missing."""
    if numbers.dtype.kind != "f":
        return numbers.astype(np.int64)
    is_whole = (numbers == np.rint(numbers)) & (np.abs(numbers) < 2.0**63)
    return numbers.astype(np.int64 if is_whole.all() else np.float64)


def coded(codes: np.ndarray, values: Sequence[_Value]) -> Labels:
    """Labels of places in a list of values.

    Args:
      codes: `[N]` places in `values`; below 0 where there is none.
      values: words, or truths, or numbers, of which a NaN is missing; some may be alike.
    """
    keys = [_key(value) for value in values]
    is_nan = np.array([*(key != key for key in keys), True])
    codes = np.where(is_nan[np.maximum(codes, -1)], -1, codes)
    places, where = np.unique(codes, return_inverse=True)
    used = [keys[place] for place in places if place >= 0]
    missing = [np.nan] * (len(places) - len(used))
    are_words = any(isinstance(key, str) for key in used)
    are_whole = all(isinstance(key, int) for key in used)
    if are_whole and not missing and all(_INT64.min <= key <= _INT64.max for key in used):
        return Labels(np.array(used, np.int64)[where])
    if not are_words and not are_whole and len(set(map(float, used))) == len(set(used)):
        return Labels(np.array([*missing, *used], np.float64)[where])
    names = sorted(set(used))
    of_names = [*missing, *map({name: i for i, name in enumerate(names)}.__getitem__, used)]
    found = np.array(of_names, np.float64 if missing else np.int64)[where]
    return Labels(found, tuple(map(str, names)) or None)


def _key(value: _Value) -> _Value:
    """A word as it is, a truth by its word, a whole number as an integer."""
    if isinstance(value, bool):
        return TRUTHS[value]
    if isinstance(value, str | int) or value != value:
        return value
    return int(value) if abs(value) < _LONGEST and value == int(value) else value
