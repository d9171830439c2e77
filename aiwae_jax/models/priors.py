"""Priors over continuous latents: N(0, I), and a mixture of normals that is learned.

A VampPrior (Tomczak & Welling 2018) is not among them. Its components are q at learned inputs, so
it is made of φ, and a `Model`'s prior is a part of p_θ(x, z), which θ alone says: methods here
climb θ and φ on objectives of their own. With an encoder of its own in θ it would be the mixture
below, written in a longer way.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import checks, distributions
from aiwae_jax.types import Distribution, PyTree

_SPREAD = 0.8  # of a mixture's first means


class Prior(NamedTuple):
    """A prior that may learn.

    Attributes:
      init: `init(key) -> params`, learned; nothing for one that does not.
      build: `build(params) -> Distribution` over `[D]`.
    """

    init: Callable[[chex.PRNGKey], PyTree]
    build: Callable[[PyTree], Distribution]


def normal(latent_size: int) -> Prior:
    """N(0, I)."""
    return Prior(lambda key: {}, lambda params: distributions.standard_normal(latent_size))


def mixture(latent_size: int, num_components: int = 10) -> Prior:
    """A mixture of diagonal normals, whose weights, means and scales are learned.

    It starts as N(0, I) in expectation, with components that are apart: means of standard deviation
    0.8, scales of 0.6.

    Raises:
      ValueError: for no component.
    """
    checks.integer("num_components", num_components, least=1)

    def init(key: chex.PRNGKey) -> PyTree:
        shape = (num_components, latent_size)
        return {
            "logits": jnp.zeros(num_components, float),
            "loc": _SPREAD * jax.random.normal(key, shape, float),
            "log_scale": jnp.full(shape, 0.5 * math.log1p(-(_SPREAD**2)), float),
        }

    def build(params: PyTree) -> distributions.Mixture:
        return distributions.Mixture(params["logits"], params["loc"], jnp.exp(params["log_scale"]))

    return Prior(init, build)


# name -> builder; a mixture also takes `num_components`.
PRIORS: dict[str, Callable[..., Prior]] = {"normal": normal, "mixture": mixture}


def named(name: str, latent_size: int, **options: Any) -> Prior:
    """A prior by its name.

    Raises:
      ValueError: for an unknown one, or an option that it does not have.
    """
    if name not in PRIORS:
        raise ValueError(f"`prior` must be one of {', '.join(PRIORS)}; got {name!r}.")
    if options and name != "mixture":
        raise ValueError(f"`{next(iter(options))}` is of `prior`='mixture', got `prior`={name!r}.")
    return PRIORS[name](latent_size, **options)
