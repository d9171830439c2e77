"""Levels of pixels, such as 0 to 255, by a logistic distribution that is cut into them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import checks, distributions, support
from aiwae_jax.distributions import softplus
from aiwae_jax.likelihoods import scales
from aiwae_jax.likelihoods.base import Likelihood, of_likelihood


def _log_of_share(width: chex.Array) -> chex.Array:
    """log(1 - exp(-width)), of a positive width."""
    return jnp.log(-jnp.expm1(-width))


class DiscretizedLogistic(NamedTuple):
    """Independent levels: a logistic variable in [-1, 1] rounded, all beyond the ends being theirs.

    Attributes:
      loc: `[X]`, of which -1 is level 0 and 1 is the last one.
      scale: `[X]` or `[]`, positive.
      num_levels: how many there are.
    """

    loc: chex.Array
    scale: chex.Array
    num_levels: int

    def _edge(self, level: chex.Array) -> chex.Array:
        """Where a level begins, in scales from `loc`."""
        return ((2.0 * level - 1.0) / (self.num_levels - 1.0) - 1.0 - self.loc) / self.scale

    def log_prob(self, x: chex.Array) -> chex.Array:
        """Log probability `[]` of the levels `x` `[X]`, nats."""
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x: chex.Array) -> chex.Array:
        """Log probability of each level, `[X]`."""
        distributions.check_shape(x, self.loc, self.scale)
        lower, upper = self._edge(x), self._edge(x + 1.0)
        # σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)), of which no part cancels.
        below, above = -softplus(-upper), -softplus(lower)
        within = below + above + _log_of_share(2.0 / (self.num_levels - 1.0) / self.scale)
        is_first, is_last = x <= 0.0, x >= self.num_levels - 1.0
        return jnp.where(is_first, below, jnp.where(is_last, above, within))

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Draws levels `[X]`, as floats."""
        value = self.loc + self.scale * jax.random.logistic(key, self.loc.shape, self.loc.dtype)
        level = jnp.round((value + 1.0) * (self.num_levels - 1.0) / 2.0)
        return jnp.clip(level, 0.0, self.num_levels - 1.0)

    def mean(self) -> chex.Array:
        """Mean levels `[X]`, exactly: the sum of the chances to reach each level above 0."""
        levels = jnp.arange(1.0, self.num_levels, dtype=self.loc.dtype)
        return jnp.sum(jax.vmap(lambda level: jax.nn.sigmoid(-self._edge(level)))(levels), axis=0)


@of_likelihood
def discretized_logistic(
    num_levels: int = 256,
    scale: float | str | None = "per_datum",
    *,
    initial_scale: float = 0.1,
    min_scale: float = 1e-3,
) -> Likelihood:
    """Levels 0, 1, ..., by a logistic distribution of which each level has its share.

    Kingma et al. 2016 (appendix) and Salimans et al. 2017 (PixelCNN++, Eq. 2, of one component):
    the first and the last level have all that is beyond them, so that probabilities sum to 1. The
    decoder puts out where pixels lie, -1 to 1, `[X]`, and for `scale`="per_datum" their scales
    `[X]`.

    Args:
      num_levels: 256 of 8 bits.
      scale: as of `normal`, in [-1, 1].
      initial_scale: as of `normal`.
      min_scale: as of `normal`.

    Raises:
      ValueError: for fewer than two levels, or a word or number that cannot be.
      TypeError: for what is neither.
    """
    checks.integer("num_levels", num_levels, least=2)
    rule = scales.make(scale, initial_scale, min_scale)

    def build(params, loc, *heads):
        return DiscretizedLogistic(loc, rule.of(params, *heads), num_levels)

    def check_data(x: Any, *, name: str, columns: Sequence[str] | None = None) -> None:
        support.check_values(
            x,
            support.whole_below(num_levels),
            name=name,
            columns=columns,
            rule=f"whole levels in [0, {num_levels - 1}] for a discretized logistic likelihood",
        )

    def between(x: chex.Array) -> chex.Array:
        return 2.0 * x / (num_levels - 1.0) - 1.0

    return Likelihood(
        build,
        rule.init,
        check_data,
        head_sizes=lambda num_columns: (num_columns,) * (1 + rule.num_heads),
        inputs=between,
        first_outputs=lambda mean: (between(jnp.asarray(mean, float)), *[None] * rule.num_heads),
    )
