"""Bits: independent, from their log odds."""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from aiwae_jax import distributions, support
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood, one_head


def logits_of_mean(mean: chex.Array) -> chex.Array:
    """Log odds `[X]` of the mean training datum, clipped to [0.001, 0.999] as in the IWAE code."""
    probabilities = jnp.clip(jnp.asarray(mean, float), 0.001, 0.999)
    return jnp.log(probabilities) - jnp.log1p(-probabilities)


@of_likelihood
def bernoulli() -> Likelihood:
    """Independent bits; the decoder puts out their log odds `[X]`.

    Grey levels become bits in the data set, anew at every use (`data.from_arrays(max_level=255)`);
    bits that are there already stay what they are.
    """

    def build(params, logits):
        del params
        return distributions.Bernoulli(logits)

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        if columns is None:  # says what grey levels and ±1 are turned into
            support.check_binary(x, name=name)
        else:
            support.check_values(
                x,
                lambda values: np.isin(values, (0, 1)),
                name=name,
                columns=columns,
                rule="0s and 1s for a Bernoulli likelihood",
            )

    return Likelihood(
        build,
        check_data=check_data,
        head_sizes=one_head,
        first_outputs=lambda mean: (logits_of_mean(mean),),
    )
