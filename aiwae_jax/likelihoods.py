"""Likelihoods: how the outputs of a decoder become a distribution over one datum.

One of your own is a `Likelihood` too: it makes a distribution with `log_prob(x)`, `sample(key)` and
`mean()` of the outputs, and of whatever it learns beside them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from aiwae_jax import checks, distributions, support
from aiwae_jax.types import PyTree


class Likelihood(NamedTuple):
    """A likelihood of data of any size.

    Attributes:
      build: `build(params, *outputs)` -> distribution over x, of the decoder's outputs.
      init: `init() -> params`, learned and shared by all data; often nothing.
      check_data: `check_data(x, *, name)` raises ValueError for data `[N, ...]` that it is not of.
    """

    build: Callable[..., Any]
    init: Callable[[], dict[str, PyTree]] = dict
    check_data: Callable[..., None] = support.check_finite


def bernoulli() -> Likelihood:
    """Independent bits; the decoder puts out their log odds `[X]`."""

    def build(params, logits):
        del params
        return distributions.Bernoulli(logits)

    return Likelihood(build, check_data=support.check_binary)


def normal(scale: float | None = None, *, initial_scale: float = 1.0) -> Likelihood:
    """Independent normals of one standard deviation; the decoder puts out their means `[X]`.

    Args:
      scale: the standard deviation; None for one that is learned, shared by all coordinates and
        data, as `{"log_scale": []}`.
      initial_scale: where a learned one starts.

    Raises:
      ValueError: for one that is not positive and finite.
      TypeError: for what is no number.
    """
    if scale is not None:
        checks.positive("scale", scale)
    checks.positive("initial_scale", initial_scale)

    def build(params, loc):
        return distributions.DiagNormal(loc, jnp.exp(params["log_scale"]) if params else scale)

    def init():
        return {"log_scale": jnp.asarray(math.log(initial_scale), float)} if scale is None else {}

    return Likelihood(build, init)
