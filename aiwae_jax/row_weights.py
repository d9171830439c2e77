"""Weights of rows: how much each counts, in an objective and in a mean.

Only their ratios matter. A row of weight 2 counts as two rows that are alike, one of weight 0 as
none.
"""

from typing import Any

import numpy as np


def checked(name: str, weights: Any, num_rows: int) -> np.ndarray:
    """Weights `[N]` in float64, looked at.

    Args:
      name: of the argument.
      weights: `[N]`, at least 0.
      num_rows: N.

    Raises:
      TypeError: for what are no numbers.
      ValueError: for another number of them, one that is negative or not finite, or zeros alone.
    """
    found = np.asarray(weights)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` must be numbers, one for each row; got {found.dtype}.")
    if found.shape != (num_rows,):
        raise ValueError(
            f"`{name}` must have shape [{num_rows}], a weight for each row; got "
            f"{list(found.shape)}."
        )
    found = found.astype(np.float64)
    is_weight = np.isfinite(found) & (found >= 0.0)
    if not is_weight.all():
        row = int(np.flatnonzero(~is_weight)[0])
        raise ValueError(
            f"`{name}` must be finite and at least 0, got {found[row]} in row {row}; a row that "
            "does not count has weight 0."
        )
    if not found.any():
        raise ValueError(f"`{name}` must be positive for at least one row, got zeros alone.")
    return found


def relative(weights: np.ndarray) -> np.ndarray:
    """The same weights `[N]` with the mean 1."""
    scaled = weights / weights.max()  # whose sum is no infinity
    return scaled / scaled.mean()


def effective_number(weights: np.ndarray) -> float:
    """How many rows of one weight say as much about a mean: (Σ w)² / Σ w² (Kish 1965)."""
    scaled = weights / weights.max()
    return float(np.square(scaled.sum()) / np.square(scaled).sum())


def mean_and_standard_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The mean Σ w v / Σ w of values `[N]`, and its standard error (NaN for fewer than two).

    Of a ratio of two sums over rows that were drawn at random, linearized: its square is
    n / (n - 1) Σ w² (v - mean)² / (Σ w)², n being the rows of positive weight. With one weight for
    all it is that of a plain mean.
    """
    is_there = weights > 0.0  # what has no weight may be infinite, too
    values, weights = values[is_there], relative(weights[is_there])
    num = len(values)
    mean = float(np.mean(weights * values))
    if num < 2:
        return mean, float("nan")
    with np.errstate(invalid="ignore"):  # an infinite value has no spread
        squares = np.sum(np.square(weights * (values - mean)))
    return mean, float(np.sqrt(squares / (num * (num - 1))))
