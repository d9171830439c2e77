"""Rows as a trained model sees them, checked where they come in: shape, levels, support."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks
from aiwae_jax.data.dataset import DataError, as_floats, binarize, check_scale
from aiwae_jax.types import Model


def as_rows(name: str, rows: chex.Array, size: int | None) -> np.ndarray:
    """Rows as a model takes them; 0s and 1s may be integers.

    Raises:
      ValueError: for another shape than `[N, size]`.
      TypeError: for what are no numbers.
    """
    checks.numbers(name, rows)
    shape = np.shape(rows)
    if len(shape) != 2 or not shape[0]:
        raise ValueError(
            f"`{name}` must be rows, of shape [N, {size or 'size'}]; got {list(shape)}. One row "
            f"alone is `{name}[None]`."
        )
    if size is not None and shape[1] != size:
        raise ValueError(
            f"`{name}` must be rows of the {size} numbers that the model was made for, got "
            f"{shape[1]}."
        )
    return np.asarray(as_floats(rows))


def as_seen(
    rows: np.ndarray, given: chex.Array, model: Model, max_level: float | None, key: chex.PRNGKey
) -> np.ndarray:
    """Rows `[N, X]`, of which grey levels are drawn as bits; see `Trained.rows`.

    Args:
      rows: as floats.
      given: the same as they came, whose type says whether 0s and 1s are levels.
      model: the model.
      max_level: the level that stands for 1, of a model of grey levels.
      key: that draws them.

    Raises:
      ValueError: for what the model's likelihood is not of.
    """
    num = rows.shape[1] - model.num_given
    found, behind = rows[:, :num], rows[:, num:]
    is_levels = np.zeros(len(found), bool)
    if max_level is not None:
        is_gap = np.isnan(found) & model.takes_missing
        is_levels = ~(np.isin(found, (0, 1)) | is_gap).all(axis=1)
        is_levels |= getattr(given, "dtype", None) == np.uint8
    if is_levels.any():
        check_scale(found, max_level)
        keys = jax.random.split(key, len(found))
        draw = jax.vmap(partial(binarize, max_level=max_level))
        with np.errstate(invalid="ignore"):
            bits = np.asarray(draw(keys, jnp.asarray(found)))
        bits = np.where(is_levels[:, None], bits, found)
        is_wrong = np.isnan(bits) & ~is_gap
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            raise DataError(
                f"`x` must be bits, or grey levels in [0, {max_level:g}] as the model "
                f"was trained on, got {found[row, column]:g} in row {row}, column {column}."
            )
        if not model.num_given:
            return bits
        rows = np.concatenate([bits, behind], axis=1)
    if model.check_data is not None:
        model.check_data(rows, name="x")
    return rows
