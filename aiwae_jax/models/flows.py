"""Posteriors richer than a diagonal normal, each a transport of standard normal noise.

A `Family` turns an encoder's outputs into a posterior. Chains run in the noise (`chain_space`
"base"), so that none of them needs an inverse; those of the two flows are numerical and serve
reverse chains.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from aiwae_jax import checks, distributions, networks
from aiwae_jax.types import Posterior, PyTree

_NUM_MOMENT_SAMPLES = 128
_NUM_BISECTIONS = 40
_LEAST_SLOPE = 1e-3  # of a planar layer along its w
_TINY = 1e-30
_IAF_HIDDEN_SIZE = 100
# In real fp32: a GPU's tf32 would make z and its determinant belong to two different maps.
_vdot = partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)


class _ByTransport:
    """All that follows from `size` and `transport`: not the density at a given z."""

    size: int
    transport: Callable[[chex.Array], tuple[chex.Array, chex.Array]]

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]`, differentiable in the map's parameters."""
        return self.transport(distributions.standard_normal(self.size).sample(key))[0]

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and its log density `[]`, without an inverse."""
        noise_prior = distributions.standard_normal(self.size)
        noise = noise_prior.sample(key)
        z, log_det = self.transport(noise)
        return z, noise_prior.log_prob(noise) - log_det

    def mean(self) -> chex.Array:
        """Mean `[D]` of 128 antithetic draws of fixed noise: an approximation."""
        return jnp.mean(self._fixed_samples(), axis=0)

    def stddev(self) -> chex.Array:
        """Standard deviations `[D]` of the same draws."""
        return jnp.std(self._fixed_samples(), axis=0)

    def _fixed_samples(self) -> chex.Array:
        half = jax.random.normal(jax.random.key(0), (_NUM_MOMENT_SAMPLES // 2, self.size))
        return jax.vmap(self.transport)(jnp.concatenate([half, -half]))[0]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["transport", "inverse_transport", "log_prob_fn"],
    meta_fields=["size"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Transported(_ByTransport):
    """The distribution of f(ε), ε ~ N(0, I), for an invertible f; a `Posterior`.

    With functions that are bound to their arrays by `jax.tree_util.Partial` it is a pytree.

    Attributes:
      size: D.
      transport: f, noise `[D]` -> (z `[D]`, log |det ∂z/∂noise| `[]`).
      inverse_transport: z `[D]` -> noise `[D]`.
      log_prob_fn: z `[D]` -> `[]`; None where z alone does not do.
    """

    size: int
    transport: Callable[[chex.Array], tuple[chex.Array, chex.Array]]
    inverse_transport: Callable[[chex.Array], chex.Array]
    log_prob_fn: Callable[[chex.Array], chex.Array] | None = None

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats.

        Raises:
          TypeError: where the inverse is only numerical and has no gradient.
        """
        if self.log_prob_fn is None:
            raise TypeError(
                "This flow has the density of its own samples only; use `sample_and_log_prob`, "
                "`chain_space`='base', or another posterior."
            )
        return self.log_prob_fn(z)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["first", "second_fn"],
    meta_fields=["sizes", "is_reversed"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Chained(_ByTransport):
    """Two parts of a latent, each a diagonal normal, the second given the first; a `Posterior`.

    Attributes:
      first: distribution of the first part.
      second_fn: the first part -> distribution of the second; bound to its arrays by `Partial`.
      sizes: of the two parts, in the order in which they are drawn.
      is_reversed: whether z, and its noise, list the second part first.
    """

    first: distributions.DiagNormal
    second_fn: Callable[[chex.Array], distributions.DiagNormal]
    sizes: tuple[int, int]
    is_reversed: bool = False

    @property
    def size(self) -> int:
        """D."""
        return sum(self.sizes)

    def _split(self, z: chex.Array) -> tuple[chex.Array, chex.Array]:
        size = self.sizes[1 if self.is_reversed else 0]
        parts = z[:size], z[size:]
        return parts[::-1] if self.is_reversed else parts

    def _join(self, first: chex.Array, second: chex.Array) -> chex.Array:
        return jnp.concatenate([second, first] if self.is_reversed else [first, second])

    def transport(self, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Maps standard normal `noise` `[D]` to (z `[D]`, log |det ∂z/∂noise| `[]`)."""
        first_noise, second_noise = self._split(noise)
        first, first_log_det = self.first.transport(first_noise)
        second, second_log_det = self.second_fn(first).transport(second_noise)
        return self._join(first, second), first_log_det + second_log_det

    def inverse_transport(self, z: chex.Array) -> chex.Array:
        """The noise `[D]` that `transport` maps to `z` `[D]`."""
        first, second = self._split(z)
        second_noise = self.second_fn(first).inverse_transport(second)
        return self._join(self.first.inverse_transport(first), second_noise)

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats."""
        first, second = self._split(z)
        second_given = self.second_fn(first)
        return self.first.log_prob(first) + second_given.log_prob(second)


class Family(NamedTuple):
    """A family of posteriors over latents of one size.

    Attributes:
      head_sizes: sizes of the encoder's outputs.
      init: `init(key) -> params`, what is shared by all data; often nothing.
      build: `build(params, *heads) -> Posterior`.
      has_density: whether its `log_prob` can be had, with gradients, at any z.
    """

    head_sizes: tuple[int, ...]
    init: Callable[[chex.PRNGKey], PyTree]
    build: Callable[..., Posterior]
    has_density: bool


def _no_params(key: chex.PRNGKey) -> PyTree:
    del key
    return {}


def normal(latent_size: int) -> Family:
    """Diagonal normal, the paper's: outputs μ and log σ."""

    def build(params, loc, log_scale):
        del params
        return distributions.DiagNormal(loc, jnp.exp(log_scale))

    return Family((latent_size, latent_size), _no_params, build, has_density=True)


def full(latent_size: int) -> Family:
    """Normal with full covariance: μ, log of the factor's diagonal, and what is below it."""

    def build(params, loc, log_diagonal, below):
        del params
        factor = jnp.diag(jnp.exp(log_diagonal))
        rows, columns = jnp.tril_indices(latent_size, -1)
        return distributions.FullNormal(loc, factor.at[rows, columns].set(below))

    num_below = latent_size * (latent_size - 1) // 2
    return Family((latent_size, latent_size, num_below), _no_params, build, has_density=True)


def planar(latent_size: int, num_layers: int = 4) -> Family:
    """Planar normalizing flow on a diagonal normal (Rezende & Mohamed 2015, Eq. 10 to 12).

    Every layer maps z to z + û·tanh(wᵀz + b); u, w and b are outputs of the encoder. Zero layers
    leave the diagonal normal.

    Raises:
      ValueError: if `num_layers` < 0.
    """
    checks.integer("num_layers", num_layers, least=0)

    def build(params, loc, log_scale, u, w, b):
        del params
        base = distributions.DiagNormal(loc, jnp.exp(log_scale))
        w = w.reshape(num_layers, latent_size)
        u, slopes = jax.vmap(_invertible)(u.reshape(num_layers, latent_size), w)
        bound = base, (u, slopes, w, b)
        return Transported(
            latent_size, Partial(_planar_transport, *bound), Partial(_planar_inverse, *bound)
        )

    sizes = (latent_size, latent_size, num_layers * latent_size, num_layers * latent_size)
    return Family((*sizes, num_layers), _no_params, build, has_density=False)


def _invertible(u: chex.Array, w: chex.Array) -> tuple[chex.Array, chex.Array]:
    """û of Rezende & Mohamed's appendix A.1, for which wᵀû > -1 keeps a layer invertible; and wᵀû.

    The product is handed on, because rounding can bring one computed from û below -1.
    """
    product, square = _vdot(w, u), _vdot(w, w)
    wanted = distributions.softplus(product) - 1.0 + _LEAST_SLOPE
    change = (wanted - product) / jnp.maximum(square, _TINY)
    # Next to w = 0 a layer moves all points alike, whatever its slope was to be.
    slope = jnp.where(square < _TINY, product + change * square, wanted)
    return u + change * w, slope


def _planar_transport(base, layers, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
    def body(carry, layer):
        z, log_det = carry
        u, slope, w, b = layer
        h = jnp.tanh(_vdot(w, z) + b)
        log_det += jnp.log1p((1.0 - h**2) * slope)
        return (z + u * h, log_det), None

    return jax.lax.scan(body, base.transport(noise), layers)[0]


def _planar_inverse(base, layers, z: chex.Array) -> chex.Array:
    def body(z, layer):
        u, slope, w, b = layer
        along = _bisect(_vdot(w, z), slope, b)
        return z - u * jnp.tanh(along + b), None

    z, _ = jax.lax.scan(body, z, layers, reverse=True)
    return base.inverse_transport(z)


def _bisect(image: chex.Array, product: chex.Array, b: chex.Array) -> chex.Array:
    """The a with a + product·tanh(a + b) = image, by bisection of an increasing function."""

    def body(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        is_low = middle + product * jnp.tanh(middle + b) < image
        return jnp.where(is_low, middle, low), jnp.where(is_low, high, middle)

    reach = jnp.abs(product)
    low, high = jax.lax.fori_loop(0, _NUM_BISECTIONS, body, (image - reach, image + reach))
    return 0.5 * (low + high)


def iaf(latent_size: int, num_layers: int = 2) -> Family:
    """Inverse autoregressive flow on a diagonal normal (Kingma et al. 2016, Algorithm 1).

    Every layer maps z to σ(z)·z + (1 - σ(z))·m(z), with the gate σ and m from a masked network of z
    and a context that the encoder puts out; the order of the coordinates is turned round between
    layers. Zero layers leave the diagonal normal.

    Raises:
      ValueError: if `num_layers` < 0.
    """
    checks.integer("num_layers", num_layers, least=0)
    network = networks.autoregressive(latent_size, _IAF_HIDDEN_SIZE, _IAF_HIDDEN_SIZE)

    def init(key):
        return [network.init(each) for each in jax.random.split(key, num_layers)]

    def gate_and_shift(layer, context, z):
        shift, logit = network.apply(layer, z, context)
        return jax.nn.sigmoid(logit + 2.0), shift  # gates start open: near the identity

    # Once for the family, so that all of its posteriors are pytrees of one structure.
    def transport(base, layers, context, noise):
        z, log_det = base.transport(noise)
        for layer in layers:
            gate, shift = gate_and_shift(layer, context, z)
            z = (gate * z + (1.0 - gate) * shift)[::-1]
            log_det += jnp.sum(jnp.log(gate))
        return z, log_det

    def inverse_transport(base, layers, context, z):
        for layer in reversed(layers):
            z = _autoregressive_inverse(partial(gate_and_shift, layer, context), z[::-1])
        return base.inverse_transport(z)

    def build(params, loc, log_scale, context):
        base = distributions.DiagNormal(loc, jnp.exp(log_scale))
        bound = base, params, jnp.tanh(context)
        return Transported(
            latent_size, Partial(transport, *bound), Partial(inverse_transport, *bound)
        )

    return Family((latent_size, latent_size, _IAF_HIDDEN_SIZE), init, build, has_density=False)


def _autoregressive_inverse(gate_and_shift, image: chex.Array) -> chex.Array:
    """Fixed-point iteration: after i turns the first i coordinates are exact, after D all."""

    def body(_, z):
        gate, shift = gate_and_shift(z)
        return (image - (1.0 - gate) * shift) / gate

    return jax.lax.fori_loop(0, image.shape[0], body, image)


# name -> builder; the two flows also take `num_layers`.
FAMILIES = {"normal": normal, "full": full, "planar": planar, "iaf": iaf}
FLOWS = ("planar", "iaf")
