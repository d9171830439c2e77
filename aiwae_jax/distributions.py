"""Distributions of one datum or one latent: normals, Bernoulli from logits, closed-form KL.

Each is a NamedTuple of arrays, hence a pytree that passes through jit and vmap.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

_LOG_TWO_PI = math.log(2.0 * math.pi)
_watched: contextvars.ContextVar[list | None] = contextvars.ContextVar("watched", default=None)


@contextlib.contextmanager
def watch_bernoulli() -> Iterator[list]:
    """Lists the values whose Bernoulli probability is asked for within, for a door to look at."""
    values: list = []
    token = _watched.set(values)
    try:
        yield values
    finally:
        _watched.reset(token)


def check_shape(value: chex.Array, *parameters: chex.Array) -> None:
    """Raises ValueError for a value of another shape than its distribution's parameters have.

    It would be broadcast, to a wrong sum.
    """
    expected = jnp.broadcast_shapes(*(jnp.shape(p) for p in parameters))
    if jnp.shape(value) != expected:
        raise ValueError(
            f"`log_prob` must be asked of a value of shape {list(expected)}, as its distribution "
            f"has, got {list(jnp.shape(value))}; use `jax.vmap` over several."
        )


class DiagNormal(NamedTuple):
    """Normal distribution with independent coordinates.

    Attributes:
      loc: `[D]` mean.
      scale: `[D]` standard deviation, positive; or one for all coordinates, `[1]` or `[]`.
    """

    loc: chex.Array
    scale: chex.Array

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]` as loc + scale·ε, differentiable in both (the reparameterization trick)."""
        scale = self.stddev()
        return self.transport(jax.random.normal(key, scale.shape, jnp.result_type(self.loc)))[0]

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats."""
        check_shape(z, self.loc, self.scale)
        noise = (z - self.loc) / self.scale
        return -0.5 * jnp.sum(jnp.square(noise) + _LOG_TWO_PI) - self._log_det()

    def log_probs(self, z: chex.Array) -> chex.Array:
        """Log density of each coordinate, `[D]`."""
        check_shape(z, self.loc, self.scale)
        noise = (z - self.loc) / self.scale
        return -0.5 * (jnp.square(noise) + _LOG_TWO_PI) - jnp.log(self.stddev())

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and returns its log density `[]`."""
        z = self.sample(key)
        return z, self.log_prob(z)

    def mean(self) -> chex.Array:
        """Mean `[D]`."""
        return self.loc

    def stddev(self) -> chex.Array:
        """Standard deviations `[D]`."""
        shape = jnp.broadcast_shapes(jnp.shape(self.loc), jnp.shape(self.scale))
        return jnp.broadcast_to(self.scale, shape)

    def transport(self, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Maps standard normal `noise` `[D]` to (z `[D]`, log |det ∂z/∂noise| `[]`)."""
        return self.loc + self.scale * noise, self._log_det()

    def inverse_transport(self, z: chex.Array) -> chex.Array:
        """The noise `[D]` that `transport` maps to `z` `[D]`."""
        return (z - self.loc) / self.scale

    def _log_det(self) -> chex.Array:
        """One logarithm for each coordinate, also where they share a scale."""
        return jnp.sum(jnp.log(self.stddev()))


class FullNormal(NamedTuple):
    """Normal distribution with any covariance.

    Attributes:
      loc: `[D]` mean.
      factor: `[D, D]` lower triangular with positive diagonal; the covariance is factor·factorᵀ.
    """

    loc: chex.Array
    factor: chex.Array

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]` as loc + factor·ε, differentiable in both."""
        return self.transport(jax.random.normal(key, self.loc.shape, self.loc.dtype))[0]

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats."""
        check_shape(z, self.loc)
        noise = self.inverse_transport(z)
        return -0.5 * jnp.sum(jnp.square(noise) + _LOG_TWO_PI) - self._log_det()

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and returns its log density `[]`."""
        z = self.sample(key)
        return z, self.log_prob(z)

    def mean(self) -> chex.Array:
        """Mean `[D]`."""
        return self.loc

    def stddev(self) -> chex.Array:
        """Standard deviations `[D]`."""
        return jnp.linalg.norm(self.factor, axis=1)

    def transport(self, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Maps standard normal `noise` `[D]` to (z `[D]`, log |det ∂z/∂noise| `[]`)."""
        # In real fp32, or the map would not be the one that the determinant is of.
        moved = jnp.matmul(self.factor, noise, precision=jax.lax.Precision.HIGHEST)
        return self.loc + moved, self._log_det()

    def inverse_transport(self, z: chex.Array) -> chex.Array:
        """The noise `[D]` that `transport` maps to `z` `[D]`."""
        return jax.scipy.linalg.solve_triangular(self.factor, z - self.loc, lower=True)

    def _log_det(self) -> chex.Array:
        return jnp.sum(jnp.log(jnp.diagonal(self.factor)))


def standard_normal(size: int, dtype: Any = float) -> DiagNormal:
    """The prior N(0, I) over `[size]`; float32, or float64 where JAX's x64 is on."""
    return DiagNormal(jnp.zeros(size, dtype), jnp.ones(size, dtype))


@jax.custom_jvp
def softplus(logits: chex.Array) -> chex.Array:
    """log(1 + exp(logits)) without overflow; its derivative is the sigmoid alone.

    jax.nn.softplus differentiates through the forward value, so that every gradient pays for a
    logarithm; a leapfrog step needs gradients only.
    """
    return jnp.maximum(logits, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    return softplus(logits), jax.nn.sigmoid(logits) * tangent


class Bernoulli(NamedTuple):
    """Independent binary variables, from logits (never through log(sigmoid), which overflows).

    Attributes:
      logits: `[X]` log odds.
    """

    logits: chex.Array

    @property
    def latents(self) -> str:
        """Of which kind its draws are."""
        return "binary"

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]` of 0s and 1s, in the dtype of the logits; not differentiable."""
        noise = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return (noise < self.mean()).astype(self.logits.dtype)

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each bit, `[X]`."""
        check_shape(x, self.logits)
        if (watched := _watched.get()) is not None:
            watched.append(x)
        return x * self.logits - softplus(self.logits)

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[X]` and returns its log probability `[]`."""
        x = self.sample(key)
        return x, self.log_prob(x)

    def mean(self) -> chex.Array:
        """Probabilities of a 1, `[X]`."""
        return jax.nn.sigmoid(self.logits)

    def stddev(self) -> chex.Array:
        """Standard deviations `[X]`."""
        return jnp.sqrt(self.mean() * (1.0 - self.mean()))


class Mixture(NamedTuple):
    """A mixture of M diagonal normals.

    Attributes:
      logits: `[M]`, unnormalized log weights.
      loc: `[M, D]` means.
      scale: `[M, D]` standard deviations, positive.
    """

    logits: chex.Array
    loc: chex.Array
    scale: chex.Array

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]`; its gradient is that of the component which was drawn."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, self.logits)
        loc, scale = jnp.asarray(self.loc)[which], jnp.asarray(self.scale)[which]
        return DiagNormal(loc, scale).sample(noise_key)

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats."""
        log_probs = jax.vmap(lambda loc, scale: DiagNormal(loc, scale).log_prob(z))(
            self.loc, self.scale
        )
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_probs)

    def mean(self) -> chex.Array:
        """Mean `[D]`."""
        return jnp.sum(jax.nn.softmax(self.logits)[:, None] * self.loc, axis=0)


def has_closed_form_kl(q: Any, p: Any) -> bool:
    """Whether `kl_divergence(q, p)` is defined."""
    return isinstance(q, DiagNormal | FullNormal) and isinstance(p, DiagNormal)


def kl_divergence(q: DiagNormal | FullNormal, p: DiagNormal) -> chex.Array:
    """KL(q || p) of a normal from a diagonal one in closed form, `[]`, nats.

    Raises:
      TypeError: for any other pair; see `has_closed_form_kl`.
    """
    if not has_closed_form_kl(q, p):
        raise TypeError(f"No closed-form KL of {type(q).__name__} from {type(p).__name__}.")
    # Of the covariance, the KL needs the diagonal and the determinant.
    pivots = q.stddev() if isinstance(q, DiagNormal) else jnp.diagonal(q.factor)
    variance_ratio = jnp.square(q.stddev() / p.stddev())
    mean_shift = jnp.square((q.loc - p.loc) / p.scale)
    return 0.5 * jnp.sum(variance_ratio + mean_shift - 1.0 - 2.0 * jnp.log(pivots / p.stddev()))
