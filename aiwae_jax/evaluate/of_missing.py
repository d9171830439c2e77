"""How likely were values that a model did not see, given those that it saw."""

from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import calls
from aiwae_jax.evaluate.likelihood import (
    Likelihood,
    log_likelihood,
    mean_and_standard_error,
)
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Settings
from aiwae_jax.evaluate.target import Target


class OfMissing(NamedTuple):
    """log p(missing | observed) of N data, as a difference of two annealed estimates.

    It is consistent, and no bound: log p(x) and log p(observed) are each estimated from below in
    expectation, and their difference errs to either side, by about half the difference of the
    squared errors of the two.

    Attributes:
      log_likelihood: `[N]` nats; 0 of a datum that lacks nothing.
      standard_errors: `[N]` of these, nats: of both estimates, which share no noise.
      is_reliable: `[N]` whether both can be relied on, see `Likelihood.is_reliable`.
      num_cells: `[N]` how many values of each datum it is about.
      whole: the estimates of log p(x).
      observed: those of log p(observed).
    """

    log_likelihood: np.ndarray
    standard_errors: np.ndarray
    is_reliable: np.ndarray
    num_cells: np.ndarray
    whole: Likelihood
    observed: Likelihood

    @property
    def mean(self) -> float:
        """Over the data, nats."""
        return mean_and_standard_error(self.log_likelihood)[0]

    @property
    def standard_error(self) -> float:
        """Of `mean`, over the data; what single estimates err by is in it."""
        return mean_and_standard_error(self.log_likelihood)[1]

    @property
    def per_cell(self) -> tuple[float, float]:
        """Nats per value, all data together, and the standard error over the data (of a ratio)."""
        return per_cell(self.log_likelihood, self.num_cells)


def per_cell(values: np.ndarray, num_cells: np.ndarray) -> tuple[float, float]:
    """Sum of `values` `[N]` by that of `num_cells` `[N]`, and its delta-method standard error."""
    values, num_cells = np.asarray(values, np.float64), np.asarray(num_cells, np.float64)
    ratio = values.sum() / num_cells.sum()
    _, error = mean_and_standard_error(values - ratio * num_cells)
    return float(ratio), float(error / num_cells.mean())


def check_removed(x: np.ndarray, x_observed: np.ndarray) -> np.ndarray:
    """Which values of `x` are missing in `x_observed`, `[N, X]` bool.

    Raises:
      ValueError: for arrays of another shape, or where one has a value and the other another or
        none.
    """
    x, x_observed = np.asarray(x), np.asarray(x_observed)
    if x.shape != x_observed.shape:
        raise ValueError(
            f"`x_observed` must be the rows of `x` with NaN for what is missing, of shape "
            f"{list(x.shape)}; got {list(x_observed.shape)}."
        )
    is_gap = np.isnan(x_observed)
    is_off = ~is_gap & (x_observed != x)
    if is_off.any():
        row, column = np.argwhere(is_off)[0]
        raise ValueError(
            f"`x_observed` must be NaN or as in `x`, got {x_observed[row, column]:g} beside "
            f"{x[row, column]:g} in row {row}, column {column}."
        )
    return is_gap & ~np.isnan(x)


@calls.of_target
def log_likelihood_of_missing(
    key: chex.PRNGKey,
    target: Target,
    x: chex.Array,
    x_observed: chex.Array,
    settings: Settings = DEFAULT_SETTINGS,
    **options: Any,
) -> OfMissing:
    """Estimates log p(x_missing | x_observed) = log p(x) - log p(x_observed) of each datum.

    Two annealed estimates by independent keys, each by a plan of its own; its standard error is
    the root of the sum of their squares.

    Args:
      key: consumed.
      target: of a model that takes NaN for a missing value.
      x: `[N, X]` rows with the values that are asked for; NaN is missing in both.
      x_observed: `[N, X]` the same rows, NaN where these are.
      settings: of the chains of both.
      **options: `numbers`, `chunk_size`, `store`, `progress_fn`, `check` of `log_likelihood`, for
        both.

    Raises:
      ValueError: as `log_likelihood`; for rows that are not the same, or lack nothing.
      TypeError: as `log_likelihood`.
    """
    checks.key(key)
    is_removed = check_removed(x, x_observed)
    if not is_removed.any():
        raise ValueError("`x_observed` must lack a value that `x` has, got the same rows.")
    num_cells = is_removed.sum(axis=1)
    keys = jax.random.split(key)
    whole, observed = (
        log_likelihood(key, target, np.asarray(rows), settings, **options)
        for key, rows in zip(keys, (x, x_observed), strict=True)
    )
    is_asked = num_cells > 0
    with np.errstate(invalid="ignore"):  # of a datum that nothing explains
        difference = whole.log_likelihood - observed.log_likelihood
    return OfMissing(
        np.where(is_asked, difference, 0.0),
        np.where(is_asked, np.hypot(whole.standard_errors, observed.standard_errors), 0.0),
        ~is_asked | (whole.is_reliable & observed.is_reliable),
        num_cells,
        whole,
        observed,
    )
