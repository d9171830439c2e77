"""Where a chain lives: the two ends of one datum's annealing path, in latent space or in q's base.

Annealing in *base* space moves the noise ε of z = f(ε) instead of z: f_0 is the noise's N(0, I) and
f_n(ε) = p(x, f(ε))·|det ∂f/∂ε|. Path and weights are the same; the chain sees q's scales. For a
Gaussian q it is HMC with the diagonal mass matrix 1/σ².
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax

from aiwae_jax import distributions
from aiwae_jax.types import LogDensityFn, Model, PyTree


class Path(NamedTuple):
    """The ends of the path of one datum, as functions of the chain's position `[D]`.

    Attributes:
      sample: `sample(key) -> [D]`, an exact draw from f_0.
      log_initial: log f_0, normalized, nats.
      log_target: log f_n, whose normalizer is p(x), nats.
      from_latent: the position `[D]` of a latent z `[D]`.
      to_latent: the latent z `[D]` at a position `[D]`.
    """

    sample: Callable[[chex.PRNGKey], chex.Array]
    log_initial: LogDensityFn
    log_target: LogDensityFn
    from_latent: Callable[[chex.Array], chex.Array]
    to_latent: Callable[[chex.Array], chex.Array]


def _identity(z: chex.Array) -> chex.Array:
    return z


def in_latent_space(log_joint_fn: Callable, initial_fn: Callable, x: PyTree) -> Path:
    """The chain's position is z itself."""
    initial = initial_fn(x)
    log_target = partial(log_joint_fn, x)
    return Path(initial.sample, initial.log_prob, log_target, _identity, _identity)


def in_base_space(log_joint_fn: Callable, initial_fn: Callable, x: PyTree) -> Path:
    """The chain's position is the noise that `transport` maps to z."""
    initial = initial_fn(x)
    latent = jax.eval_shape(initial.sample, jax.random.key(0))
    noise = distributions.standard_normal(latent.shape[0], latent.dtype)

    def log_target(position):
        z, log_det = initial.transport(position)
        return log_joint_fn(x, z) + log_det

    def from_latent(z):
        return initial.inverse_transport(z)

    def to_latent(position):
        return initial.transport(position)[0]

    return Path(noise.sample, noise.log_prob, log_target, from_latent, to_latent)


SPACES = {"latent": in_latent_space, "base": in_base_space}


def check_space(chain_space: str, model: Model) -> None:
    """Raises ValueError for an unknown space, or for one that the model's posterior cannot serve.

    A chain in z asks for log q at every point it visits, one in base space never does.
    """
    if chain_space not in SPACES:
        raise ValueError(f"`chain_space` must be one of {', '.join(SPACES)}; got {chain_space!r}.")
    if chain_space == "base" and model.latents == "binary":
        raise ValueError(
            "`chain_space`='base' moves the noise that q turns smoothly into z, and there is none "
            "for binary latents; use 'latent'."
        )
    if chain_space == "latent" and not model.has_posterior_density:
        raise ValueError(
            "`chain_space`='latent' needs log q at points that q did not draw, which this model's "
            "posterior does not have; use 'base'."
        )
