"""The standard deviation or scale of a likelihood of real values: given, or learned, by whom."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from aiwae_jax import checks
from aiwae_jax.distributions import softplus
from aiwae_jax.types import PyTree

_SMALLEST = 1e-6  # of a scale that a network puts out, whose softplus can underflow to 0
WORDS = ("shared", "per_column", "per_datum")


class Scale(NamedTuple):
    """A rule for the scale.

    Attributes:
      num_heads: how many of the decoder's outputs are its: one if each datum has its own.
      init: `init(num_columns)` -> what is learned of it, and shared by all data.
      of: `of(params, *heads)` -> `[]`, or `[X]`.
    """

    num_heads: int
    init: Callable[[int | None], dict[str, PyTree]]
    of: Callable[..., chex.Array | float]


def make(scale: float | str | None, initial_scale: float, min_scale: float) -> Scale:
    """The rule that the arguments of a likelihood describe.

    Args:
      scale: a number; or "shared" (also None), "per_column" or "per_datum" for one that is learned:
        one for all, one for each column, or an output of the decoder.
      initial_scale: where a learned one starts.
      min_scale: below a learned one, which is this and something positive.

    Raises:
      ValueError: for another word, or a number that is not positive and finite.
      TypeError: for what is neither.
    """
    checks.positive("initial_scale", initial_scale)
    if not 0.0 <= checks.real("min_scale", min_scale) < initial_scale:
        raise ValueError(
            f"`min_scale` must lie in [0, `initial_scale`={initial_scale:g}), got {min_scale}."
        )
    start = initial_scale - min_scale
    if scale is None:
        scale = "shared"
    if not isinstance(scale, str):
        checks.positive("scale", scale)
        return Scale(0, lambda num_columns: {}, lambda params: scale)
    if scale not in WORDS:
        raise ValueError(f"`scale` must be a number, or one of {', '.join(WORDS)}; got {scale!r}.")
    if scale == "per_datum":
        shift = math.log(math.expm1(start)) if start < 30.0 else start

        # A softplus, for an exponential of a network's output can overflow.
        def of(params: Any, raw: chex.Array) -> chex.Array:
            del params
            return jnp.maximum(min_scale + softplus(raw + shift), _SMALLEST)

        return Scale(1, lambda num_columns: {}, of)

    def init(num_columns: int | None = None) -> dict[str, PyTree]:
        shape = ()
        if scale == "per_column":
            checks.given("data_size", num_columns, "each column has a scale of its own")
            shape = (num_columns,)
        return {"log_scale": jnp.full(shape, math.log(start), float)}

    return Scale(0, init, lambda params: min_scale + jnp.exp(params["log_scale"]))
