"""Numbers as devices hold them, bytes or float32, and what is lost by it: that is said."""

import warnings
from collections.abc import Sequence

import numpy as np

from aiwae_jax import support
from aiwae_jax.data import callers, kinds

EXACT = 2**24  # up to it float32 has every whole number
_WHOLE = 2.0**53  # up to it float64 has; beyond all are whole, and nobody knows whether they were
_MOST_LEVELS = 255


def narrow(rows: np.ndarray, where: str, columns: Sequence[str] | None = None) -> np.ndarray:
    """Whole numbers up to 255 in a byte each, all else in float32."""
    if rows.dtype == np.uint8:
        return rows
    if are_bytes(kinds.look(rows)):
        return rows.astype(np.uint8)
    return to_float32(rows, where, columns)


def are_bytes(values: kinds.Values) -> bool:
    """Whether all are whole numbers up to 255, and none is missing."""
    is_byte = values.is_whole.all() and values.low.min() >= 0 and values.high.max() <= _MOST_LEVELS
    return bool(is_byte and not values.num_missing.any())


def to_float32(rows: np.ndarray, where: str, columns: Sequence[str] | None = None) -> np.ndarray:
    """The same in float32, where what is too large is infinite.

    Warns of large numbers, timestamps or identifiers, that float32 does not have: where a whole one
    becomes another, or two become one.

    Args:
      rows: `[N, X]` numbers.
      where: the file, or the argument.
      columns: X names, or None.
    """
    with np.errstate(over="ignore"):
        narrowed = rows.astype(np.float32, copy=False)
    if rows.dtype.itemsize > 2 and rows.dtype != np.float32:
        losses = {i: _loss(rows[:, i], narrowed[:, i]) for i in _large(rows)}
        lost = {column: loss for column, loss in losses.items() if loss is not None}
        if lost:
            first, loss = next(iter(lost.items()))
            more = f" (and so in {len(lost) - 1} more columns)" if len(lost) > 1 else ""
            warnings.warn(
                f"{where}, {support.name_of_column(first, columns)}: {loss} in float32, in which "
                f"values are kept and whole numbers are exact up to {EXACT:,}{more}: close ones "
                "become the same. Leave the column out if it is an identifier, or subtract a "
                "beginning from a time.",
                stacklevel=callers.level(),
            )
    return narrowed


def _large(rows: np.ndarray) -> np.ndarray:
    """Columns with numbers beyond those that float32 has all of."""
    ends = [end.reduce(rows, axis=0).astype(float) for end in (np.fmin, np.fmax)]
    return np.flatnonzero(np.fmax(*map(np.abs, ends)) > EXACT)


def _loss(values: np.ndarray, narrowed: np.ndarray) -> str | None:
    """Words for a large number of a column `[N]` that float32 loses; None where it loses none."""
    is_large = np.isfinite(narrowed) & (np.abs(narrowed) >= EXACT)  # what is infinite is refused
    values, rounded = values[is_large], narrowed[is_large]
    changed = np.flatnonzero(_is_another(values, rounded))
    if changed.size:
        return f"{_word(values[changed[0]])} becomes {_word(rounded[changed[0]])}"
    distinct, first = np.unique(values, return_index=True)
    merged = np.flatnonzero(rounded[first][1:] == rounded[first][:-1])
    if merged.size:
        one, other = distinct[merged[0] : merged[0] + 2]
        return f"{_word(one)} and {_word(other)} become the same"
    return None


def _is_another(values: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Whether values are whole numbers that were rounded to others."""
    if values.dtype.kind == "f":
        is_whole = (np.abs(values) <= _WHOLE) & (values == np.rint(values))
        return is_whole & (values != rounded)
    # No type has both to the digit: float32 has those whose odd part is of no more than 24 bits.
    size = np.abs(values).astype(np.uint64)  # of -2^63, too, whose size no int64 holds
    return size // np.maximum(size & (~size + np.uint64(1)), 1) >= EXACT


def _word(value: np.number) -> str:
    """A number with all its digits."""
    return f"{int(value):,}" if value == np.rint(value) else repr(float(value))
