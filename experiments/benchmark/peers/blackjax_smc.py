"""BlackJAX's adaptive tempered SMC with HMC, a population of particles for each image.

It chooses each temperature by the effective sample size on the way, resamples before its moves, and
from q takes q's variances as its inverse mass matrix. Temperatures that follow from the particles
themselves leave its estimate consistent, not unbiased. How many gradients it takes follows from how
many moves it makes at each temperature.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.peers.bounds import Bounds, Moves
from experiments.benchmark.peers.problem import Problem

TARGET_ESS = 0.9  # share of the particles that a step between temperatures leaves effective


@functools.partial(jax.jit, static_argnames=("num_chains", "num_moves", "num_leapfrog_steps"))
def _log_likelihood(
    functions: tuple[Callable, Callable],
    x: chex.Array,
    keys: chex.PRNGKey,
    step_size: chex.Array,
    *,
    num_chains: int,
    num_moves: int,
    num_leapfrog_steps: int,
) -> chex.Array:
    """Log evidence `[N]` of each image's population."""
    import blackjax
    from blackjax.smc import extend_params, resampling

    log_joint, start = functions
    step = functools.partial(blackjax.hmc.build_kernel(), num_integration_steps=num_leapfrog_steps)

    @jax.vmap
    def of_one(x, key):
        q = start(x)
        algorithm = blackjax.adaptive_tempered_smc(
            q.log_prob,
            lambda z: log_joint(x, z) - q.log_prob(z),
            step,
            blackjax.hmc.init,
            extend_params({"step_size": step_size, "inverse_mass_matrix": jnp.square(q.stddev())}),
            resampling.systematic,
            TARGET_ESS,
            num_mcmc_steps=num_moves,
        )
        start_key, key = jax.random.split(key)
        state = algorithm.init(jax.vmap(q.sample)(jax.random.split(start_key, num_chains)))
        state = state._replace(tempering_param=jnp.zeros(()))

        def body(carry):
            number, state, total = carry
            state, info = algorithm.step(jax.random.fold_in(key, number), state)
            return number + 1, state, total + info.log_likelihood_increment

        _, _, total = jax.lax.while_loop(
            lambda carry: carry[1].tempering_param < 1.0, body, (0, state, jnp.zeros(()))
        )
        return total

    return of_one(x, keys)


def side(problem: Problem, num_moves: int, moves: Moves, *, start: str) -> Callable[[], Bounds]:
    """A call that estimates log p(x) of all images.

    Args:
      problem: what is measured; its chains are the particles.
      num_moves: at each temperature.
      moves: step size in standard deviations of the start.
      start: "prior" or "posterior".
    """
    functions, x = problem.target(start).functions, problem.over_devices(problem.x)
    keys = problem.over_devices(jax.random.split(problem.key, len(problem.x)))

    def call() -> Bounds:
        found = _log_likelihood(
            *(functions, x, keys, np.float32(moves.step_size)),
            num_chains=problem.num_chains,
            num_moves=num_moves,
            num_leapfrog_steps=moves.num_leapfrog_steps,
        )
        return Bounds(np.asarray(found))

    return call
