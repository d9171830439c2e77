"""Missing values: the likelihood of the cells of a datum that were observed; NaN stands for others.

Mattei & Frellsen, *MIWAE* (2019): as long as the reason why a cell is missing has nothing to do
with what it would have held, given what was observed, the others' likelihood is all that there is
to climb.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, support
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood


class Masked(NamedTuple):
    """Independent cells, of which those that are NaN were not observed.

    Attributes:
      base: the distribution of all of them, with `log_probs`.
      fill: what stands in the place of NaN where it is not looked at.
    """

    base: Any
    fill: float

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` of the observed cells of `x` `[X]`, nats; 0 where there are none."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log density of each cell, `[X]`; 0 of those that are missing."""
        is_observed = ~jnp.isnan(x)
        # Filled before the arithmetic: NaN times the zero that `where` sends back would be NaN.
        found = self.base.log_probs(jnp.where(is_observed, x, self.fill))
        return jnp.where(is_observed, found, 0.0)

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws all cells `[X]`."""
        return self.base.sample(key)

    def mean(self) -> chex.Array:
        """What the base calls its mean, of all cells `[X]`."""
        return self.base.mean()

    @property
    def classes_of_columns(self) -> tuple[int, ...] | None:
        """How many classes each column has, 0 where it holds numbers; None where all do."""
        return getattr(self.base, "classes_of_columns", None)


@of_likelihood
def masked(base: Likelihood, *, fill: float = 0.0) -> Likelihood:
    """A likelihood of the observed cells; those that are NaN are missing, at random.

    An encoder that is made for it sees the inputs of `base`, with zeros for what is missing (of
    standardized columns their mean, of categories no class), and beside them X bits: 1 for what was
    observed. Draws have all cells; those of a model, `model.sample(key, theta, x)`, have NaN where
    the datum `x` has it. It stands outside of `standardize`, and may stand inside of `columns`.

    Args:
      base: of cells that are independent given the decoder's outputs. A distribution of your own
        needs `log_probs(x) -> [X]` beside `log_prob`.
      fill: a value that `base` is of, in every column, which stands in the place of NaN where
        data are checked and where derivatives are taken, and counts for nothing.

    Raises:
      ValueError: for a likelihood that is given a part of the datum, or is masked already.
      TypeError: for what is no likelihood. The likelihood raises it where `base` builds a
        distribution without `log_probs`.
    """
    if not isinstance(base, Likelihood):
        raise TypeError(
            "`base` must be a `likelihoods.Likelihood`, such as `likelihoods.normal()`, got "
            f"{checks.describe(base)}."
        )
    if base.is_conditional:
        raise ValueError(
            "`base` must be of all its columns: a library size is the total of all counts, and "
            "nobody knows it where some are missing; leave `library` out."
        )
    if base.takes_missing:
        raise ValueError("`base` is masked already; leave one of the two out.")
    fill = float(checks.real("fill", fill))

    def build(params, *outputs):
        distribution = base.build(params, *outputs)
        if not hasattr(distribution, "log_probs"):
            raise TypeError(
                "`base` must build a distribution with `log_probs(x) -> [X]`, the log density of "
                f"each cell, for cells to be left out; got {type(distribution).__name__}."
            )
        return Masked(distribution, fill)

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        if support.is_concrete(x):
            values = np.asarray(x)
            if values.dtype.kind == "f":
                x = np.where(np.isnan(values), np.asarray(fill, values.dtype), values)
        base.check(x, name=name, columns=columns)

    def inputs(x: chex.Array) -> chex.Array:
        # A column's own inputs are NaN where it is, or bits of which none is that of NaN.
        values = x if base.inputs is None else base.inputs(x)
        is_observed = (~jnp.isnan(x)).astype(values.dtype)
        return jnp.concatenate([jnp.where(jnp.isnan(values), 0.0, values), is_observed])

    return base._replace(
        build=build, check_data=check_data, inputs=inputs, takes_missing=True, recipe=None
    )
