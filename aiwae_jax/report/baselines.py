"""Densities without latents, fitted to the training data: what a model's NLL is to be better than.

They are of the same rows and the same measure as the model's p(x|z): probabilities of bits, levels,
classes and counts, densities of real numbers in the data's own units. Where that measure is not
known, of a likelihood of one's own say, there are none.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aiwae_jax import distributions, evaluate, row_weights
from aiwae_jax.data import Dataset, on_disk
from aiwae_jax.likelihoods import classes, counts, missing, mixed, pixels, real
from aiwae_jax.report.levels import likelihood_of
from aiwae_jax.types import Model, PyTree

_MOST_ROWS = 10_000  # of the training data, evenly spread
_MOST_COLUMNS = 2_000  # of a covariance matrix
_MOST_CELLS = 20_000_000  # of the rows that a mixture is fitted to
_COMPONENTS = 20
_ROWS_OF_A_COMPONENT = 20  # at least, on average
_ROUNDS = 25  # of expectation maximization
_LEAST_VARIANCE = 1e-2  # of a mixture's columns, as a share of the data's
_SEED = 0

Nll = np.ndarray
# A density: training rows `[N, X]` and test rows `[M, X]` -> NLL of the latter `[M]`, nats.
Density = Callable[[np.ndarray, np.ndarray], Nll]


def entries(
    nll: np.ndarray,
    rows: np.ndarray,
    dataset: Dataset,
    model: Model,
    theta: PyTree,
    *,
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    """For report.json: NLL of each baseline on the very test rows, the best one first.

    The best one is chosen on the test rows themselves, which flatters it and not the model.

    Args:
      nll: `[M]` the model's, of the test rows, nats.
      rows: `[M, X]` these, as the model sees them.
      dataset: that they are of, with the training rows.
      model: the model.
      theta: its parameters.
      weights: `[M]` of the test rows in means, or None.

    Returns:
      `baselines`: of each its name, `nll_test` with its standard error over the rows, and by how
      much it is higher than the model's, `difference`, with that of the pairs.
    """
    kinds = kinds_of(model, theta, rows[0])
    if kinds is None:
        return {}
    few = np.asarray(dataset.batch_fn(jax.random.key(_SEED), _few(dataset)), np.float64)
    found = []
    unit = "columns" if dataset.image_shape is None else "pixels"
    for name, density in _densities(kinds, few, unit):
        of_rows = density(few, np.asarray(rows, np.float64))
        if not np.isfinite(of_rows).all():
            continue
        mean, error = evaluate.mean_and_standard_error(of_rows, weights)
        with np.errstate(invalid="ignore"):  # of a datum that the model does not explain
            difference, of_pairs = evaluate.mean_and_standard_error(of_rows - nll, weights)
        one = {"name": name, "nll_test": mean, "nll_test_se": error}
        found.append(one | {"difference": difference, "difference_se": of_pairs})
    return {"baselines": sorted(found, key=lambda each: each["nll_test"])} if found else {}


def _few(dataset: Dataset) -> np.ndarray:
    """Training rows, evenly spread; of weighted ones each as often as its weight says."""
    train = dataset.train if isinstance(dataset.train, on_disk.Rows) else np.asarray(dataset.train)
    if dataset.train_weights is None:
        return train[np.arange(0, len(train), max(1, -(-len(train) // _MOST_ROWS)))]
    marks = (np.arange(min(len(train), _MOST_ROWS)) + 0.5) / min(len(train), _MOST_ROWS)
    ends = np.cumsum(row_weights.relative(dataset.train_weights))
    return train[np.searchsorted(ends / ends[-1], marks)]


def kinds_of(model: Model, theta: PyTree, x: np.ndarray) -> list[tuple[str, int]] | None:
    """Of each column what p(x|z) is of, and of how many classes or levels; None where unknown."""
    if model.likelihood is None or model.prior is None or model.is_conditional:
        return None
    kinds = _kinds(likelihood_of(model, theta, x), len(x))
    return kinds if kinds is not None and len(kinds) == len(x) else None


def _kinds(distribution: Any, size: int) -> list[tuple[str, int]] | None:
    if isinstance(distribution, missing.Masked | real.Standardized):
        return _kinds(distribution.base, size)
    if isinstance(distribution, mixed.Columns):
        kinds: list = [None] * size
        for part, place in zip(distribution.parts, distribution.places, strict=True):
            of_part = _kinds(part, len(place))
            if of_part is None:
                return None
            for column, kind in zip(place, of_part, strict=True):
                kinds[column] = kind
        return kinds
    if isinstance(distribution, classes.Categorical):
        return [("classes", number) for number in distribution.num_classes]
    if isinstance(distribution, pixels.DiscretizedLogistic):
        return [("classes", distribution.num_levels)] * size
    for kind, of_kind in _OF_KIND.items():
        if isinstance(distribution, of_kind):
            return [(kind, 2 if kind == "bits" else 0)] * size
    return None


_OF_KIND = {
    "bits": distributions.Bernoulli,
    "real": (distributions.DiagNormal, distributions.FullNormal, real.StudentT),
    "counts": (counts.Poisson, counts.NegativeBinomial, counts.ZeroInflated),
}


def _densities(
    kinds: list[tuple[str, int]], train: np.ndarray, unit: str
) -> list[tuple[str, Density]]:
    """Those that are of all these columns, with their names."""
    is_whole = not np.isnan(train).any()
    num_rows, num_columns = train.shape
    number = min(_COMPONENTS, num_rows // _ROWS_OF_A_COMPONENT)
    fits = is_whole and number > 1 and num_rows * num_columns <= _MOST_CELLS
    found = [(f"independent {unit}", lambda train, test: _independent(kinds, train, test))]
    names = {kind for kind, _ in kinds}
    if names == {"bits"} and fits:
        name = f"a mixture of {number} vectors of independent {unit}"
        found.append((name, lambda train, test: _mixture(train, test, number, _bits, _of_bits)))
    if names == {"real"} and is_whole and num_columns <= _MOST_COLUMNS and num_rows > 2:
        found.append(("one normal distribution with full covariance", _full_normal))
        if fits:
            name = f"a mixture of {number} normal distributions with diagonal covariance"
            found.append((name, lambda train, test: _normal_mixture(train, test, number)))
    return found


def _independent(kinds: list[tuple[str, int]], train: np.ndarray, test: np.ndarray) -> Nll:
    """Columns one by one; a cell that is missing counts for nothing.

    NaN, which leaves this density out, for cells of a column without a value to be fitted to.
    """
    total = np.zeros(len(test))
    for column, (kind, number) in enumerate(kinds):
        known = train[:, column]
        known = known[~np.isnan(known)]
        values = test[:, column]
        is_there = ~np.isnan(values)
        density = _COLUMN.get(kind, _column_of_classes) if len(known) else _unknown
        total[is_there] -= density(known, values[is_there], number)
    return total


def _unknown(known: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    del known, number
    return np.full(len(values), np.nan)


def _column_of_classes(known: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Shares of the classes, each counted half a time more (Krichevsky & Trofimov 1981)."""
    times = np.bincount(known.astype(int), minlength=number) + 0.5
    return np.log(times / times.sum())[values.astype(int)]


