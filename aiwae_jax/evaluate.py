"""Measuring a trained model: log-likelihood by annealed importance sampling, bounds, active units.

Everything works on *any* differentiable log p(x, z). Pass functions that close over large parameters
as `jax.tree_util.Partial(fn, params)`: their arrays are then arguments of the compiled program, and
the next model of the same shape needs no new compilation.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais, hmc, weights
from aiwae_jax.types import PyTree

LogJointFn = Callable[[PyTree, chex.Array], chex.Array]
InitialFn = Callable[[PyTree], Any]
ProgressFn = Callable[[int, int], None]

_SECONDS_PER_SEGMENT = 1.0
_NUM_WARM_UP_MOVES = 30  # pilot moves at β=0, while the step size finds its scale
_PILOT_GAIN = 0.3
_SMOOTHING_WINDOW = 5  # temperatures


class Likelihood(NamedTuple):
    """Annealed importance sampling estimates of log p(x) for N data.

    Attributes:
      log_likelihood: `[N]` log mean weight of each datum's chains, nats. exp of it is unbiased for
        p(x); itself it is a stochastic lower bound.
      effective_sample_size: `[N]` of the chains' weights, in [0, num_chains].
      log_weight_variance: `[N]` variance of the log weights over chains, nats².
      betas: `[T]` the schedule.
      step_sizes: `[T-2]` frozen leapfrog step sizes of the moves at betas[1:-1].
      acceptance: `[T-2]` mean acceptance probability at each of them, over data and chains.
      num_nonfinite: moves rejected for a non-finite energy.
      num_zero_weight: chains that ended with weight zero.
      num_gradients: gradient evaluations of log p(x, z), pilot chains included.
    """

    log_likelihood: np.ndarray
    effective_sample_size: np.ndarray
    log_weight_variance: np.ndarray
    betas: np.ndarray
    step_sizes: np.ndarray
    acceptance: np.ndarray
    num_nonfinite: int
    num_zero_weight: int
    num_gradients: int


class _Population(NamedTuple):
    """All chains of a chunk of data between two temperatures."""

    states: ais.AISState  # [B, K] particles
    step_size: chex.Array  # [] the pilot's current step size
    step_sizes: chex.Array  # [T] as used (frozen) or as found (pilot) at each temperature
    acceptance: chex.Array  # [T]
    num_nonfinite: chex.Array  # []


def _as_partial(fn: Callable) -> Partial:
    return fn if isinstance(fn, Partial) else Partial(fn)


@partial(jax.jit, static_argnames="num_chains")
def _start(key, indices, x, log_joint_fn, initial_fn, step_sizes, *, num_chains):
    """Draws every chain's starting point; keys depend on a datum's index, not on its chunk."""

    def start_datum(index, x):
        initial = initial_fn(x)

        def start_chain(chain):
            start_key, chain_key = jax.random.split(
                jax.random.fold_in(jax.random.fold_in(key, index), chain)
            )
            state = ais.init(
                initial.sample(start_key), initial.log_prob, lambda z: log_joint_fn(x, z)
            )
            return chain_key, state

        return jax.vmap(start_chain)(jnp.arange(num_chains))

    keys, states = jax.vmap(start_datum)(indices, x)
    zeros = jnp.zeros_like(step_sizes)
    num_nonfinite = jnp.zeros((), jnp.int32)
    return keys, _Population(states, step_sizes[0], step_sizes, zeros, num_nonfinite)


@partial(
    jax.jit,
    static_argnames=("num_leapfrog_steps", "target_acceptance"),
    donate_argnames="population",
)
def _anneal(
    population,
    keys,
    x,
    log_joint_fn,
    initial_fn,
    betas,
    start,
    stop,
    *,
    num_leapfrog_steps,
    target_acceptance,
):
    """Takes a population through temperatures start .. stop-1.

    The bounds are run-time values, so the program is compiled once for any T, and cutting a long
    schedule into segments changes nothing. With a `target_acceptance` it is a pilot: one step size
    follows the acceptance from temperature to temperature (Robbins & Monro 1951 in the log).
    """

    def body(t, population):
        is_pilot = target_acceptance is not None
        step_size = population.step_size if is_pilot else population.step_sizes[t]

        def step_datum(keys, states, x):
            initial = initial_fn(x)
            return jax.vmap(
                lambda key, state: ais.step(
                    jax.random.fold_in(key, t),
                    state,
                    betas[t],
                    step_size,
                    initial.log_prob,
                    lambda z: log_joint_fn(x, z),
                    num_leapfrog_steps=num_leapfrog_steps,
                )
            )(keys, states)

        states, info = jax.vmap(step_datum)(keys, population.states, x)
        acceptance = jnp.mean(info.acceptance)
        step_sizes = population.step_sizes
        if is_pilot:
            step_size = step_size * jnp.exp(_PILOT_GAIN * (acceptance - target_acceptance))
            step_sizes = step_sizes.at[t].set(step_size)
        return _Population(
            states=states,
            step_size=step_size,
            step_sizes=step_sizes,
            acceptance=population.acceptance.at[t].set(acceptance),
            num_nonfinite=population.num_nonfinite + jnp.sum(info.num_nonfinite),
        )

    return jax.lax.fori_loop(start, stop, body, population)


@jax.jit
def _finish(states, beta):
    """The last weight increment, and each datum's statistics of its chains' log weights."""
    log_weights = jax.vmap(jax.vmap(lambda state: ais.reweight(state, beta).log_weight))(states)
    num_zero_weight = jnp.sum(log_weights == -jnp.inf, axis=1)
    return (
        jax.vmap(weights.log_mean_exp)(log_weights),
        jax.vmap(weights.effective_sample_size)(log_weights),
        jnp.var(log_weights, axis=1),
        num_zero_weight,
    )


class _Pace:
    """Chooses segment lengths of about a second, so that the host can report and be interrupted."""

    def __init__(self):
        self.moves_per_second = None

    def num_moves(self) -> int:
        if self.moves_per_second is None:
            return 1
        return max(1, int(self.moves_per_second * _SECONDS_PER_SEGMENT))

    def record(self, num_moves: int, seconds: float) -> None:
        self.moves_per_second = num_moves / max(seconds, 1e-6)


def _run_population(
    key, indices, x, functions, betas, step_sizes, *, num_chains, on_moves, pace, **options
):
    """Starts and anneals one chunk up to, not including, the last temperature."""
    keys, population = _start(key, indices, x, *functions, step_sizes, num_chains=num_chains)
    t, last = 1, betas.shape[0] - 1
    while t < last:
        num_moves = min(pace.num_moves(), last - t)
        began = time.monotonic()
        population = _anneal(population, keys, x, *functions, betas, t, t + num_moves, **options)
        jax.block_until_ready(population)
        pace.record(num_moves, time.monotonic() - began)
        t += num_moves
        on_moves(num_moves)
    return population


def _smooth(step_sizes: chex.Array, window: int) -> chex.Array:
    """Moving geometric mean over temperatures, `[T]`, with a shorter window at the two ends."""
    ones = jnp.ones(window)
    counts = jnp.convolve(jnp.ones_like(step_sizes), ones, mode="same")
    return jnp.exp(jnp.convolve(jnp.log(step_sizes), ones, mode="same") / counts)


def _select(x: PyTree, indices: np.ndarray) -> PyTree:
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[indices]), x)


def log_likelihood(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    *,
    num_temperatures: int = 1000,
    num_chains: int = 16,
    num_leapfrog_steps: int = 10,
    target_acceptance: float = 0.6,
    chunk_size: int = 100,
    num_pilot_data: int = 32,
    num_pilot_chains: int = 4,
    max_pilot_temperatures: int = 500,
    progress_fn: ProgressFn | None = None,
) -> Likelihood:
    """Estimates log p(x) of each datum by AIS from `initial` to the joint (section 5.2; Wu 2016).

    Step sizes are tuned on pilot chains with keys of their own and then frozen, one per temperature,
    shared by all data, so that the reported weights are unbiased. (Adapting on the very chains that
    are reported, as is often done, biases them.)

    Args:
      key: consumed. Estimates depend on a datum's index in `x`, not on `chunk_size`.
      log_joint_fn: `(x, z) -> []`, log p(x, z), nats, for one datum and one latent `[D]`.
      initial: `x -> Posterior` (or any `Distribution`, such as the prior) to anneal from.
      x: pytree of data with leading axis N.
      num_temperatures: T of a linear schedule, counting 0 and 1.
      num_chains: chains per datum.
      num_leapfrog_steps: L.
      target_acceptance: what the pilot steers each step size to.
      chunk_size: data annealed at once.
      num_pilot_data: data that the pilot uses, spread evenly over `x`.
      num_pilot_chains: its chains per datum.
      max_pilot_temperatures: its number of temperatures is at most this; step sizes in between are
        interpolated.
      progress_fn: called about every second with (gradient evaluations done, in all).

    Returns:
      A `Likelihood` of NumPy arrays.

    Raises:
      ValueError: if a count is too small.
    """
    betas = ais.linear_schedule(num_temperatures)
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    for name, count in dict(
        num_chains=num_chains, chunk_size=chunk_size, num_pilot_data=num_pilot_data
    ).items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")
    num_data = jax.tree.leaves(x)[0].shape[0]
    if num_data < 1:
        raise ValueError("`x` must hold at least one datum, got none.")
    chunk_size = min(chunk_size, num_data)
    functions = (_as_partial(log_joint_fn), _as_partial(initial))

    pilot_indices = np.unique(np.linspace(0, num_data - 1, min(num_pilot_data, num_data)).astype(int))
    num_pilot_temperatures = int(np.clip(num_temperatures, 100, max_pilot_temperatures))
    pilot_betas = jnp.concatenate(
        [jnp.zeros(_NUM_WARM_UP_MOVES), ais.linear_schedule(num_pilot_temperatures)]
    )
    per_pilot_move = len(pilot_indices) * num_pilot_chains * num_leapfrog_steps
    per_chunk_move = chunk_size * num_chains * num_leapfrog_steps
    num_chunks = -(-num_data // chunk_size)
    num_gradients = 2 * per_pilot_move * (len(pilot_betas) - 2)
    num_gradients += num_chunks * per_chunk_move * (num_temperatures - 2)
    done = 0

    def on_moves(gradients_per_move, num_moves):
        nonlocal done
        done += gradients_per_move * num_moves
        if progress_fn is not None:
            progress_fn(done, num_gradients)

    def run_pilot(pilot_key, step_sizes, target_acceptance):
        return _run_population(
            pilot_key,
            jnp.asarray(pilot_indices),
            _select(x, pilot_indices),
            functions,
            pilot_betas,
            step_sizes,
            num_chains=num_pilot_chains,
            on_moves=partial(on_moves, per_pilot_move),
            pace=_Pace(),
            num_leapfrog_steps=num_leapfrog_steps,
            target_acceptance=target_acceptance,
        )

    with jax.default_matmul_precision("highest"):
        search_key, check_key, run_key = jax.random.split(key, 3)
        pilot = run_pilot(search_key, jnp.full(len(pilot_betas), 0.1), target_acceptance)
        # There is no move at the first and at the last slot; their neighbours fill them.
        frozen = jnp.pad(_smooth(pilot.step_sizes[1:-1], _SMOOTHING_WINDOW), 1, mode="edge")
        # A second pilot runs with the frozen step sizes. Near the integrator's stability limit the
        # acceptance falls off a cliff, and a step size that is right on average is wrong for good.
        acceptance = run_pilot(check_key, frozen, None).acceptance
        frozen = frozen * jnp.exp(jnp.minimum(acceptance - target_acceptance, 0.0))
        moves = slice(_NUM_WARM_UP_MOVES, -1)  # the last of the moves at β=0, and all above
        step_sizes = jnp.exp(jnp.interp(betas, pilot_betas[moves], jnp.log(frozen[moves])))

        pace, results, acceptances, num_nonfinite = _Pace(), [], [], 0
        for first in range(0, num_data, chunk_size):
            # The last chunk is filled up with repeats, whose results are dropped.
            indices = np.minimum(np.arange(first, first + chunk_size), num_data - 1)
            population = _run_population(
                run_key,
                jnp.asarray(indices),
                _select(x, indices),
                functions,
                betas,
                step_sizes,
                num_chains=num_chains,
                on_moves=partial(on_moves, per_chunk_move),
                pace=pace,
                num_leapfrog_steps=num_leapfrog_steps,
                target_acceptance=None,
            )
            num_kept = min(chunk_size, num_data - first)
            results.append([np.asarray(a)[:num_kept] for a in _finish(population.states, betas[-1])])
            acceptances.append(np.asarray(population.acceptance))
            num_nonfinite += int(population.num_nonfinite)

    estimates, sizes, variances, num_zero_weight = (np.concatenate(a) for a in zip(*results))
    return Likelihood(
        log_likelihood=estimates,
        effective_sample_size=sizes,
        log_weight_variance=variances,
        betas=np.asarray(betas),
        step_sizes=np.asarray(step_sizes)[1:-1],
        acceptance=np.mean(acceptances, axis=0)[1:-1],
        num_nonfinite=num_nonfinite,
        num_zero_weight=int(num_zero_weight.sum()),
        num_gradients=num_gradients,
    )


@partial(jax.jit, static_argnames=("num_blocks", "block_size"))
def _importance_bound(key, indices, x, log_joint_fn, initial_fn, *, num_blocks, block_size):
    def bound_datum(index, x):
        initial = initial_fn(x)

        def block(block_key):
            z = jax.vmap(initial.sample)(jax.random.split(block_key, block_size))
            log_p = jax.vmap(lambda z_k: log_joint_fn(x, z_k))(z)
            return log_p - jax.vmap(initial.log_prob)(z)

        log_weights = jax.lax.map(
            block, jax.random.split(jax.random.fold_in(key, index), num_blocks)
        ).reshape(-1)
        return weights.log_mean_exp(
            jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)
        )

    return jax.vmap(bound_datum)(indices, x)


def importance_bound(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    *,
    num_samples: int = 5000,
    chunk_size: int = 100,
    block_size: int = 50,
    progress_fn: ProgressFn | None = None,
) -> np.ndarray:
    """L_{num_samples} of each datum (Eq. 3), a lower bound of log p(x) in expectation, `[N]` nats.

    Args:
      key: consumed.
      log_joint_fn: `(x, z) -> []`, nats.
      initial: `x -> Posterior`, the proposal.
      x: pytree of data with leading axis N.
      num_samples: K; a multiple of `block_size`.
      chunk_size: data treated at once.
      block_size: samples per datum treated at once; bounds the memory.
      progress_fn: called with (data done, in all).

    Raises:
      ValueError: if `num_samples` is not a positive multiple of `block_size`.
    """
    if num_samples < 1 or num_samples % block_size:
        raise ValueError(
            f"`num_samples` must be a positive multiple of `block_size`={block_size}, "
            f"got {num_samples}."
        )
    num_data = jax.tree.leaves(x)[0].shape[0]
    chunk_size = min(chunk_size, num_data)
    results = []
    with jax.default_matmul_precision("highest"):
        for first in range(0, num_data, chunk_size):
            indices = np.minimum(np.arange(first, first + chunk_size), num_data - 1)
            values = _importance_bound(
                key,
                jnp.asarray(indices),
                _select(x, indices),
                _as_partial(log_joint_fn),
                _as_partial(initial),
                num_blocks=num_samples // block_size,
                block_size=block_size,
            )
            results.append(np.asarray(values)[: num_data - first])
            if progress_fn is not None:
                progress_fn(min(first + chunk_size, num_data), num_data)
    return np.concatenate(results)


def active_units(
    initial: InitialFn, x: PyTree, *, threshold: float = 0.01
) -> tuple[int, np.ndarray]:
    """Counts latent units whose posterior mean varies: A_h = Var_x(E_q[h|x]) > threshold.

    Args:
      initial: `x -> Posterior` with a `mean()`.
      x: pytree of data with leading axis N.
      threshold: the paper's 0.01.

    Returns:
      The count, and A `[D]`.
    """
    means = np.asarray(_posterior_means(_as_partial(initial), x), np.float64)
    activity = means.var(axis=0)
    return int((activity > threshold).sum()), activity


@jax.jit
def _posterior_means(initial_fn, x):
    return jax.vmap(lambda x: initial_fn(x).mean())(x)


def mean_and_standard_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over data, and its standard error (NaN for fewer than two)."""
    values = np.asarray(values, np.float64)
    standard_error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(standard_error)
