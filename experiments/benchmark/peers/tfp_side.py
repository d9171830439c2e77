"""`tfp.mcmc.sample_annealed_importance_chain` (JAX substrate) with HMC, all chains in one program.

Its temperatures are evenly spaced. It may start from anything; from q its step sizes are in
proportion to q's standard deviations, which its HMC takes as they are. It has no step size of its
own: the best of a few on pilots is given to it, and their time is not counted.
"""

import functools
from collections.abc import Callable

import chex
import jax
import numpy as np

from aiwae_jax import weights
from experiments.benchmark.peers.bounds import Bounds, Moves
from experiments.benchmark.peers.problem import Problem


@functools.partial(jax.jit, static_argnames=("num_chains", "num_leapfrog_steps"))
def _log_likelihood(
    functions: tuple[Callable, Callable],
    x: chex.Array,
    key: chex.PRNGKey,
    step_size: chex.Array,
    num_steps: chex.Array,
    *,
    num_chains: int,
    num_leapfrog_steps: int,
) -> chex.Array:
    """Log mean weight `[N]` of the chains of each image."""
    import tensorflow_probability.substrates.jax as tfp

    log_joint, start = functions
    start_key, chain_key = jax.random.split(key)

    def over_chains(fn):
        """Of one image and one latent, for images `[N, X]` and latents `[chains, N, D]`."""
        return jax.vmap(jax.vmap(fn), (None, 0))

    keys = jax.random.split(start_key, (num_chains, len(x)))
    z = over_chains(lambda x, key: start(x).sample(key))(x, keys)
    scale = jax.vmap(lambda x: start(x).stddev())(x)
    _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
        num_steps,
        proposal_log_prob_fn=lambda z: over_chains(lambda x, z: start(x).log_prob(z))(x, z),
        target_log_prob_fn=lambda z: over_chains(log_joint)(x, z),
        current_state=z,
        make_kernel_fn=lambda log_density_fn: tfp.mcmc.HamiltonianMonteCarlo(
            log_density_fn, step_size * scale[None], num_leapfrog_steps
        ),
        seed=chain_key,
    )
    return jax.vmap(weights.log_mean_exp, 1)(weights.zero_if_broken(log_weights))


def side(problem: Problem, num_gradients: int, moves: Moves, *, start: str) -> Callable[[], Bounds]:
    """A call that estimates log p(x) of all images.

    Args:
      problem: what is measured.
      num_gradients: of each chain.
      moves: step size in standard deviations of the start.
      start: "prior" or "posterior".
    """
    functions, x = problem.target(start).functions, problem.over_devices(problem.x)

    def call() -> Bounds:
        num_steps = max(num_gradients // moves.num_leapfrog_steps, 1)
        found = _log_likelihood(
            *(functions, x, problem.key, np.float32(moves.step_size), np.int32(num_steps)),
            num_chains=problem.num_chains,
            num_leapfrog_steps=moves.num_leapfrog_steps,
        )
        return Bounds(np.asarray(found))

    return call