def _column_of_counts(known: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Negative binomial with the column's own moments; Poisson where it is no wider."""
    del number
    mean = (known.sum() + 0.5) / (len(known) + 0.5)
    excess = known.var() - mean
    from scipy import special  # here, because loading it takes long

    log_factorial = special.gammaln(values + 1.0)
    if excess <= 1e-6 * mean:
        return values * math.log(mean) - mean - log_factorial
    r = mean**2 / excess
    return (
        special.gammaln(values + r)
        - special.gammaln(r)
        - log_factorial
        + r * math.log(r / (r + mean))
        + values * math.log(mean / (r + mean))
    )


def _column_of_reals(known: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """One normal distribution; of a constant column none is finite."""
    del number
    scale = known.std()
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = (values - known.mean()) / scale
        return -0.5 * deviations**2 - np.log(scale) - 0.5 * math.log(2.0 * math.pi)


_COLUMN = {"counts": _column_of_counts, "real": _column_of_reals}


def _full_normal(train: np.ndarray, test: np.ndarray) -> Nll:
    """With a covariance that is drawn a little to its diagonal, the more the fewer the rows."""
    num_rows, num_columns = train.shape
    mean, scale = train.mean(axis=0), train.std(axis=0)
    if not (scale > 0).all():
        return np.full(len(test), np.nan)
    deviations, of_test = (train - mean) / scale, (test - mean) / scale
    share = 1.0 / (1.0 + num_rows / num_columns)
    correlation = (1.0 - share) * (deviations.T @ deviations / num_rows)
    correlation += share * np.eye(num_columns)
    root = np.linalg.cholesky(correlation)
    whitened = np.linalg.solve(root, of_test.T)
    log_det = np.log(np.diag(root)).sum() + np.log(scale).sum()
    return 0.5 * (whitened**2).sum(axis=0) + log_det + 0.5 * num_columns * math.log(2.0 * math.pi)


def _mixture(
    train: np.ndarray,
    test: np.ndarray,
    number: int,
    fit_fn: Callable[[np.ndarray, np.ndarray], Any],
    log_prob_fn: Callable[[np.ndarray, Any], np.ndarray],
) -> Nll:
    """Expectation maximization from centres that are rows, `number` of them."""
    chance = np.random.default_rng(_SEED)
    centres = train[chance.choice(len(train), number, replace=False)]
    distances = (train**2).sum(axis=1)[:, None] - 2.0 * train @ centres.T
    distances = distances + (centres**2).sum(axis=1)
    shares = np.eye(number)[distances.argmin(axis=1)]
    for _ in range(_ROUNDS):
        fitted = fit_fn(train, shares)
        log_weights = np.log((shares.sum(axis=0) + 1.0) / (len(train) + number))
        joint = log_prob_fn(train, fitted) + log_weights
        shares = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    return -np.logaddexp.reduce(log_prob_fn(test, fitted) + log_weights, axis=1)


def _normal_mixture(train: np.ndarray, test: np.ndarray, number: int) -> Nll:
    """Of standardized columns, in which no unit outweighs the others; nats in the data's own."""
    mean, scale = train.mean(axis=0), train.std(axis=0)
    if not (scale > 0).all():
        return np.full(len(test), np.nan)
    rows, of_test = (train - mean) / scale, (test - mean) / scale
    return _mixture(rows, of_test, number, _normals, _of_normals) + np.log(scale).sum()


def _bits(train: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities `[C, X]`, with one datum more in each component, which is the mean of all."""
    return (shares.T @ train + _smooth(train)) / (shares.sum(axis=0)[:, None] + 1.0)


def _smooth(train: np.ndarray) -> np.ndarray:
    return (train.sum(axis=0) + 0.5) / (len(train) + 1.0)


def _of_bits(rows: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return rows @ np.log(probabilities).T + (1.0 - rows) @ np.log1p(-probabilities).T


def _normals(train: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances `[C, X]`, smoothed likewise."""
    weight = shares.sum(axis=0)[:, None] + 1.0
    mean, variance = train.mean(axis=0), train.var(axis=0)
    means = (shares.T @ train + mean) / weight
    squares = (shares.T @ train**2 + mean**2 + variance) / weight
    return means, np.maximum(squares - means**2, _LEAST_VARIANCE * variance)


def _of_normals(rows: np.ndarray, fitted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    means, variances = fitted
    precision = 1.0 / variances
    squares = rows**2 @ precision.T - 2.0 * rows @ (means * precision).T
    squares = squares + (means**2 * precision).sum(axis=1)
    constant = np.log(2.0 * math.pi * variances).sum(axis=1)
    return -0.5 * (squares + constant)
