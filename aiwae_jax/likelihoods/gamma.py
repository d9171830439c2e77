"""Logarithms of gamma functions whose differences keep their digits in float32.

log Γ(10⁵) is a million, of which float32 knows a tenth: a Poisson or negative binomial written with
it is wrong by that much. So what cancels is taken out first (Loader 2000, "Fast and accurate
computation of binomial probabilities").
"""

import math

import chex
import jax
import jax.numpy as jnp

_LARGE = 8.0  # from here on Stirling's series has float32's digits and more
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_NEAR = 0.5  # share of m within which x is near it


def _series(n: chex.Array) -> chex.Array:
    """Log n! - log(Stirling's formula), of large n."""
    square = jnp.square(n)
    return (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / n


def stirling_error(n: chex.Array) -> chex.Array:
    """Log Γ(n + 1) - [(n + ½) log n - n + ½ log 2π], for n > 0, elementwise."""
    is_large = n >= _LARGE
    small, large = jnp.where(is_large, 1.0, n), jnp.where(is_large, n, _LARGE)
    exact = jax.lax.lgamma(small + 1.0) - (small + 0.5) * jnp.log(small) + small - _HALF_LOG_TWO_PI
    return jnp.where(is_large, _series(large), exact)


def log_gamma_ratio(a: chex.Array, x: chex.Array) -> chex.Array:
    """Log Γ(a + x) - log Γ(a), for a > 0 and a + x > 0 not far from it, elementwise."""
    is_large = a >= _LARGE
    small, large = jnp.where(is_large, 1.0, a), jnp.where(is_large, a, _LARGE)
    exact = jax.lax.lgamma(small + x) - jax.lax.lgamma(small)
    # (a + x - ½) log(a + x) - (a - ½) log a - x
    main = (large - 0.5) * jnp.log1p(x / large) + x * jnp.log(large + x) - x
    return jnp.where(is_large, main + _series(large + x) - _series(large), exact)


def deviance(
    x: chex.Array, mean: chex.Array, log_ratio: chex.Array, difference: chex.Array
) -> chex.Array:
    """X log(x / m) + m - x, for x > 0, elementwise: the part of a log probability that is not 0.

    Args:
      x: what was found.
      mean: m, what was expected.
      log_ratio: log(x / m), good where they are far apart.
      difference: x - m, good where they are near.
    """
    is_near = jnp.abs(difference) < _NEAR * mean
    ratio = jnp.where(is_near, difference, 0.0) / jnp.where(is_near, mean, 1.0)
    return x * jnp.where(is_near, jnp.log1p(ratio), log_ratio) - difference
