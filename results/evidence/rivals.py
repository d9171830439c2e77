"""Log evidences by two other libraries, with a given number of gradient evaluations.

Each is used as its documentation says; what it leaves to its user is chosen by pilots or from its
particles, and else alike for all targets. Gradients are those that it evaluates, one for each
leapfrog step and, of BlackJAX, one where a particle's moves begin; the pilots' are among them.
"""

import functools
import math
import time
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import evaluate, weights
from aiwae_jax.types import PyTree

_NUM_CHAINS = 32  # of TFP, as of ours
_NUM_LEAPFROG_STEPS = 3
_STEP_SIZES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.8)  # of TFP, to choose from
_NUM_PILOT_CHAINS, _NUM_PILOT_STEPS = 8, 60
_NUM_POPULATIONS = 4  # of BlackJAX, whose spread is its stated error
_NUM_PILOT_PARTICLES = 32
_MIN_PARTICLES = 8
_NUM_MOVES = 5  # of BlackJAX at each temperature
_TARGET_ESS = 0.5
_TARGET_ACCEPTANCE = 0.8
_MOST_TEMPERATURES = 500


class Estimate(NamedTuple):
    """A log evidence and its stated error, nats; gradient evaluations and seconds it took."""

    value: float
    error: float
    num_gradients: int
    seconds: float
    note: str = ""


def combine(log_weights: np.ndarray) -> tuple[float, float]:
    """Log mean weight of `[K]` log weights, and its jackknife error, nats.

    Args:
      log_weights: of chains, or log evidences of populations.
    """
    log_weights = weights.zero_if_broken(jnp.asarray(log_weights, jnp.float32))
    largest = jnp.where(jnp.isfinite(log_weights.max()), log_weights.max(), 0.0)
    rest = log_weights - largest
    value = float(largest) + float(weights.log_mean_exp(rest))
    return value, float(weights.log_mean_standard_error(rest))


class Tfp:
    """`tfp.mcmc.sample_annealed_importance_chain` with HMC: temperatures evenly spaced.

    Nothing in it chooses a step size: the one of a few whose short chains have the largest mean log
    weight is taken. Moves begin with the density and gradient of the last temperature's, as the
    library has it.
    """

    name = "TFP"

    def __init__(self, target: evaluate.Target, x: PyTree, num_gradients: int):
        import tensorflow_probability.substrates.jax as tfp

        datum = jax.tree.map(lambda a: jnp.asarray(a[0]), x)
        start = target.start(datum)
        num_pilots = len(_STEP_SIZES) * _NUM_PILOT_CHAINS * _NUM_PILOT_STEPS
        self._num_steps = num_gradients // _NUM_LEAPFROG_STEPS - num_pilots
        self._num_steps //= _NUM_CHAINS
        self._num_moves = num_pilots + self._num_steps * _NUM_CHAINS

        @functools.partial(jax.jit, static_argnames=("num_chains", "num_steps"))
        def run(key, step_size, num_chains, num_steps):
            start_key, chain_key = jax.random.split(key)
            z = jax.vmap(start.sample)(jax.random.split(start_key, num_chains))
            _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
                num_steps,
                proposal_log_prob_fn=jax.vmap(start.log_prob),
                target_log_prob_fn=jax.vmap(lambda z: target.log_joint(datum, z)),
                current_state=z,
                make_kernel_fn=lambda log_density_fn: tfp.mcmc.HamiltonianMonteCarlo(
                    log_density_fn, step_size, _NUM_LEAPFROG_STEPS
                ),
                seed=chain_key,
            )
            return weights.zero_if_broken(log_weights)

        self._run = run

    def __call__(self, key: chex.PRNGKey) -> Estimate:
        """One estimate, of pilots and of the chains that count."""
        began = time.process_time()
        pilot_key, key = jax.random.split(key)
        means = [
            np.mean(self._run(pilot_key, step_size, _NUM_PILOT_CHAINS, _NUM_PILOT_STEPS))
            for step_size in _STEP_SIZES
        ]
        step_size = _STEP_SIZES[int(np.argmax(means))]
        value, error = combine(np.asarray(self._run(key, step_size, _NUM_CHAINS, self._num_steps)))
        num_gradients, seconds = self._num_moves * _NUM_LEAPFROG_STEPS, time.process_time() - began
        return Estimate(value, error, num_gradients, seconds, f"step size {step_size}")


