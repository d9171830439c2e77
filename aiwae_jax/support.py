"""Whether data can be what a likelihood is of: looked at once, on the host, where data enter.

A likelihood outside its support is a number all the same, and a wrong one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax.types import PyTree

_NUM_NAMED = 3
_WHITES = (16.0, 255.0, 1023.0, 4095.0, 65535.0)
ROUNDING = 1e-6  # by which a level may exceed white, as after resizing


def is_concrete(tree: PyTree) -> bool:
    """Whether the host can look at all of a tree: no tracer, and nothing of other processes."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.core.Tracer):
            return False
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return False
    return True


def check_finite(x: PyTree, *, name: str) -> None:
    """Refuses NaN and infinities in any leaf; tracers are let through.

    Args:
      x: a pytree of arrays.
      name: what the caller calls it.

    Raises:
      ValueError: naming the leaf, how many values it is about, and where the first ones are.
      TypeError: for what is not a number.
    """
    if not is_concrete(x):
        return
    for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
        _check_finite_array(_as_numbers(leaf, name, path), _leaf_name(name, path))


def check_binary(x: PyTree, *, name: str) -> None:
    """Refuses data that are not 0s and 1s: what a Bernoulli likelihood is of.

    Tracers are let through, for there is nothing to look at.

    Args:
      x: an array of any shape, or a pytree of them; bools, integers or floats.
      name: what the caller calls it.

    Raises:
      ValueError: with what the values look like, and what to do with such data.
      TypeError: for what is not a number.
    """
    if not is_concrete(x):
        return
    for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
        values, leaf_name = _as_numbers(leaf, name, path), _leaf_name(name, path)
        _check_finite_array(values, leaf_name)
        is_bit = (values == 0) | (values == 1)
        if not is_bit.all():
            raise ValueError(_not_binary(values, is_bit, leaf_name))


def check_pixels(x: Any, *, name: str, num_pixels: int, first: int = 0) -> None:
    """Refuses what are not rows of binary pixels.

    Args:
      x: `[N, num_pixels]` 0s and 1s.
      name: what the caller calls it.
      num_pixels: X.
      first: the first pixel that the likelihood is of; those before it may be anything.

    Raises:
      ValueError: for another shape, and as `check_binary`.
      TypeError: for what is no array, and as `check_binary`.
    """
    if not isinstance(x, np.ndarray | jax.Array):
        raise TypeError(f"`{name}` must be an array of images, got {type(x).__name__}.")
    if x.ndim != 2 or x.shape[1] != num_pixels:
        raise ValueError(
            f"`{name}` must have shape [images, {num_pixels}], one flat image a row; got "
            f"{list(x.shape)}."
        )
    check_binary(x[:, first:], name=name)


def check_values(
    x: Any,
    is_allowed_fn: Callable[[np.ndarray], np.ndarray],
    *,
    name: str,
    rule: str,
    columns: Sequence[str] | None = None,
) -> None:
    """Refuses data with values that they must not have, naming the first by its column and row.

    Args:
      x: `[N, X]`; tracers are let through.
      is_allowed_fn: values -> which of them may be, a bool each.
      name: what the caller calls `x`.
      rule: what the values must be, in words.
      columns: X names.

    Raises:
      ValueError: for another rank, NaN, infinities, and what is not allowed.
      TypeError: for what is not a number.
    """
    if not is_concrete(x):
        return
    values = _as_numbers(x, name, ())
    if values.ndim != 2:
        raise ValueError(f"`{name}` must have shape [rows, columns], got {list(values.shape)}.")
    is_wrong = ~(np.isfinite(values) & np.asarray(is_allowed_fn(values), bool))
    if is_wrong.any():
        row, column = np.argwhere(is_wrong)[0]
        raise ValueError(
            f"`{name}` must be {rule}, got {values[row, column]:g} in row {row}, "
            f"{name_of_column(column, columns)} ({is_wrong.sum()} of {is_wrong.size} values are "
            "not)."
        )


def whole_below(end: np.ndarray | float = np.inf) -> Callable[[np.ndarray], np.ndarray]:
    """An `is_allowed_fn` of `check_values`: whole numbers from 0 on below `end`, `[X]` or `[]`."""
    return lambda values: (values >= 0) & (values < end) & (values == np.round(values))


def name_of_column(number: int, columns: Sequence[str] | None) -> str:
    """Words for a column: by its name where it has one."""
    return f"column {number}" if columns is None else f"column {columns[number]!r}"


