"""Weights of rows in training: they travel beside the rows, and weigh what each is worth.

A step climbs the mean over its batch of w_i times the objective of datum i, where the weights have
the mean 1 over *all* training data: over the batches of an epoch that is the weighted mean, and the
gradient is unbiased for its gradient. Weights that were divided by the sum of their own batch would
give a ratio of means instead, in which a heavy row counts the less the heavier it makes its batch.

What the samplers follow is not weighted: acceptance, step sizes and sample sizes are of chains.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, data, row_weights
from aiwae_jax.types import PyTree


class Weighted(NamedTuple):
    """Rows beside their weights: the data of a training, or a batch of them; `weighted` makes one.

    Attributes:
      rows: a pytree with leading axis N.
      weights: `[N]`, with the mean 1 over all training data.
    """

    rows: PyTree
    weights: chex.Array


def weighted(rows: PyTree, weights: Any) -> Weighted:
    """All training data with a weight for each row, in the place of the rows by themselves.

    Loops and steps take such data, and batches of them, wherever they take rows.

    Args:
      rows: a pytree with leading axis N.
      weights: `[N]`, at least 0; only their ratios matter.

    Raises:
      TypeError: for weights that are no numbers.
      ValueError: as `row_weights.checked` does.
    """
    found = row_weights.checked("weights", weights, checks.num_rows("rows", rows))
    dtype = jax.dtypes.canonicalize_dtype(float)
    return Weighted(rows, row_weights.relative(found).astype(dtype))


def of_training(dataset: data.Dataset) -> np.ndarray | Weighted:
    """The training rows of a data set, with their weights where it has some."""
    if dataset.train_weights is None:
        return dataset.train
    return weighted(dataset.train, dataset.train_weights)


def parts(batch: PyTree) -> tuple[PyTree, chex.Array | None]:
    """Rows, and their weights where there are some."""
    return batch if isinstance(batch, Weighted) else (batch, None)


def lifted(batch_fn: Callable[[chex.PRNGKey, PyTree], PyTree]) -> Callable:
    """The same function of rows that may have weights, which it leaves as they are."""

    def of_parts(key, raw):
        rows, weights = parts(raw)
        batch = batch_fn(key, rows)
        return batch if weights is None else Weighted(batch, weights)

    return of_parts


def check(batch: PyTree) -> None:
    """Refuses weights that are none; those of a batch need not have the mean 1.

    Raises:
      TypeError: for what are no numbers.
      ValueError: as `row_weights.checked` does, zeros alone aside.
    """
    rows, weights = parts(batch)
    if weights is None or checks.is_traced(weights):
        return
    found = np.asarray(weights)
    if found.dtype.kind not in "biuf" or found.any():
        row_weights.checked("weights", found, checks.num_rows("rows", rows))


def total(
    values: chex.Array, is_counted: chex.Array, weights: chex.Array | None
) -> tuple[chex.Array, chex.Array]:
    """The sum of weight times value `[B]` over what is counted, and how many rows its mean is of.

    Rows of weight zero are none of the sum and of that number: weights have the mean 1 over all
    rows, these among them.
    """
    if weights is not None:
        values = weights * values
    found = jnp.sum(jnp.where(is_counted, values, 0.0))
    return found, jnp.sum(in_mean(is_counted, weights)).astype(found.dtype)


def in_mean(is_counted: chex.Array, weights: chex.Array | None) -> chex.Array:
    """The rows `[B]` that a mean is of: what is counted, and what adds nothing to it by weight."""
    return is_counted if weights is None else is_counted | (weights == 0.0)
