"""Log weights: their sums along a chain, averages over particles, effective sample size."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class RunningSum(NamedTuple):
    """A sum of many terms, with the digits that rounding takes from each addition (Knuth's TwoSum).

    In plain fp32 the terms' rounding errors are common to all chains, so that nothing in their
    spread would show them.

    Attributes:
      total: the rounded sum, any shape.
      lost: what rounding has taken from it.
    """

    total: chex.Array
    lost: chex.Array

    @classmethod
    def of(cls, value: chex.Array) -> "RunningSum":
        """The sum that holds one `value`."""
        return cls(value, jnp.zeros_like(value))

    def add(self, term: chex.Array) -> "RunningSum":
        """The sum with one more term; -inf once a term was."""
        total = self.total + term
        added = total - self.total
        lost = (self.total - (total - added)) + (term - added)
        return RunningSum(total, self.lost + jnp.where(jnp.isfinite(total), lost, 0.0))

    def add_product(self, a: chex.Array, b: chex.Array) -> "RunningSum":
        """The sum with a·b more, which loses no digit either (Dekker's product)."""
        product = a * b
        (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
        lost = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
        return self.add(product).add(lost)

    def zero_unless(self, is_right: chex.Array) -> "RunningSum":
        """-inf, as the logarithm of zero, where `is_right` does not hold."""
        return self._replace(total=jnp.where(is_right, self.total, -jnp.inf))

    @property
    def value(self) -> chex.Array:
        """The sum, rounded once."""
        return self.total + self.lost

    def split(self) -> tuple[chex.Array, chex.Array]:
        """`[K]` sums as a common part `[]` and remainders `[K]`, which keep all digits."""
        largest = jnp.max(self.total)
        common = jnp.where(jnp.isfinite(largest), largest, 0.0)
        return common, (self.total - common) + self.lost


def _halves(value: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Two numbers of half as many digits, whose sum is `value`."""
    info = jnp.finfo(value.dtype)
    high = jax.lax.reduce_precision(value, info.nexp, info.nmant // 2)
    return high, value - high


def zero_if_broken(log_weights: chex.Array) -> chex.Array:
    """Turns NaN and +inf into -inf, a weight of zero: a broken density must not win by it."""
    return jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)


def log_mean_exp(log_weights: chex.Array) -> chex.Array:
    """log((1/K) Σ_k w_k), the estimate of log p(x) of a properly weighted set (Eq. 3).

    Its exponential is unbiased for p(x); the log itself is a lower bound in expectation.

    Args:
      log_weights: `[K]`, nats; -inf is a weight of zero.

    Returns:
      `[]`, nats; -inf, with zero gradient, when every weight is zero. Otherwise the gradient is
      Σ_k w̃_k ∇ log w_k (Eq. 4).

    >>> float(log_mean_exp(jnp.log(jnp.array([1.0, 3.0])))) == float(jnp.log(2.0))
    True
    >>> float(log_mean_exp(jnp.full(3, -jnp.inf)))
    -inf
    """
    chex.assert_rank(log_weights, 1)
    largest = jax.lax.stop_gradient(jnp.max(log_weights))
    is_any = largest > -jnp.inf
    shifted = log_weights - jnp.where(is_any, largest, 0.0)
    # The inner `where` keeps log(0) and its infinite derivative out of the gradient.
    mean = jnp.where(is_any, jnp.mean(jnp.exp(shifted)), 1.0)
    return jnp.where(is_any, jnp.log(mean) + largest, -jnp.inf)


def normalize(log_weights: chex.Array) -> chex.Array:
    """Self-normalized weights w̃_k = w_k / Σ_i w_i (below Eq. 10), `[K]`; all zero if every w is."""
    chex.assert_rank(log_weights, 1)
    largest = jnp.max(log_weights)
    is_any = largest > -jnp.inf
    weights = jnp.exp(log_weights - jnp.where(is_any, largest, 0.0))
    return weights / jnp.where(is_any, jnp.sum(weights), 1.0)


def pick(marks: chex.Array, log_weights: chex.Array) -> chex.Array:
    """Picks particles at `marks` `[S]` in [0, 1) of their cumulated weights: their places `[S]`.

    Uniform marks pick each with the probability of its weight. None whose weight is zero is picked,
    whatever rounding does.

    >>> pick(jnp.array([0.1, 0.6, 0.99]), jnp.log(jnp.array([1.0, 1.0, 0.0]))).tolist()
    [0, 1, 1]
    """
    shares = normalize(log_weights)
    ends = jnp.cumsum(shares)
    last = len(shares) - 1 - jnp.argmax(shares[::-1] > 0.0)
    return jnp.minimum(jnp.searchsorted(ends, marks * ends[-1], side="right"), last)


def effective_sample_size(log_weights: chex.Array) -> chex.Array:
    """Kish's effective sample size 1 / Σ_k w̃_k², `[]` in [1, K]; 0 when every weight is zero.

    >>> float(effective_sample_size(jnp.array([0.0, 0.0, -jnp.inf])))
    2.0
    """
    total = jnp.sum(jnp.square(normalize(log_weights)))
    return jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)


def log_mean_standard_error(log_weights: chex.Array) -> chex.Array:
    """Standard error of `log_mean_exp` by the jackknife: one weight after the other is left out.

    The bias of the log mean, which lies below log p(x), is about half its square.

    Args:
      log_weights: `[K]`, nats; -inf is a weight of zero.

    Returns:
      `[]`, nats; NaN of fewer than two weights or where all are zero, infinite where all but one
      are.

    >>> float(log_mean_standard_error(jnp.zeros(4)))
    0.0
    """
    chex.assert_rank(log_weights, 1)
    num = log_weights.shape[0]
    if num < 2:
        return jnp.full((), jnp.nan, log_weights.dtype)
    none = jnp.full(1, -jnp.inf, log_weights.dtype)
    before = jnp.concatenate([none, jax.lax.cumlogsumexp(log_weights)[:-1]])
    after = jnp.concatenate([jax.lax.cumlogsumexp(log_weights, reverse=True)[1:], none])
    log_sums = jnp.logaddexp(before, after)  # of all weights but one
    deviations = log_sums - jnp.mean(log_sums)
    error = jnp.sqrt((num - 1) / num * jnp.sum(jnp.square(deviations)))
    is_one = jnp.sum(log_weights > -jnp.inf) == 1
    return jnp.where(is_one, jnp.inf, error)