def check_columns(x: Any, *, name: str, num_columns: int) -> None:
    """Refuses what are not rows of so many numbers.

    Raises:
      ValueError: for another shape.
      TypeError: for what is no array.
    """
    if not isinstance(x, np.ndarray | jax.Array):
        raise TypeError(f"`{name}` must be an array of rows, got {type(x).__name__}.")
    if x.ndim != 2 or x.shape[1] != num_columns:
        raise ValueError(f"`{name}` must have shape [rows, {num_columns}], got {list(x.shape)}.")


def check_known_columns(rows: np.ndarray, *, name: str, columns: Sequence[str] | None) -> None:
    """Raises ValueError for a column of `rows` `[N, X]` in which every value is missing."""
    is_empty = np.isnan(rows).all(axis=0)
    if is_empty.any():
        first = int(np.flatnonzero(is_empty)[0])
        raise ValueError(
            f"`{name}` must have a value in every column, got none in "
            f"{name_of_column(first, columns)}; leave it out."
        )


def check_levels(levels: Any, max_level: float, *, name: str) -> None:
    """Refuses grey levels that are no probabilities when divided by `max_level`.

    Args:
      levels: an array of any shape; tracers are let through.
      max_level: the level that stands for a probability of 1.
      name: what the caller calls `levels`.

    Raises:
      ValueError: for NaN, infinities, and levels outside [0, `max_level`].
      TypeError: for what is not a number.
    """
    if not is_concrete(levels):
        return
    values = _as_numbers(levels, name, ())
    _check_finite_array(values, name)
    if values.size and not (values.min() >= 0 and values.max() <= max_level * (1 + ROUNDING)):
        raise ValueError(
            f"`{name}` must lie in [0, `max_level`={max_level:g}], got values from "
            f"{values.min():.4g} to {values.max():.4g}; {_advice_on_levels(values)}"
        )
    if values.size and max_level > 1 >= values.max() and (values != np.round(values)).any():
        raise ValueError(
            f"`{name}` lie in [0, 1] already, and would be divided by `max_level`={max_level:g} "
            "once more; is `max_level` 1?"
        )


def _leaf_name(name: str, path) -> str:
    return name + jax.tree_util.keystr(path)


def _as_numbers(leaf: Any, name: str, path) -> np.ndarray:
    dtype = getattr(leaf, "dtype", None)
    is_key = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    values = None if is_key else np.asarray(leaf)
    # bfloat16 and its like are of no kind of NumPy's.
    if is_key or not (
        values.dtype.kind in "biuf" or jax.dtypes.issubdtype(values.dtype, np.floating)
    ):
        raise TypeError(
            f"`{_leaf_name(name, path)}` must be an array of numbers, got "
            f"{dtype or values.dtype} ({type(leaf).__name__})."
        )
    return values


def _check_finite_array(values: np.ndarray, name: str) -> None:
    if values.dtype.kind in "biu":
        return
    is_broken = ~np.isfinite(values)
    if is_broken.any():
        raise ValueError(f"`{name}` must be finite, got {describe_broken(is_broken)}.")


def describe_broken(is_broken: np.ndarray) -> str:
    """Words for how many values of an array are NaN or infinite, and where the first ones are."""
    places = np.argwhere(is_broken)
    named = ", ".join(str(place.tolist()) for place in places[:_NUM_NAMED])
    more = ", ..." if len(places) > _NUM_NAMED else ""
    where = f" at {named}{more}" if is_broken.ndim else ""
    return f"NaN or infinity in {len(places)} of {is_broken.size} values{where}"


def _not_binary(values: np.ndarray, is_bit: np.ndarray, name: str) -> str:
    low, high = values.min(), values.max()
    found = (
        f"`{name}` must be 0s and 1s for a Bernoulli likelihood, got values from {low:.4g} to "
        f"{high:.4g}, {100 * np.mean(~is_bit):.3g}% of them neither"
    )
    if low < 0:
        advice = (
            "-1 and 1 are turned into bits by (x + 1) / 2; standardized and other real values need "
            "a Gaussian likelihood"
        )
    elif high <= 1:
        advice = (
            "grey levels are binarized anew at every use by `data.binarize(key, x, 1.0)`, or need "
            "a likelihood of real values"
        )
    else:
        level = full_level(high)
        advice = f"grey levels are binarized anew at every use by `data.binarize(key, x, {level})`"
    return f"{found}; {advice}."


def full_level(high: float) -> float:
    """White, of levels up to `high`: 16 of scikit-learn's digits, else the last of as few bits."""
    return next((level for level in _WHITES if high <= level), float(high))


def _advice_on_levels(values: np.ndarray) -> str:
    if values.min() < 0:
        return (
            "standardized and other real values are no grey levels: they need a Gaussian "
            "likelihood."
        )
    return f"is `max_level` {full_level(values.max()):g}?"
