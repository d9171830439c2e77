"""Log evidences by this library: at its defaults, with more chains, and along a path by hand."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
from rivals import Estimate, combine
from targets import Problem

from aiwae_jax import ais, evaluate, moves

NUM_CHAINS = 32
_DEFAULTS = evaluate.Settings(num_chains=NUM_CHAINS)
_NUM_BY_HAND = evaluate.num_gradients(_DEFAULTS, 1)  # for it has as many moves
_TIMES_BY_HAND = 5  # gradients that finding a plan may cost, and the chains of it


def by_default(key: chex.PRNGKey, problem: Problem) -> Estimate:
    """`evaluate.log_likelihood` with nothing chosen but the number of chains."""
    began = time.process_time()
    with _silent():
        found = evaluate.log_likelihood(key, problem.target, problem.x, _DEFAULTS)
    return _estimate(found, began)


def with_more_chains(key: chex.PRNGKey, problem: Problem) -> Estimate:
    """As many chains as five times the gradients by hand are enough for, the pilots paid first."""
    began = time.process_time()
    tuning_key, key = jax.random.split(key)
    with _silent():
        plan = evaluate.tune(tuning_key, problem.target, problem.x, _DEFAULTS)
        left = _TIMES_BY_HAND * _NUM_BY_HAND - plan.num_gradients
        num_chains = max(left * NUM_CHAINS // _NUM_BY_HAND, 1)
        settings = dataclasses.replace(_DEFAULTS, num_chains=num_chains)
        found = evaluate.log_likelihood(key, problem.target, problem.x, settings, plan=plan)
    return _estimate(found, began)._replace(note=f"{num_chains} chains, {_verdict(found)}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Of a start without a `transport`, and of what the verdict says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _verdict(found: evaluate.Likelihood) -> str:
    return "reliable" if found.is_reliable[0] else "unreliable"


def _estimate(found: evaluate.Likelihood, began: float) -> Estimate:
    return Estimate(
        float(found.log_likelihood[0]),
        float(found.standard_errors[0]),
        found.plan.num_gradients + found.num_gradients,
        time.process_time() - began,
        _verdict(found),
    )


def by_hand(key: chex.PRNGKey, problem: Problem) -> Estimate:
    """As many temperatures in a geometric row, and for every coordinate the step of its own scale.

    It knows what has to be found elsewhere, and runs in float64: its gradients are what finding it
    is measured by. Three steps of 0.52 standard deviations are a quarter of an oscillation, after
    which nothing is left of where a normal's move began (of 1.0 they are half of one: no mixing).
    """
    began = time.process_time()
    num_moves, num_leapfrog_steps = _DEFAULTS.num_temperatures - 2, _DEFAULTS.num_leapfrog_steps
    variances = problem.scales**2
    betas = np.geomspace(0.1 * variances.min(), 1.0, num_moves + 1)[:-1]
    step_sizes = 0.52 / np.sqrt(1.0 - betas[:, None] + betas[:, None] / variances)
    move = moves.hmc(num_leapfrog_steps)
    datum = jax.tree.map(lambda a: a[0], problem.x)

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        start = problem.target.start(datum)
        ends = start.log_prob, lambda z: problem.target.log_joint(datum, z)

        def step(state, inputs):
            number, beta, own = inputs
            key = jax.random.fold_in(chain_key, number)
            return ais.step(key, state, beta, own, *ends, move=move)[0], None

        state = ais.init(start.sample(start_key), *ends)
        state, _ = jax.lax.scan(step, state, (jnp.arange(num_moves), betas, step_sizes))
        return ais.reweight(state, 1.0).log_weight

    with jax.enable_x64(True):
        log_weights = jax.jit(jax.vmap(chain))(jax.random.split(key, NUM_CHAINS))
    return Estimate(*combine(log_weights), _NUM_BY_HAND, time.process_time() - began)
