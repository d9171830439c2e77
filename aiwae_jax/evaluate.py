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
_SEGMENT_SIZE = 256  # temperatures per call at most


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


class _Segment(NamedTuple):
    """What a stretch of temperatures leaves behind, in slots of which the first `num_moves` count."""

    step_sizes: chex.Array  # [S] as used, or as found by a pilot
    acceptance: chex.Array  # [S]
    num_nonfinite: chex.Array  # []


def _as_partial(fn: Callable) -> Partial:
    return fn if isinstance(fn, Partial) else Partial(fn)


@partial(jax.jit, static_argnames="num_chains")
def _start(key, indices, x, log_joint_fn, initial_fn, *, num_chains):
    """Draws every chain's starting point; keys depend on a datum's index, not on its chunk."""

    def start_datum(index, x):
        initial = initial_fn(x)

        def start_chain(key):
            z = initial.sample(key)
            return ais.init(z, initial.log_prob, lambda z: log_joint_fn(x, z))

        start_keys, chain_keys = jax.random.split(jax.random.fold_in(key, index), (2, num_chains))
        return chain_keys, jax.vmap(start_chain)(start_keys)

    return jax.vmap(start_datum)(indices, x)


@partial(jax.jit, static_argnames="num_leapfrog_steps", donate_argnames="states")
def _anneal(
    states,
    pilot_step_size,
    keys,
    x,
    log_joint_fn,
    initial_fn,
    first,
    num_moves,
    betas,
    step_sizes,
    target_acceptance,
    *,
    num_leapfrog_steps,
):
    """Takes all chains of a chunk through `num_moves` temperatures: (states, step size, `_Segment`).

    `betas` and `step_sizes` are the next `_SEGMENT_SIZE` entries of the schedule, and every length
    is a run-time value: the program is compiled once for any T, and cutting a long schedule into
    segments changes nothing. With `target_acceptance` > 0 it is a pilot: one step size follows the
    acceptance from temperature to temperature (Robbins & Monro 1951, in the logarithm).
    """
    is_pilot = target_acceptance > 0.0

    def body(i, carry):
        states, pilot_step_size, segment = carry
        step_size = jnp.where(is_pilot, pilot_step_size, segment.step_sizes[i])

        def step_datum(keys, states, x):
            initial = initial_fn(x)
            return jax.vmap(
                lambda key, state: ais.step(
                    jax.random.fold_in(key, first + i),
                    state,
                    betas[i],
                    step_size,
                    initial.log_prob,
                    lambda z: log_joint_fn(x, z),
                    num_leapfrog_steps=num_leapfrog_steps,
                )
            )(keys, states)

        states, info = jax.vmap(step_datum)(keys, states, x)
        acceptance = jnp.mean(info.acceptance)
        gain = jnp.where(is_pilot, _PILOT_GAIN, 0.0)
        step_size = step_size * jnp.exp(gain * (acceptance - target_acceptance))
        return (
            states,
            step_size,
            _Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                num_nonfinite=segment.num_nonfinite + jnp.sum(info.num_nonfinite),
            ),
        )

    segment = _Segment(step_sizes, jnp.zeros_like(step_sizes), jnp.zeros((), jnp.int32))
    return jax.lax.fori_loop(0, num_moves, body, (states, pilot_step_size, segment))


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
    key,
    indices,
    x,
    functions,
    betas,
    step_sizes,
    target_acceptance,
    *,
    num_chains,
    num_leapfrog_steps,
    on_moves,
    pace,
):
    """Starts and anneals one chunk up to, not including, the last temperature.

    Returns:
      The chains' states, and `_Segment` of NumPy arrays over the T-2 moves.
    """
    keys, states = _start(key, indices, x, *functions, num_chains=num_chains)
    num_all = len(betas) - 2
    found = _Segment(np.zeros(num_all), np.zeros(num_all), 0)
    pilot_step_size = np.float32(step_sizes[0]) if num_all else np.float32(0.0)
    first = 0
    while first < num_all:
        num_moves = min(pace.num_moves(), num_all - first, _SEGMENT_SIZE)
        stretch = slice(first, first + num_moves)
        padding = (0, _SEGMENT_SIZE - num_moves)
        began = time.monotonic()
        states, pilot_step_size, segment = _anneal(
            states,
            pilot_step_size,
            keys,
            x,
            *functions,
            np.int32(first + 1),
            np.int32(num_moves),
            np.pad(betas[1:-1][stretch], padding),
            np.pad(step_sizes[stretch], padding),
            np.float32(target_acceptance),
            num_leapfrog_steps=num_leapfrog_steps,
        )
        found.step_sizes[stretch] = segment.step_sizes[:num_moves]  # waits for the device
        found.acceptance[stretch] = segment.acceptance[:num_moves]
        found = found._replace(num_nonfinite=found.num_nonfinite + int(segment.num_nonfinite))
        pace.record(num_moves, time.monotonic() - began)
        first += num_moves
        on_moves(num_moves)
    return states, found


