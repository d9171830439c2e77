"""Any distribution of NumPyro as a likelihood."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from aiwae_jax import checks, distributions, support
from aiwae_jax.likelihoods.base import Likelihood


class FromNumPyro(NamedTuple):
    """A distribution of NumPyro over one datum.

    Attributes:
      distribution: over `[X]`, its batch or event shape, or both together.
    """

    distribution: Any

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log density `[]` at `x` `[X]`, nats."""
        distribution = self.distribution
        shape = distribution.batch_shape + distribution.event_shape
        distributions.check_shape(x, jnp.zeros(shape))
        return jnp.sum(distribution.log_prob(x.astype(jnp.result_type(float))))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log density of each column `[X]`, of a distribution whose columns are independent.

        Raises:
          TypeError: for one of vectors, which has no such densities.
        """
        distribution = self.distribution
        while hasattr(distribution, "reinterpreted_batch_ndims"):
            distribution = distribution.base_dist
        if distribution.event_shape:
            raise TypeError(
                f"`make` returned a {type(distribution).__name__}, which is of whole vectors: no "
                "column of it can be left out; use one of independent columns."
            )
        distributions.check_shape(x, jnp.zeros(distribution.batch_shape))
        return distribution.log_prob(x.astype(jnp.result_type(float)))

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws `[X]`, as floats."""
        return self.distribution.sample(key).astype(jnp.result_type(float))

    def mean(self) -> chex.Array:
        """Mean `[X]`."""
        return self.distribution.mean


def numpyro(
    make: Callable[..., Any],
    *,
    head_sizes: Callable[[int], tuple[int, ...]] | None = None,
    check_data: Callable[..., None] = support.check_finite,
) -> Likelihood:
    """A likelihood of any distribution of NumPyro: `numpyro(lambda a, b: dist.Gamma(a, b))`.

    Its outputs, of any sign, must be made what its parameters are: `jax.nn.softplus` for positive
    ones. A model that has it is given to `load` again, for no file can say a function.

    Args:
      make: the decoder's outputs -> a `numpyro.distributions.Distribution` over `[X]`.
      head_sizes: as of `Likelihood`; where it is given and no `check_data`, data are also held
        against the distribution's support, where that is the same for all outputs.
      check_data: as of `Likelihood`.

    Raises:
      ImportError: if NumPyro is missing.
      TypeError: if `make` is no function. The likelihood raises it where `make` returns something
        else than a distribution.
    """
    checks.function("make", make, "outputs -> a distribution of NumPyro")
    try:
        from numpyro import distributions as theirs
    except ImportError as error:
        raise ImportError(
            "`likelihoods.numpyro` needs NumPyro: pip install 'aiwae_jax[numpyro]'."
        ) from error

    def build(params, *outputs):
        del params
        distribution = make(*outputs)
        if not isinstance(distribution, theirs.Distribution):
            raise TypeError(
                "`make` must return a `numpyro.distributions.Distribution`, got "
                f"{checks.describe(distribution)}."
            )
        return FromNumPyro(distribution)

    def check_support(x: Any, *, name: str, columns=None) -> None:
        if not support.is_concrete(x):
            return
        sizes = head_sizes(jnp.shape(x)[1])
        found = make(*(jnp.zeros(size) for size in sizes)).support
        while isinstance(found, theirs.constraints.independent):
            found = found.base_constraint
        support.check_values(
            x,
            lambda values: found(jnp.asarray(values)),
            name=name,
            columns=columns,
            rule=f"{found} for this distribution",
        )

    checks_support = head_sizes is not None and check_data is support.check_finite
    return Likelihood(
        build, check_data=check_support if checks_support else check_data, head_sizes=head_sizes
    )
