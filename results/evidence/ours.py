"""Log evidences by this library: at its defaults, and along a path that is placed by hand."""

import time
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
from rivals import Estimate, combine
from targets import Problem

from aiwae_jax import ais, evaluate, moves

NUM_CHAINS = 32
_DEFAULTS = evaluate.Settings(num_chains=NUM_CHAINS)


def by_default(key: chex.PRNGKey, problem: Problem) -> Estimate:
    """`evaluate.log_likelihood` with nothing chosen but the number of chains."""
    began = time.process_time()
    with warnings.catch_warnings():  # of a start without a `transport`, and what the verdict says
        warnings.simplefilter("ignore")
        found = evaluate.log_likelihood(key, problem.target, problem.x, _DEFAULTS)
    return Estimate(
        float(found.log_likelihood[0]),
        float(found.standard_errors[0]),
        found.plan.num_gradients + found.num_gradients,
        time.process_time() - began,
        "reliable" if found.is_reliable[0] else "unreliable",
    )


def by_hand(key: chex.PRNGKey, problem: Problem) -> Estimate:
    """As many temperatures in a geometric row, and step sizes of the known smallest scale.

    It knows what has to be found elsewhere: its gradients are what finding it is measured by.
    """
    began = time.process_time()
    settings, variance = _DEFAULTS, problem.sharpest**2
    rising = np.geomspace(0.1 * variance, 1.0, settings.num_temperatures - 1)
    betas = np.concatenate([[0.0], rising])
    step_sizes = 0.7 / np.sqrt(1.0 - betas[1:-1] + betas[1:-1] / variance)
    move = moves.hmc(settings.num_leapfrog_steps, settings.momentum_persistence)
    datum = jax.tree.map(lambda a: jnp.asarray(a[0]), problem.x)
    start = problem.target.start(datum)

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        return ais.run_chain(
            chain_key,
            start.sample(start_key),
            start.log_prob,
            lambda z: problem.target.log_joint(datum, z),
            jnp.asarray(betas),
            jnp.asarray(step_sizes),
            move=move,
            with_last_move=False,
        )[1]

    value, error = combine(jax.jit(jax.vmap(chain))(jax.random.split(key, NUM_CHAINS)))
    num_gradients = NUM_CHAINS * len(step_sizes) * settings.num_leapfrog_steps
    return Estimate(value, error, num_gradients, time.process_time() - began)
