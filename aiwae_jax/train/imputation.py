"""Missing values filled in, by weighted annealed samples of the latents that explain the others."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import weights
from aiwae_jax.evaluate import chunks
from aiwae_jax.evaluate.particles import WeightedLatents
from aiwae_jax.train.of_rows import beside_what_is_given

NUM_DRAWS = 1000  # behind every interval
_MOST_NUMBERS = 2**24  # at once


class Imputed(NamedTuple):
    """N rows with their missing values filled in; values that were observed stay as they are.

    Attributes:
      mean: `[N, X]` mean of what a value may be, given what was observed; of categories the most
        probable one.
      draws: `[N, S, X]` whole rows, drawn given what was observed (multiple imputation).
      low: `[N, X]` lower end of each value's interval by itself, a quantile of 1,000 draws; NaN of
        categories, which have no order.
      high: `[N, X]` upper end.
      is_missing: `[N, X]` which values were.
      effective_sample_size: `[N]` of the weighted latents of a row; NaN of one without gaps.
      is_reliable: `[N]` whether their weights can be relied on, see `evaluate.Likelihood`.
    """

    mean: np.ndarray
    draws: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_missing: np.ndarray
    effective_sample_size: np.ndarray
    is_reliable: np.ndarray


@partial(jax.jit, static_argnames=("num_draws", "num_kept"))
def _of_rows(keys, rows, z, log_weights, likelihood, ends, *, num_draws, num_kept):
    """(mean, draws, ends of intervals) of all columns of each row, whatever was observed."""

    def of_row(key, x, z, log_weights):
        def at(z):
            found = likelihood(z)
            return found.given(x) if hasattr(found, "given") else found

        which_key, draw_key = jax.random.split(key)
        # Equal weights where all are zero; such a row is not reliable.
        log_weights = jnp.where(jnp.max(log_weights) == -jnp.inf, 0.0, log_weights)
        marks = jax.random.uniform(which_key, (num_draws,), log_weights.dtype)
        which = weights.pick(marks, log_weights)
        draw_keys = jax.random.split(draw_key, num_draws)
        draws = jax.vmap(lambda key, z: at(z).sample(key))(draw_keys, z[which])
        means = jax.vmap(lambda z: beside_what_is_given(likelihood(z), x))(z)
        mean = jnp.sum(weights.normalize(log_weights)[:, None] * means, axis=0)
        low, high = jnp.quantile(draws, ends.astype(draws.dtype), axis=0, method="nearest")

        # A mean of categories' numbers would mean nothing.
        numbers = getattr(at(z[0]), "classes_of_columns", None)
        if numbers is not None and any(numbers):
            classes = jnp.arange(max(numbers), dtype=draws.dtype)
            counts = jax.vmap(lambda each: jnp.sum(draws == each, axis=0))(classes)
            is_class = np.asarray(numbers) > 0
            mean = jnp.where(is_class, jnp.argmax(counts, axis=0).astype(mean.dtype), mean)
            low, high = (jnp.where(is_class, jnp.nan, end) for end in (low, high))
        return mean, draws[:num_kept], low, high

    return jax.vmap(of_row)(keys, rows, z, log_weights)


def impute(
    key: chex.PRNGKey,
    rows: np.ndarray,
    is_missing: np.ndarray,
    latents: WeightedLatents | None,
    likelihood: Partial,
    *,
    num_draws: int,
    level: float,
) -> Imputed:
    """Fills rows in, of which those with gaps have `latents`.

    Args:
      key: consumed.
      rows: `[N, X]`.
      is_missing: `[N, X]`.
      latents: of the M rows that lack something, in their order; None where M is 0.
      likelihood: z `[D]` -> distribution over x.
      num_draws: S.
      level: of the intervals.
    """
    num_rows, num_columns = rows.shape
    has_gaps = is_missing.any(axis=1)
    mean, low, high = rows.copy(), rows.copy(), rows.copy()
    draws = np.repeat(rows[:, None], num_draws, axis=1)
    sample_size, is_reliable = np.full(num_rows, np.nan), np.ones(num_rows, bool)
    if latents is not None:
        numbers = np.flatnonzero(has_gaps)
        num_behind = max(NUM_DRAWS, num_draws)
        at_once = max(min(len(numbers), _MOST_NUMBERS // (num_behind * num_columns)), 1)
        ends = np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level])
        keys = jax.random.split(key, len(numbers))
        for indices, num_kept in chunks.of(len(numbers), at_once):
            found = jax.device_get(
                _of_rows(
                    keys[indices],
                    jnp.asarray(rows[numbers[indices]]),
                    latents.z[indices],
                    latents.log_weights[indices],
                    likelihood,
                    ends,
                    num_draws=num_behind,
                    num_kept=num_draws,
                )
            )
            of_chunk = numbers[indices[:num_kept]]
            is_gap = is_missing[of_chunk]
            for filled, new in zip((mean, draws, low, high), found, strict=True):
                gap = is_gap if filled.ndim == 2 else is_gap[:, None]
                filled[of_chunk] = np.where(gap, new[:num_kept], filled[of_chunk])
        sample_size[has_gaps] = latents.likelihood.effective_sample_size
        is_reliable[has_gaps] = latents.likelihood.is_reliable
    return Imputed(mean, draws, low, high, is_missing, sample_size, is_reliable)
