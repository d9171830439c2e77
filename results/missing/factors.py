"""Factor analysis of rows with gaps: maximum likelihood by EM, and exact densities, in NumPy."""

from typing import NamedTuple

import numpy as np

_LEAST_VARIANCE = 1e-4  # of a column's own noise, in standardized units


class Factors(NamedTuple):
    """x = weight z + mean + noise, z ~ N(0, I) `[D]`, noise ~ N(0, diag(variance)).

    Attributes:
      weight: `[X, D]`.
      mean: `[X]`.
      variance: `[X]`.
    """

    weight: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def log_likelihood(self, rows: np.ndarray) -> np.ndarray:
        """Log p `[N]` of what is there of rows `[N, X]`, nats; NaN is missing."""
        is_there = ~np.isnan(rows)
        residual = np.where(is_there, rows, 0.0) - self.mean
        projected, covariance, log_det = self._posterior(residual, is_there)
        quadratic = np.sum(is_there * np.square(residual) / self.variance, axis=1)
        quadratic -= np.einsum("na,nab,nb->n", projected, covariance, projected)
        log_det = log_det + is_there @ np.log(2 * np.pi * self.variance)
        return -0.5 * (quadratic + log_det)

    def _posterior(
        self, residual: np.ndarray, is_there: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of p(z|x): precision times mean `[N, D]`, covariance `[N, D, D]`, -its log det `[N]`."""
        precision = is_there / self.variance
        inverse = np.einsum("nj,ja,jb->nab", precision, self.weight, self.weight, optimize=True)
        inverse += np.eye(self.weight.shape[1])
        projected = (precision * residual) @ self.weight
        return projected, np.linalg.inv(inverse), np.linalg.slogdet(inverse)[1]


def independent(rows: np.ndarray) -> Factors:
    """A normal for each column by itself: no factors."""
    num_columns = rows.shape[1]
    return Factors(np.zeros((num_columns, 0)), np.nanmean(rows, 0), np.nanvar(rows, 0))


def fit(
    rows: np.ndarray,
    num_factors: int,
    *,
    num_steps: int = 1000,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> Factors:
    """Climbs the likelihood of what is there of rows `[N, X]` by EM (Rubin & Thayer 1982).

    It ends where a step gains less than `tolerance` nats per row.
    """
    is_there = ~np.isnan(rows)
    filled = np.where(is_there, rows, 0.0)
    weight = 0.1 * np.random.default_rng(seed).normal(size=(rows.shape[1], num_factors))
    found = independent(rows)._replace(weight=weight)
    last = -np.inf
    for step in range(num_steps):
        if step % 10 == 0:
            value = found.log_likelihood(rows).mean()
            if value - last < 10 * tolerance:
                break
            last = value
        found = _improved(found, filled, is_there)
    return found


def _improved(factors: Factors, filled: np.ndarray, is_there: np.ndarray) -> Factors:
    """One step of EM."""
    num_factors = factors.weight.shape[1]
    projected, covariance, _ = factors._posterior(filled - factors.mean, is_there)
    z = np.einsum("nab,nb->na", covariance, projected)
    # Each column regressed on z and 1, over the rows that have it.
    with_one = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    second = with_one[:, :, None] * with_one[:, None, :]
    second[:, :num_factors, :num_factors] += covariance
    of_columns = np.einsum("nj,nab->jab", is_there, second, optimize=True)
    products = filled.T @ with_one
    solved = np.linalg.solve(of_columns, products[..., None])[..., 0]
    squares = np.sum(np.square(filled), axis=0) - np.sum(solved * products, axis=1)
    variance = np.maximum(squares / is_there.sum(axis=0), _LEAST_VARIANCE)
    return Factors(solved[:, :num_factors], solved[:, num_factors], variance)