def _smooth(step_sizes: np.ndarray) -> np.ndarray:
    """Moving geometric mean over temperatures, with a shorter window at the two ends."""
    ones = np.ones(_SMOOTHING_WINDOW)
    counts = np.convolve(np.ones_like(step_sizes), ones, mode="same")
    return np.exp(np.convolve(np.log(step_sizes), ones, mode="same") / counts)


def _select(x: PyTree, indices: np.ndarray) -> PyTree:
    return jax.tree.map(lambda a: np.asarray(a)[indices], x)


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
    betas = np.asarray(ais.linear_schedule(num_temperatures))
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

    pilot_indices = np.unique(
        np.linspace(0, num_data - 1, min(num_pilot_data, num_data)).astype(np.int32)
    )
    num_pilot_temperatures = int(np.clip(num_temperatures, 100, max_pilot_temperatures))
    pilot_schedule = np.linspace(0, 1, num_pilot_temperatures, dtype=np.float32)
    pilot_betas = np.concatenate([np.zeros(_NUM_WARM_UP_MOVES, np.float32), pilot_schedule])
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
            pilot_indices,
            _select(x, pilot_indices),
            functions,
            pilot_betas,
            step_sizes.astype(np.float32),
            target_acceptance,
            num_chains=num_pilot_chains,
            num_leapfrog_steps=num_leapfrog_steps,
            on_moves=partial(on_moves, per_pilot_move),
            pace=_Pace(),
        )[1]

    with jax.default_matmul_precision("highest"):
        search_key, check_key, run_key = jax.random.split(key, 3)
        start = np.full(len(pilot_betas) - 2, 0.1)
        frozen = _smooth(run_pilot(search_key, start, target_acceptance).step_sizes)
        # A second pilot runs with the frozen step sizes. Near the integrator's stability limit the
        # acceptance falls off a cliff, and a step size that is right on average is wrong for good.
        acceptance = run_pilot(check_key, frozen, 0.0).acceptance
        frozen = frozen * np.exp(np.minimum(acceptance - target_acceptance, 0.0))
        log_step_sizes = np.interp(
            betas[1:-1],
            pilot_betas[_NUM_WARM_UP_MOVES:-1],
            np.log(frozen[_NUM_WARM_UP_MOVES - 1 :]),
        )
        step_sizes = np.exp(log_step_sizes).astype(np.float32)

        pace, results, acceptances, num_nonfinite = _Pace(), [], [], 0
        for first in range(0, num_data, chunk_size):
            # The last chunk is filled up with repeats, whose results are dropped.
            indices = np.minimum(np.arange(first, first + chunk_size, dtype=np.int32), num_data - 1)
            states, found = _run_population(
                run_key,
                indices,
                _select(x, indices),
                functions,
                betas,
                step_sizes,
                0.0,
                num_chains=num_chains,
                num_leapfrog_steps=num_leapfrog_steps,
                on_moves=partial(on_moves, per_chunk_move),
                pace=pace,
            )
            num_kept = min(chunk_size, num_data - first)
            results.append([np.asarray(a)[:num_kept] for a in _finish(states, betas[-1])])
            acceptances.append(found.acceptance)
            num_nonfinite += found.num_nonfinite

    estimates, sizes, variances, num_zero_weight = (np.concatenate(a) for a in zip(*results))
    return Likelihood(
        log_likelihood=estimates,
        effective_sample_size=sizes,
        log_weight_variance=variances,
        betas=betas,
        step_sizes=step_sizes,
        acceptance=np.mean(acceptances, axis=0),
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
        return weights.log_mean_exp(jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights))

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
            indices = np.minimum(np.arange(first, first + chunk_size, dtype=np.int32), num_data - 1)
            values = _importance_bound(
                key,
                indices,
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
