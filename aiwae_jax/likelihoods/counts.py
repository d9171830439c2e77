"""Counts: Poisson, negative binomial, zero-inflated; also given the total of a datum."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, distributions, support
from aiwae_jax.distributions import softplus
from aiwae_jax.likelihoods.base import Likelihood, check_counts, of_likelihood
from aiwae_jax.likelihoods.gamma import deviance, stirling_error

_LOG_TWO_PI = math.log(2.0 * math.pi)
_LARGEST_LOG = 15.0  # of a mean as the exponential of an output; from there on it is linear
_LOG_DISPERSION = (-20.0, 20.0)  # between which it is kept
_LEAST_MEAN = 1e-3  # of a column that was never counted


def log_mean_of(outputs: chex.Array) -> chex.Array:
    """Log means: the outputs, and for means above e¹⁵ the logarithm of a line.

    No output then makes an infinite mean, nor a gradient of 0 from which there is no way back.
    """
    above = jnp.maximum(outputs - _LARGEST_LOG, 0.0)
    return jnp.minimum(outputs, _LARGEST_LOG) + jnp.log1p(above)


class Poisson(NamedTuple):
    """Independent Poisson counts.

    Attributes:
      log_mean: `[X]`.
    """

    log_mean: chex.Array

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each column's count, `[X]`."""
        distributions.check_shape(x, self.log_mean)
        mean = jnp.exp(self.log_mean)
        is_some = x > 0
        n = jnp.where(is_some, x, 1.0)
        apart = deviance(n, mean, jnp.log(n) - self.log_mean, n - mean)
        some = -stirling_error(n) - apart - 0.5 * (_LOG_TWO_PI + jnp.log(n))
        return jnp.where(is_some, some, -mean)

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`, as floats."""
        return jax.random.poisson(key, jnp.exp(self.log_mean)).astype(self.log_mean.dtype)

    def mean(self) -> chex.Array:
        """Means `[X]`."""
        return jnp.exp(self.log_mean)

    def times(self, log_factor: chex.Array) -> "Poisson":
        """The same with other means."""
        return self._replace(log_mean=self.log_mean + log_factor)


class NegativeBinomial(NamedTuple):
    """Independent negative binomial counts of variance m + m²/r.

    Attributes:
      log_mean: `[X]`, log m.
      log_dispersion: `[X]`, log r; a Poisson distribution as r grows.
    """

    log_mean: chex.Array
    log_dispersion: chex.Array

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each column's count, `[X]`."""
        distributions.check_shape(x, self.log_mean)
        mean, r, log_r = jnp.exp(self.log_mean), jnp.exp(self.log_dispersion), self.log_dispersion
        log_odds = self.log_mean - log_r  # of a success: m to r
        is_some = x > 0
        n = jnp.where(is_some, x, 1.0)
        total, log_total = n + r, jnp.log(n + r)
        # n of them were expected to be total·m/(r + m), and r of them total·r/(r + m).
        excess = (n - mean) * (r / (r + mean))
        log_n = jnp.log(n)
        apart = deviance(
            n, total * jax.nn.sigmoid(log_odds), log_n - log_total + softplus(-log_odds), excess
        ) + deviance(
            r, total * jax.nn.sigmoid(-log_odds), log_r - log_total + softplus(log_odds), -excess
        )
        errors = stirling_error(total) - stirling_error(n) - stirling_error(r)
        some = errors - apart + 0.5 * (log_r - log_total - log_n - _LOG_TWO_PI)
        return jnp.where(is_some, some, -r * softplus(log_odds))

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`, as floats: Poisson counts of gamma rates."""
        rate_key, count_key = jax.random.split(key)
        r = jnp.exp(self.log_dispersion)
        log_rate = jax.random.loggamma(rate_key, r) - self.log_dispersion + self.log_mean
        return Poisson(log_rate).sample(count_key)

    def mean(self) -> chex.Array:
        """Means `[X]`."""
        return jnp.exp(self.log_mean)

    def times(self, log_factor: chex.Array) -> "NegativeBinomial":
        """The same with other means."""
        return self._replace(log_mean=self.log_mean + log_factor)


class ZeroInflated(NamedTuple):
    """Counts that are 0 by a cause of their own, or else as another distribution has them.

    Attributes:
      base: of the counts, with `log_probs`.
      logits: `[X]`, log odds of that cause.
    """

    base: Any
    logits: chex.Array

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each column's count, `[X]`."""
        of_base = self.base.log_probs(x) - softplus(self.logits)
        of_zero = jnp.logaddexp(of_base, -softplus(-self.logits))
        return jnp.where(x > 0, of_base, of_zero)

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`, as floats."""
        zero_key, base_key = jax.random.split(key)
        is_zero = jax.random.bernoulli(zero_key, jax.nn.sigmoid(self.logits))
        return jnp.where(is_zero, 0.0, self.base.sample(base_key))

    def mean(self) -> chex.Array:
        """Means `[X]`."""
        return self.base.mean() * jax.nn.sigmoid(-self.logits)

    def times(self, log_factor: chex.Array) -> "ZeroInflated":
        """The same with other means."""
        return self._replace(base=self.base.times(log_factor))


class GivenLibrary(NamedTuple):
    """Counts of a datum whose library size, the last of its columns, is given.

    Attributes:
      base: of the counts, for a library of 1: their means are proportions.
      library: `[]`, or None before `given`.
    """

    base: Any
    library: chex.Array | None = None

    def given(self, x: chex.Array) -> "GivenLibrary":
        """The same for the library of a datum `[X]`."""
        return self._replace(library=x[-1])

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of the counts in `x` `[X]` given its last column, nats."""
        return self.base.times(jnp.log(x[-1])).log_prob(x[:-1])

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws the counts; the last column of `[X]` is the library.

        Raises:
          ValueError: before `given`.
        """
        checks.given("x", self.library, "its last column says the library size of what is drawn")
        counts = self.base.times(jnp.log(self.library)).sample(key)
        return jnp.append(counts, self.library)

    def mean(self) -> chex.Array:
        """Means of the counts `[X - 1]`: before `given` their proportions."""
        if self.library is None:
            return self.base.mean()
        return self.base.times(jnp.log(self.library)).mean()


def with_library(rows: np.ndarray) -> np.ndarray:
    """Counts `[N, X]` with their total as one more column, `[N, X + 1]`.

    Raises:
      ValueError: for a row of zeros, whose counts nothing can be proportions of.
    """
    totals = np.sum(rows, axis=1, dtype=np.float64)
    if not (totals > 0).all():
        raise ValueError(
            f"`rows` must have a positive total each, got {totals.min():g} in row "
            f"{int(totals.argmin())}; leave such rows out."
        )
    return np.concatenate([np.asarray(rows, np.float32), totals[:, None].astype(np.float32)], 1)


def is_given_library(recipe: Mapping[str, Any] | None) -> bool:
    """Whether a likelihood is given each datum's library size, by its recipe as JSON."""
    return bool(recipe and recipe["arguments"].get("library"))


@of_likelihood
def poisson(*, library: bool = False) -> Likelihood:
    """Independent Poisson counts; the decoder puts out the logarithms of their means `[X]`.

    Args:
      library: as of `negative_binomial`.
    """
    return _counts(lambda params, log_mean: Poisson(log_mean), "a Poisson likelihood", library)


@of_likelihood
def negative_binomial(*, library: bool = False, initial_dispersion: float = 1.0) -> Likelihood:
    """Independent negative binomial counts; the decoder puts out the logs of their means `[X]`.

    The dispersion r of each column is learned, as `{"log_dispersion": [X]}`; a count of mean m has
    the variance m + m²/r.

    Args:
      library: whether the last column of a datum is its library size, as `with_library` appends it:
        given, and not modelled. The means are then library·softmax(outputs `[X - 1]`), as in scVI
        (Lopez et al. 2018), and what is measured is log p(counts | library). The library is a
        column because a total that changed with the counts would not leave a distribution.
      initial_dispersion: where r starts.

    Raises:
      ValueError: for one that is not positive and finite.
    """
    checks.positive("initial_dispersion", initial_dispersion)

    def build(params, log_mean):
        return NegativeBinomial(log_mean, _log_dispersion(params))

    found = _counts(build, "a negative binomial likelihood", library)
    return found._replace(init=_dispersions(library, initial_dispersion))


@of_likelihood
def zero_inflated_negative_binomial(
    *, library: bool = False, initial_dispersion: float = 1.0
) -> Likelihood:
    """Negative binomial counts that are also 0 by a cause of their own.

    The decoder puts out the logs of the means, and the log odds of that cause, `[X]` each.

    Args:
      library: as of `negative_binomial`.
      initial_dispersion: as of `negative_binomial`.

    Raises:
      ValueError: as `negative_binomial`.
    """
    checks.positive("initial_dispersion", initial_dispersion)

    def build(params, log_mean, logits):
        return ZeroInflated(NegativeBinomial(log_mean, _log_dispersion(params)), logits)

    what = "a zero-inflated negative binomial likelihood"
    return _counts(build, what, library, num_heads=2)._replace(
        init=_dispersions(library, initial_dispersion)
    )


def _log_dispersion(params: dict[str, chex.Array]) -> chex.Array:
    return jnp.clip(params["log_dispersion"], *_LOG_DISPERSION)


def _dispersions(library: bool, initial: float) -> Callable[[int | None], dict[str, chex.Array]]:
    def init(num_columns: int | None = None):
        checks.given("data_size", num_columns, "each column has a dispersion of its own")
        return {"log_dispersion": jnp.full(num_columns - int(library), math.log(initial), float)}

    return init


def _counts(build_of: Callable, what: str, library: bool, num_heads: int = 1) -> Likelihood:
    """A likelihood of counts, of `build_of(params, log_mean, *heads)`."""
    check = check_counts(what)

    def build(params, outputs, *heads):
        if library:
            return GivenLibrary(build_of(params, jax.nn.log_softmax(outputs), *heads))
        return build_of(params, log_mean_of(outputs), *heads)

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        check(x, name=name, columns=columns)
        if library and support.is_concrete(x) and not (np.asarray(x)[:, -1] > 0).all():
            row = int(np.flatnonzero(np.asarray(x)[:, -1] <= 0)[0])
            raise ValueError(
                f"`{name}` must have a positive library size, its last column, got 0 in row {row}; "
                "leave rows without counts out."
            )

    def first_outputs(mean: chex.Array):
        counts = jnp.asarray(mean, float)[:-1] if library else jnp.asarray(mean, float)
        return (jnp.log(jnp.maximum(counts, _LEAST_MEAN)), *[None] * (num_heads - 1))

    return Likelihood(
        build,
        check_data=check_data,
        head_sizes=lambda num_columns: (num_columns - int(library),) * num_heads,
        inputs=jnp.log1p,
        first_outputs=first_outputs,
        is_conditional=library,
    )
