"""AIS from BlackJAX's HMC kernel, as somebody who has it would write it, in our training step."""

import jax
import jax.numpy as jnp

from aiwae_jax import ais, objectives, samplers
from aiwae_jax.types import ChainInfo, Info, Method, Model, Particles, Sampler, phase
from experiments.benchmark import problem


def annealed(model: Model, cell: problem.Size, num_leapfrog_steps: int, step_size: float):
    """A sampler like `samplers.annealed`, with vmapped particles and a scan over temperatures."""
    import blackjax

    kernel = blackjax.hmc.build_kernel()
    betas = ais.linear_schedule(cell.num_temperatures)

    def draw(key, params, x, state, *, axis_name=None):
        params = jax.lax.stop_gradient(params)
        posterior = model.posterior(params.phi, x)

        def chain(key):
            def log_target(z):
                return model.log_joint(params.theta, x, z)

            def body(carry, inputs):
                z, log_weight = carry
                key, previous, beta = inputs
                log_weight += (beta - previous) * (log_target(z) - posterior.log_prob(z))

                def log_density(z):
                    return (1.0 - beta) * posterior.log_prob(z) + beta * log_target(z)

                start = blackjax.hmc.init(z, log_density)
                moved, info = kernel(
                    *(key, start, log_density, step_size, jnp.ones(z.shape), num_leapfrog_steps)
                )
                return (moved.position, log_weight), info.acceptance_rate

            start_key, move_key = jax.random.split(key)
            keys = jax.random.split(move_key, len(betas) - 1)
            start = posterior.sample(start_key), jnp.zeros(())
            return jax.lax.scan(body, start, (keys, betas[:-1], betas[1:]))

        keys = jax.random.split(key, cell.num_particles)
        (z, log_weights), acceptance = jax.vmap(chain)(keys)
        acceptance = acceptance.mean(axis=0)
        if axis_name is not None:
            acceptance = jax.lax.pmean(acceptance, axis_name)
        info = Info(chain=ChainInfo(acceptance))
        return Particles(x, z, log_weights, posterior), info

    return Sampler(draw, gives=frozenset({"proper_weights"}))


def aiwae(cell: problem.Size) -> Method:
    """AIWAE with that sampler, all else as ours."""
    model = problem.model()
    sampler = annealed(model, cell, problem.NUM_LEAPFROG_STEPS, 0.1)
    return (
        phase(("theta",), sampler, objectives.log_joint(model)),
        phase(("phi",), samplers.importance(model, 1), objectives.elbo(model)),
    )
