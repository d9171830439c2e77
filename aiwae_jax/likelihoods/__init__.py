"""Likelihoods: how the outputs of a decoder become a distribution over one datum.

Each is small: a distribution with `log_prob`, `sample` and `mean`, what it learns beside the
decoder's outputs, the data that it is of, and the outputs that it needs. One of your own is a
`Likelihood` too.
"""

from aiwae_jax.likelihoods.adapter import numpyro
from aiwae_jax.likelihoods.base import Likelihood
from aiwae_jax.likelihoods.bits import bernoulli
from aiwae_jax.likelihoods.classes import categorical
from aiwae_jax.likelihoods.counts import (
    is_given_library,
    negative_binomial,
    poisson,
    with_library,
    zero_inflated_negative_binomial,
)
from aiwae_jax.likelihoods.missing import masked
from aiwae_jax.likelihoods.mixed import columns
from aiwae_jax.likelihoods.pixels import discretized_logistic
from aiwae_jax.likelihoods.real import normal, standardize, standardized, student_t
from aiwae_jax.likelihoods.text import BUILDERS, REAL, Part, from_text, parse

__all__ = [
    "BUILDERS",
    "REAL",
    "Likelihood",
    "Part",
    "bernoulli",
    "categorical",
    "columns",
    "discretized_logistic",
    "from_text",
    "is_given_library",
    "masked",
    "negative_binomial",
    "normal",
    "numpyro",
    "parse",
    "poisson",
    "standardize",
    "standardized",
    "student_t",
    "with_library",
    "zero_inflated_negative_binomial",
]
