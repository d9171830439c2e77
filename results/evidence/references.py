"""Reference log evidences, in float64 and with their own errors, which `measure.py` keeps.

Closed forms and quadratures say how far two grids differ; importance sampling its standard error.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
import targets

_NUM_DRAWS = 1_000_000
_AT_ONCE = 50_000
_DEGREES = 5.0  # of the Student t


class Reference(NamedTuple):
    """A log evidence, nats, what it may be wrong by, and how it was found."""

    value: float
    error: float
    how: str


def schools() -> Reference:
    """Quadrature over the quantiles of tau; mu and the effects are integrated in closed form."""
    variances = np.float64(targets.ERRORS) ** 2

    def density(quantile):
        tau = targets.EFFECT_SCALE * math.tan(0.5 * math.pi * quantile)
        covariance = np.diag(variances + tau**2) + targets.EFFECT_SCALE**2
        return scipy.stats.multivariate_normal(np.zeros(8), covariance).pdf(targets.EFFECTS)

    scale = density(0.3)
    value, error = scipy.integrate.quad(
        lambda q: density(q) / scale, 0.0, 1.0, epsabs=1e-12, epsrel=1e-12, limit=500
    )
    return Reference(math.log(value) + math.log(scale), error / value, "quadrature of tau")


def shells(size: int) -> Reference:
    """Twice the shell's integral over its radius, over the volume of the cube.

    Of either shell less than 1e-6 lies outside the cube, or where the other one is.
    """
    log_surface = math.log(2.0) + 0.5 * size * math.log(math.pi) - scipy.special.gammaln(0.5 * size)
    radius, width = targets.SHELL_RADIUS, targets.SHELL_WIDTH
    value, error = scipy.integrate.quad(
        lambda r: r ** (size - 1) * scipy.stats.norm.pdf(r, radius, width),
        *(radius - 12.0 * width, radius + 12.0 * width),
        epsrel=1e-12,
    )
    log_volume = size * math.log(2.0 * targets.SHELL_EDGE)
    log_evidence = math.log(2.0) + log_surface + math.log(value) - log_volume
    return Reference(log_evidence, error / value + 1e-6, "quadrature of the radius")


def linear_regression() -> Reference:
    """Data are N(0, I + XXᵀ), by the matrix determinant lemma."""
    rows, y = (np.float64(a[0]) for a in targets.linear_regression()[1])
    num, size = rows.shape
    precision = np.eye(size) + rows.T @ rows
    fitted = np.linalg.solve(precision, rows.T @ y)
    quadratic = y @ y - (rows.T @ y) @ fitted
    log_det = np.linalg.slogdet(precision)[1]
    value = -0.5 * (quadratic + log_det + num * math.log(2.0 * math.pi))
    return Reference(value, 0.0, "closed form")


def _log_joint64(target, x) -> tuple[Callable, Callable]:
    """In float64, log p(x, z) of many z `[M, D]`, and its value and gradient at one."""
    x = jax.tree.map(lambda a: np.float64(a[0]), x)
    many = jax.jit(jax.vmap(lambda z: target.log_joint(x, z)))
    return many, jax.jit(jax.value_and_grad(lambda z: target.log_joint(x, z)))


def _mode(target, x, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where log p(x, z) is largest, and the covariance that its Hessian has there."""
    _, value_and_grad = _log_joint64(target, x)

    def loss(z):
        value, gradient = value_and_grad(z)
        return -float(value), -np.asarray(gradient)

    mode = scipy.optimize.minimize(loss, np.zeros(size), jac=True, method="BFGS").x
    hessian = jax.jacfwd(lambda z: value_and_grad(z)[1])(mode)
    return mode, np.linalg.inv(-np.asarray(hessian))


def logistic_regression() -> Reference:
    """A million draws of a Student t at the mode, with the covariance that is there."""
    target, x = targets.logistic_regression()
    size = x[0].shape[-1]
    mode, covariance = _mode(target, x, size)
    proposal = scipy.stats.multivariate_t(mode, covariance, df=_DEGREES, seed=0)
    log_joint, _ = _log_joint64(target, x)
    log_weights = []
    for _ in range(0, _NUM_DRAWS, _AT_ONCE):
        z = proposal.rvs(_AT_ONCE)
        log_weights.append(np.asarray(log_joint(z)) - proposal.logpdf(z))
    log_weights = np.concatenate(log_weights)
    weights = np.exp(log_weights - log_weights.max())
    error = weights.std(ddof=1) / weights.mean() / math.sqrt(len(weights))
    value = log_weights.max() + math.log(weights.mean())
    return Reference(value, error, f"importance sampling, {_NUM_DRAWS:,} draws of a Student t")


def gaussian_process() -> Reference:
    """The trapezoidal rule on z in [-7, 7]³, on a grid, and on every second point of it.

    The kernel's eigenvectors are those of its squared exponential, whatever amplitude and noise.
    """
    y = np.float64(targets.gaussian_process()[1][0])
    times = np.linspace(0.0, 6.0, len(y))
    axis, step = np.linspace(-7.0, 7.0, 225, retstep=True)
    log_prior = scipy.stats.norm.logpdf(axis)
    amplitude, noise = np.exp(2.0 * axis)[:, None], np.exp(2.0 * axis)[None]
    values = np.empty((len(axis),) * 3)
    for i, log_length in enumerate(axis):
        kernel = np.exp(-0.5 * (times[:, None] - times) ** 2 / math.exp(2.0 * log_length))
        eigenvalues, vectors = np.linalg.eigh(kernel)
        log_det, quadratic = 0.0, 0.0
        for eigenvalue, projected in zip(eigenvalues, vectors.T @ y, strict=True):
            variance = amplitude * (max(eigenvalue, 0.0) + 1e-4) + noise
            log_det = log_det + np.log(variance)
            quadratic = quadratic + projected**2 / variance
        values[i] = -0.5 * (log_det + quadratic + len(y) * math.log(2.0 * math.pi)) + log_prior[i]
    values += log_prior[:, None] + log_prior
    fine = scipy.special.logsumexp(values) + 3.0 * math.log(step)
    coarse = scipy.special.logsumexp(values[::2, ::2, ::2]) + 3.0 * math.log(2.0 * step)
    how = f"trapezoidal rule, {len(axis)}³ points"
    return Reference(float(fine), float(abs(fine - coarse)), how)


def normalized() -> Reference:
    """Of a normalized posterior."""
    return Reference(0.0, 0.0, "exact")


def reference(name: str) -> Reference:
    """The one of a `targets.Problem`, by its name; float64 within."""
    found = {
        "eight schools": schools,
        "Gaussian shells": lambda: shells(int(name.split("=")[1])),
        "logistic regression": logistic_regression,
        "Gaussian process": gaussian_process,
        "linear regression": linear_regression,
        "normal": normalized,
    }[name.split(",")[0]]
    with jax.enable_x64(True):
        value, error, how = found()
        return Reference(float(value), float(error), how)
