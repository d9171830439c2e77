"""Sequential Monte Carlo: chains of a population are drawn anew where few of them bear the weight.

An annealed chain that has gone astray is carried to the end, at a weight of nearly zero. Where a
population's effective sample size has fallen low, systematic resampling gives its places to heavy
chains, in proportion to weights, and all of them the mean weight (Del Moral, Doucet & Jasra 2006).
The mean weight of all chains has the same expectation after it as before, and whether to resample
may depend on the weights, so that with temperatures and step sizes frozen exp of an estimate
remains unbiased for p(x). Chains of one population have common ancestors and are no longer
independent: errors come from several populations.
"""

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import ais, weights

_STREAM = 2**31  # moves take the numbers below as parts of a chain's key


def resample(
    keys: chex.PRNGKey,
    number: chex.Numeric,
    states: ais.AISState,
    num_populations: int,
    threshold: float,
) -> ais.AISState:
    """Resamples those of a datum's populations whose effective sample size is low.

    Args:
      keys: `[K]` of the chains.
      number: of the temperature.
      states: of K chains, of which each K / `num_populations` in turn form a population.
      num_populations: P.
      threshold: share of a population's chains below which its effective sample size is low.
    """
    num_chains = keys.shape[0]
    size, dtype = num_chains // num_populations, states.position.dtype
    common, log_weights = states.log_weight_sum.split()
    populations = log_weights.reshape(num_populations, size)
    sample_sizes = jax.vmap(weights.effective_sample_size)(populations)
    is_low = (sample_sizes < threshold * size) & (sample_sizes > 0.0)

    # Which chain each place goes on with.
    numbers = jnp.uint32(_STREAM) + jnp.asarray(number, jnp.uint32)
    uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, numbers), (), dtype))
    drawn = jax.vmap(_ancestors)(uniform(keys[::size]), populations)
    own = jnp.arange(size)
    ancestors = jnp.where(is_low[:, None], drawn, own) + size * jnp.arange(num_populations)[:, None]
    moved = jax.tree.map(lambda a: a[ancestors.reshape(-1)], states)

    # All of a population get its mean weight; its digits are kept, see `RunningSum`.
    means = jnp.repeat(jax.vmap(weights.log_mean_exp)(populations), size)
    mean_work = weights.RunningSum.of(jnp.full(num_chains, common)).add(means)
    mean_work = mean_work.add_product(-moved.beta, moved.offset)
    is_moved = jnp.repeat(is_low, size)
    work = jax.tree.map(lambda new, old: jnp.where(is_moved, new, old), mean_work, moved.work)
    return moved._replace(work=work)


def _ancestors(uniform: chex.Array, log_weights: chex.Array) -> chex.Array:
    """`[n]` places of a population's chains by systematic resampling: E[copies] = n·w̃."""
    size = log_weights.shape[0]
    marks = (uniform + jnp.arange(size, dtype=uniform.dtype)) / size
    return weights.pick(marks, log_weights)
