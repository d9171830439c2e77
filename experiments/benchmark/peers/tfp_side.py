"""`tfp.mcmc.sample_annealed_importance_chain` (JAX substrate) with HMC, all chains in one program.

Its temperatures are evenly spaced. It may start from anything; from q its step sizes are in
proportion to q's standard deviations, which its HMC takes as they are. It has no step size of its
own: the best of a few on pilots is given to it, and their time is not counted.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import weights
from aiwae_jax.parallel import sharding
from experiments.benchmark.peers.bounds import Bounds
from experiments.benchmark.peers.problem import Problem


def side(
    problem: Problem, num_temperatures: int, setting: tuple[float, int], *, start: str
) -> Callable[[], Bounds]:
    """A call that estimates log p(x) of all images.

    Args:
      problem: what is measured.
      num_temperatures: counting 0 and 1.
      setting: step size, in standard deviations of the start, and leapfrog steps.
      start: "prior" or "posterior".
    """
    import tensorflow_probability.substrates.jax as tfp

    target = problem.target(start)
    step_size, num_leapfrog_steps = setting

    @jax.jit
    def log_likelihood(target, x, key):
        log_joint, start_fn = target
        start_key, chain_key = jax.random.split(key)
        q = jax.vmap(start_fn)(x)
        keys = jax.random.split(start_key, (problem.num_chains, len(x)))
        z = jax.vmap(jax.vmap(lambda q, key: q.sample(key)), (None, 0))(q, keys)
        scale = jax.vmap(lambda q: q.stddev())(q)

        def over_chains(fn):
            return jax.vmap(jax.vmap(fn), (None, 0))

        _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            num_temperatures - 1,
            proposal_log_prob_fn=lambda z: over_chains(lambda q, z: q.log_prob(z))(q, z),
            target_log_prob_fn=lambda z: over_chains(log_joint)(x, z),
            current_state=z,
            make_kernel_fn=lambda log_density_fn: tfp.mcmc.HamiltonianMonteCarlo(
                log_density_fn,
                jnp.asarray(step_size, z.dtype) * scale,
                num_leapfrog_steps,
            ),
            seed=chain_key,
        )
        return jax.vmap(weights.log_mean_exp, 1)(weights.zero_if_broken(log_weights))

    mesh = sharding.largest_mesh(len(problem.x))
    x = jax.device_put(problem.x, sharding.over_data(mesh))

    def call() -> Bounds:
        return Bounds(np.asarray(log_likelihood(target.functions, x, problem.key)))

    return call
