"""The integral of what `start` calls a density, by short chains to and from a fitted Gaussian.

Chains from the Gaussian to the density, and back from the draws of the latter, each give log Z by
their weights; Bennett's acceptance ratio (1976) joins both, with terms that are bounded, so that no
tail spoils it and an overlap that is too small shows.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import ais, moves
from aiwae_jax.evaluate import compiling
from aiwae_jax.evaluate.findings import Finding, skipped
from aiwae_jax.evaluate.target import StartFn
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_NUM_CHAINS = 256  # of each datum and direction
_NUM_TEMPERATURES = 12
_NUM_LEAPFROG_STEPS = 2
_STEP_SIZES = (0.7, 0.2, 0.05)  # in turn, over D^(1/4): nobody has tuned them
_MOST_COORDINATES = 256  # whose covariance is fitted, and not only the variances
_MOST_STANDARD_ERRORS = 5.0
_TOLERANCE = 0.02  # nats
_LARGEST_ERROR = 0.1  # nats: what is missing must be seen at a half
_LEAST_OVERLAP = 20.0  # chains


def fit(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[D]` and factor `[D, D]`, or scales `[D]`, of a Gaussian like the draws `[S, D]`."""
    low, high = np.quantile(z, [0.25, 0.75], axis=0)
    width = high - low
    z = np.clip(z, low - 3.0 * width, high + 3.0 * width)  # tails may have no moments
    mean, scale = z.mean(axis=0), z.std(axis=0) + 1e-30
    if z.shape[1] > min(_MOST_COORDINATES, len(z) // 5):
        return mean, scale
    noise = (z - mean) / scale
    correlation = noise.T @ noise / len(z) + 1e-4 * np.eye(z.shape[1])
    return mean, scale[:, None] * np.linalg.cholesky(correlation)


@compiling.jit()
def _log_weights(key, x, start, mean, factor):
    """Log weights `[R, C]` of chains to the density, and of chains back from its draws."""
    dtype, size = mean.dtype, mean.shape[-1]
    betas = jnp.linspace(0.0, 1.0, _NUM_TEMPERATURES, dtype=dtype)
    steps = jnp.resize(jnp.array(_STEP_SIZES, dtype), (_NUM_TEMPERATURES - 2,)) / size**0.25

    def of_datum(key, x, mean, factor):
        q = start(x)
        is_full = factor.ndim == 2

        def place(noise):
            return mean + (jnp.matmul(factor, noise) if is_full else factor * noise)

        def noise_of(z):
            if is_full:
                return jax.scipy.linalg.solve_triangular(factor, z - mean, lower=True)
            return (z - mean) / factor

        log_det = jnp.sum(jnp.log(jnp.diagonal(factor) if is_full else factor))
        run = partial(
            ais.run_chain, move=moves.hmc(_NUM_LEAPFROG_STEPS), betas=betas, with_last_move=False
        )

        def normal(noise):
            return -0.5 * jnp.sum(jnp.square(noise) + jnp.log(2.0 * jnp.pi).astype(dtype))

        def density(noise):
            return q.log_prob(place(noise)) + log_det

        def there(key):
            noise_key, key = jax.random.split(key)
            noise = jax.random.normal(noise_key, (size,), dtype)
            return run(key, noise, normal, density, step_sizes=steps)[1]

        def back(key):
            noise_key, key = jax.random.split(key)
            return run(key, noise_of(q.sample(noise_key)), density, normal, step_sizes=steps)[1]

        keys = jax.random.split(key, (2, _NUM_CHAINS))
        return jax.vmap(there)(keys[0]), jax.vmap(back)(keys[1])

    keys = jax.random.split(key, mean.shape[0])
    return jax.vmap(of_datum)(keys, x, mean, factor)


def examine(key: jax.Array, start_fn: StartFn, x: PyTree, draws: np.ndarray) -> Finding:
    """Measures log Z of the density of each datum, which must be 0.

    Args:
      key: consumed.
      start_fn: `x -> Distribution`, with a density at any z.
      x: R data.
      draws: `[R, S, D]` of their densities.
    """
    title = "normalizer of `start`"
    dtype = np.result_type(draws.dtype)
    means, factors = zip(*(fit(z.astype(np.float64)) for z in draws), strict=True)
    fitted = (np.stack(each).astype(dtype) for each in (means, factors))
    there, back = processes.fetch(_log_weights(key, x, start_fn, *fitted))
    found = [bridge(*pair) for pair in zip(there, back, strict=True)]
    log_z, error = (np.array(each) for each in zip(*found, strict=True))
    can_tell = np.isfinite(log_z) & (error <= _LARGEST_ERROR)
    if not can_tell.any():
        return skipped(title, "short chains from a Gaussian do not come near enough")
    off = np.where(can_tell, np.abs(log_z) - _MOST_STANDARD_ERRORS * error, -np.inf)
    worst = int(off.argmax())
    statistic, own_error = float(log_z[worst]), float(error[worst])
    if off[worst] <= _TOLERANCE:
        return Finding(title, statistic, own_error, True)
    text = (
        f"`log_prob` of what `start` returns is not normalized: the log of its integral is "
        f"{statistic:+.3g} ± {own_error:.2g} nats and should be 0. All bounds are off by as much, "
        "and their gap does not show it."
    )
    return Finding(title, statistic, own_error, False, text)


def bridge(there: np.ndarray, back: np.ndarray) -> tuple[float, float]:
    """Finds log Z and its standard error, from equally many log weights `[C]` of both directions.

    Bennett's log Z makes the means of 1 / (1 + exp(log Z - there)) and of
    1 / (1 + exp(-log Z - back)) equal. NaN where too few of them overlap.
    """
    there, back = (np.maximum(a.astype(np.float64), -1e4) for a in (there, back))

    def shares(log_z: float) -> tuple[np.ndarray, np.ndarray]:
        return _sigmoid(there - log_z), _sigmoid(back + log_z)

    low, high = -1e5, 1e5
    for _ in range(80):
        middle = 0.5 * (low + high)
        first, second = shares(middle)
        is_below = first.mean() > second.mean()
        low, high = (middle, high) if is_below else (low, middle)
    log_z = 0.5 * (low + high)
    variance = 0.0
    for share in shares(log_z):
        if not share.sum() > _LEAST_OVERLAP:
            return np.nan, np.nan
        variance += share.var(ddof=1) / len(share) / share.mean() ** 2
    return float(log_z), float(np.sqrt(variance))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * values))
