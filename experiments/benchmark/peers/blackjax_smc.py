"""BlackJAX's adaptive tempered SMC with HMC, a population of particles for each image.

It chooses each temperature by the effective sample size on the way, resamples before each move, and
from q takes q's variances as its inverse mass matrix. Temperatures that follow from the particles
themselves leave its estimate consistent, not unbiased.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.parallel import sharding
from experiments.benchmark.peers.bounds import Bounds
from experiments.benchmark.peers.problem import Problem


class Budget(NamedTuple):
    """What decides how many gradients it takes.

    Attributes:
      target_ess: share of the particles that each step down leaves effective: the nearer to 1, the
        more temperatures.
      num_moves: of HMC at each.
    """

    target_ess: float
    num_moves: int

    def __str__(self) -> str:
        return f"ESS {self.target_ess:g}, {self.num_moves} moves"


def side(
    problem: Problem, budget: Budget, setting: tuple[float, int], *, start: str
) -> Callable[[], Bounds]:
    """A call that estimates log p(x) of all images.

    Args:
      problem: what is measured; its chains are the particles.
      budget: see `Budget`.
      setting: step size, in standard deviations of the start, and leapfrog steps.
      start: "prior" or "posterior".
    """
    import blackjax
    from blackjax.smc import extend_params, resampling

    target = problem.target(start)
    step_size, num_leapfrog_steps = setting

    def of_one(log_joint, start_fn, x, key):
        q = start_fn(x)
        algorithm = blackjax.adaptive_tempered_smc(
            q.log_prob,
            lambda z: log_joint(x, z) - q.log_prob(z),
            functools.partial(
                blackjax.hmc.build_kernel(), num_integration_steps=num_leapfrog_steps
            ),
            blackjax.hmc.init,
            extend_params(
                {
                    "step_size": jnp.asarray(step_size),
                    "inverse_mass_matrix": jnp.square(q.stddev()),
                }
            ),
            resampling.systematic,
            budget.target_ess,
            num_mcmc_steps=budget.num_moves,
        )
        start_key, key = jax.random.split(key)
        particles = jax.vmap(q.sample)(jax.random.split(start_key, problem.num_chains))
        state = algorithm.init(particles)
        state = state._replace(tempering_param=jnp.zeros(()))

        def body(carry):
            number, state, total = carry
            state, info = algorithm.step(jax.random.fold_in(key, number), state)
            return number + 1, state, total + info.log_likelihood_increment

        _, _, total = jax.lax.while_loop(
            lambda carry: carry[1].tempering_param < 1.0, body, (0, state, jnp.zeros(()))
        )
        return total

    @jax.jit
    def log_likelihood(functions, x, keys):
        return jax.vmap(functools.partial(of_one, *functions))(x, keys)

    mesh = sharding.largest_mesh(len(problem.x))
    placed = sharding.over_data(mesh)
    x = jax.device_put(problem.x, placed)
    keys = jax.device_put(jax.random.split(problem.key, len(problem.x)), placed)

    def call() -> Bounds:
        return Bounds(np.asarray(log_likelihood(target.functions, x, keys)))

    return call
