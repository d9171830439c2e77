"""An asymmetric path whose every temperature can be sampled exactly, and the statistics to test it.

f_0 and f_n are products of unnormalized log-gamma densities exp(a y - e^y). Their geometric path is
again log-gamma with shape (1-β) a_0 + β a_n, and Z = Π Γ(a).
"""

import functools

import heavy
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

INITIAL_SHAPE = np.array([1.5, 2.5], np.float32)
TARGET_SHAPE = np.array([3.5, 1.8], np.float32)


def log_density(shape):
    """Unnormalized."""
    return lambda y: jnp.sum(jnp.asarray(shape) * y - jnp.exp(y))


def log_initial(y):
    """Normalized, as AIS needs at its start."""
    return log_density(INITIAL_SHAPE)(y) - log_normalizer(INITIAL_SHAPE)


log_target = log_density(TARGET_SHAPE)


def log_normalizer(shape) -> float:
    return float(scipy.special.gammaln(np.asarray(shape, np.float64)).sum())


def shape_at(beta: float) -> np.ndarray:
    return (1 - beta) * INITIAL_SHAPE + beta * TARGET_SHAPE


def exact_samples(seed, shape, num):
    """`[num, 2]` draws from the key of a seed."""
    return _samples(seed, tuple(map(float, shape)), num)


@functools.cache
def _samples(seed, shape, num):
    return _draw(jax.random.key(seed), jnp.asarray(shape, jnp.float32), num)


@functools.partial(heavy.jit, static_argnums=2)
def _draw(key, shape, num):
    return jax.random.loggamma(key, shape, (num, len(shape)))


def statistics(y):
    """Test functions of `[N, D]`: odd and even, in the tails and in the bulk."""
    return jnp.concatenate([y, y**2, jnp.exp(y), jnp.tanh(y), (y[:, :1] * y[:, 1:])], axis=1)


_differences = heavy.jit(lambda before, after: statistics(after) - statistics(before))


def largest_z_score(before, after) -> float:
    """Largest |mean of h(after) - h(before)| in standard errors: paired, hence sharp."""
    difference = np.asarray(_differences(before, after), np.float64)
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    return float(np.max(np.abs(difference.mean(axis=0)) / np.maximum(error, 1e-12)))
