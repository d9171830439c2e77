"""Posteriors richer than a diagonal normal, each a transport of standard normal noise.

A `Family` turns an encoder's outputs into a posterior. Chains run in the noise (`chain_space`
"base"), so that none of them needs an inverse; those of the two flows are numerical and serve
reverse chains.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import distributions, networks
from aiwae_jax.types import Posterior, PyTree

_NUM_MOMENT_SAMPLES = 128
_NUM_BISECTIONS = 40
_LEAST_SLOPE = 1e-3  # of a planar layer along its w
_TINY = 1e-30
_IAF_HIDDEN_SIZE = 100
# In real fp32: a GPU's tf32 would make z and its determinant belong to two different maps.
_vdot = partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)


class Transported:
    """The distribution of f(ε), ε ~ N(0, I), for an invertible f; a `Posterior`.

    It is no pytree: functions that make one travel, it stays inside them.
    """

    def __init__(
        self,
        size: int,
        transport: Callable[[chex.Array], tuple[chex.Array, chex.Array]],
        inverse_transport: Callable[[chex.Array], chex.Array],
        log_prob: Callable[[chex.Array], chex.Array] | None = None,
    ):
        """Args as the methods of the same names; `log_prob` is None where z alone does not do."""
        self._noise = distributions.standard_normal(size)
        self.transport = transport
        self.inverse_transport = inverse_transport
        self._log_prob = log_prob

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[D]`, differentiable in f's parameters."""
        return self.transport(self._noise.sample(key))[0]

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and its log density `[]`, without an inverse."""
        noise = self._noise.sample(key)
        z, log_det = self.transport(noise)
        return z, self._noise.log_prob(noise) - log_det

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log density `[]` at `z` `[D]`, nats.

        Raises:
          TypeError: where the inverse is only numerical and has no gradient.
        """
        if self._log_prob is None:
            raise TypeError(
                "This flow has the density of its own samples only; use `sample_and_log_prob`, "
                "`chain_space`='base', or another posterior."
            )
        return self._log_prob(z)

    def mean(self) -> chex.Array:
        """Mean `[D]` of 128 antithetic draws of fixed noise: an approximation."""
        return jnp.mean(self._fixed_samples(), axis=0)

    def stddev(self) -> chex.Array:
        """Standard deviations `[D]` of the same draws."""
        return jnp.std(self._fixed_samples(), axis=0)

    def _fixed_samples(self) -> chex.Array:
        half = jax.random.normal(
            jax.random.key(0), (_NUM_MOMENT_SAMPLES // 2, self._noise.loc.shape[0])
        )
        return jax.vmap(self.transport)(jnp.concatenate([half, -half]))[0]


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
    _check_num_layers(num_layers)

    def build(params, loc, log_scale, u, w, b):
        del params
        base = distributions.DiagNormal(loc, jnp.exp(log_scale))
        w = w.reshape(num_layers, latent_size)
        u, slopes = jax.vmap(_invertible)(u.reshape(num_layers, latent_size), w)

        def transport(noise):
            def body(carry, layer):
                z, log_det = carry
                u, slope, w, b = layer
                h = jnp.tanh(_vdot(w, z) + b)
                log_det += jnp.log1p((1.0 - h**2) * slope)
                return (z + u * h, log_det), None

            return jax.lax.scan(body, base.transport(noise), (u, slopes, w, b))[0]

        def inverse_transport(z):
            def body(z, layer):
                u, slope, w, b = layer
                along = _planar_inverse(_vdot(w, z), slope, b)
                return z - u * jnp.tanh(along + b), None

            z, _ = jax.lax.scan(body, z, (u, slopes, w, b), reverse=True)
            return base.inverse_transport(z)

        return Transported(latent_size, transport, inverse_transport)

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


def _planar_inverse(image: chex.Array, product: chex.Array, b: chex.Array) -> chex.Array:
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
    _check_num_layers(num_layers)
    network = networks.autoregressive(latent_size, _IAF_HIDDEN_SIZE, _IAF_HIDDEN_SIZE)

    def init(key):
        return [network.init(each) for each in jax.random.split(key, num_layers)]

    def gate_and_shift(layer, context, z):
        shift, logit = network.apply(layer, z, context)
        return jax.nn.sigmoid(logit + 2.0), shift  # gates start open: near the identity

    def build(params, loc, log_scale, context):
        base = distributions.DiagNormal(loc, jnp.exp(log_scale))
        context = jnp.tanh(context)

        def transport(noise):
            z, log_det = base.transport(noise)
            for layer in params:
                gate, shift = gate_and_shift(layer, context, z)
                z = (gate * z + (1.0 - gate) * shift)[::-1]
                log_det += jnp.sum(jnp.log(gate))
            return z, log_det

        def inverse_transport(z):
            for layer in reversed(params):
                z = _autoregressive_inverse(partial(gate_and_shift, layer, context), z[::-1])
            return base.inverse_transport(z)

        return Transported(latent_size, transport, inverse_transport)

    return Family((latent_size, latent_size, _IAF_HIDDEN_SIZE), init, build, has_density=False)


def _autoregressive_inverse(gate_and_shift, image: chex.Array) -> chex.Array:
    """Fixed-point iteration: after i turns the first i coordinates are exact, after D all."""

    def body(_, z):
        gate, shift = gate_and_shift(z)
        return (image - (1.0 - gate) * shift) / gate

    return jax.lax.fori_loop(0, image.shape[0], body, image)


def _check_num_layers(num_layers: int) -> None:
    if num_layers < 0:
        raise ValueError(f"`num_layers` must be at least 0, got {num_layers}.")


# name -> builder; the two flows also take `num_layers`.
FAMILIES = {"normal": normal, "full": full, "planar": planar, "iaf": iaf}
FLOWS = ("planar", "iaf")