class BlackJax:
    """`blackjax.adaptive_tempered_smc` with HMC: temperatures by the effective sample size.

    Mass matrix and step size of the next temperature follow from the particles and their
    acceptance. A pilot population counts the temperatures, from which follows how many particles
    the gradients are enough for.
    """

    name = "BlackJAX"

    def __init__(self, target: evaluate.Target, x: PyTree, num_gradients: int):
        import blackjax
        from blackjax.smc import adaptive_tempered, resampling
        from blackjax.smc.tuning.from_kernel_info import update_scale_from_acceptance_rate

        self._budget = num_gradients
        self._datum = jax.tree.map(lambda a: jnp.asarray(a[0]), x)
        self._start = start = target.start(self._datum)
        self._init = adaptive_tempered.init
        kernel = adaptive_tempered.build_kernel(
            start.log_prob,
            lambda z: target.log_joint(self._datum, z) - start.log_prob(z),
            blackjax.hmc.build_kernel(),
            blackjax.hmc.init,
            resampling.systematic,
            _TARGET_ESS,
        )

        @jax.jit
        @jax.vmap
        def step(key, state, step_size):
            share = state.weights[:, None]
            mean = jnp.sum(share * state.particles, axis=0)
            variances = jnp.sum(share * jnp.square(state.particles - mean), axis=0)
            parameters = {
                "step_size": step_size,
                "inverse_mass_matrix": jnp.maximum(variances, 1e-20),
                "num_integration_steps": jnp.asarray(_NUM_LEAPFROG_STEPS),
            }
            parameters = jax.tree.map(lambda a: a[None], parameters)
            state, info = kernel(key, state, _NUM_MOVES, parameters)
            acceptance = jnp.mean(info.update_info.acceptance_rate)
            step_size = update_scale_from_acceptance_rate(
                step_size[None], acceptance[None], _TARGET_ACCEPTANCE
            )[0]
            return state, step_size, info.log_likelihood_increment

        self._step = step

    def _run(
        self, key: chex.PRNGKey, num_populations: int, num_particles: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log evidences `[P]`, NaN of those that do not arrive, and numbers of temperatures."""
        start_key, key = jax.random.split(key)
        keys = jax.random.split(start_key, (num_populations, num_particles))
        particles = jax.vmap(jax.vmap(self._start.sample))(keys)
        states = jax.vmap(self._init)(particles)
        states = states._replace(tempering_param=jnp.zeros(num_populations))
        step_sizes = jnp.ones(num_populations)
        log_evidence = np.zeros(num_populations)
        num_temperatures = np.zeros(num_populations, int)
        for i in range(_MOST_TEMPERATURES):
            is_running = np.asarray(states.tempering_param) < 1.0
            if not is_running.any():
                break
            keys = jax.random.split(jax.random.fold_in(key, i), num_populations)
            states, step_sizes, increments = self._step(keys, states, step_sizes)
            log_evidence[is_running] += np.asarray(increments, np.float64)[is_running]
            num_temperatures += is_running
        is_there = np.asarray(states.tempering_param) >= 1.0
        return np.where(is_there, log_evidence, math.nan), num_temperatures

    def __call__(self, key: chex.PRNGKey) -> Estimate:
        """One estimate, of a pilot and of four populations."""
        began = time.process_time()
        pilot_key, key = jax.random.split(key)
        per_temperature = 1 + _NUM_MOVES * _NUM_LEAPFROG_STEPS  # of a particle
        _, (num_pilot,) = self._run(pilot_key, 1, _NUM_PILOT_PARTICLES)
        num_pilot_gradients = int(num_pilot) * _NUM_PILOT_PARTICLES * per_temperature
        left = self._budget - num_pilot_gradients
        num_particles = int(left // (_NUM_POPULATIONS * num_pilot * per_temperature))
        num_particles = max(num_particles, _MIN_PARTICLES)
        found, num_temperatures = self._run(key, _NUM_POPULATIONS, num_particles)
        value, error = combine(found)
        num_gradients = num_pilot_gradients
        num_gradients += int(num_temperatures.sum()) * num_particles * per_temperature
        note = f"{num_particles} particles, {num_temperatures.mean():.0f} temperatures"
        if np.isnan(found).any():
            note += f", {np.isnan(found).sum()} of {_NUM_POPULATIONS} did not arrive"
        return Estimate(value, error, num_gradients, time.process_time() - began, note)


RIVALS = (BlackJax, Tfp)
