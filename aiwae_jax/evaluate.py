"""Measuring a trained model: log-likelihood by annealed importance sampling, bounds, active units.

Everything works on *any* differentiable log p(x, z). Pass functions that close over large
parameters as `jax.tree_util.Partial(fn, params)`: their arrays are then arguments of the compiled
program, and the next model of the same shape needs no new compilation.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import ais, hmc, population, weights
from aiwae_jax.types import PyTree

LogJointFn = Callable[[PyTree, chex.Array], chex.Array]
InitialFn = Callable[[PyTree], Any]
ProgressFn = Callable[[int, int], None]

_NUM_WARM_UP_MOVES = 30  # pilot moves at β=0, while the step size finds its scale
_PILOT_TEMPERATURES = (100, 500)  # at least, at most
_INITIAL_STEP_SIZE = 0.1
_SMOOTHING_WINDOW = 5  # temperatures


class Likelihood(NamedTuple):
    """Annealed importance sampling estimates of log p(x) for N data.

    Attributes:
      log_likelihood: `[N]` log mean weight of each datum's chains, nats. exp of it is unbiased for
        p(x); itself it is a stochastic lower bound.
      effective_sample_size: `[N]` of the chains' weights, in [0, num_chains].
      log_weight_variance: `[N]` variance over chains of the log weights that are finite, nats².
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


def _smooth(step_sizes: np.ndarray) -> np.ndarray:
    """Moving geometric mean over temperatures, with a shorter window at the two ends."""
    ones = np.ones(_SMOOTHING_WINDOW)
    counts = np.convolve(np.ones_like(step_sizes), ones, mode="same")
    return np.exp(np.convolve(np.log(step_sizes), ones, mode="same") / counts)


def _select(x: PyTree, indices: np.ndarray) -> PyTree:
    return jax.tree.map(lambda a: np.asarray(a)[indices], x)


class _Pilot:
    """Finds one step size per temperature on chains of its own, whose weights nobody sees.

    The pilot's own grid of temperatures has a bounded size; step sizes in between are interpolated.
    """

    def __init__(self, num_data, num_temperatures, num_pilot_data, num_pilot_chains):
        num_pilot_data = min(num_pilot_data, num_data)
        self._indices = np.unique(np.linspace(0, num_data - 1, num_pilot_data).astype(np.int32))
        self._num_chains = num_pilot_chains
        schedule = np.linspace(
            0, 1, int(np.clip(num_temperatures, *_PILOT_TEMPERATURES)), dtype=np.float32
        )
        self._betas = np.concatenate([np.zeros(_NUM_WARM_UP_MOVES, np.float32), schedule])
        self._num_chain_moves = len(self._betas) - 2
        # of all chains, in both passes
        self.num_moves = 2 * len(self._indices) * self._num_chains * self._num_chain_moves

    def tune(
        self,
        key,
        x,
        functions,
        betas,
        target_acceptance,
        *,
        num_leapfrog_steps,
        gradients_fn,
    ) -> np.ndarray:
        """Step sizes `[T-2]` for the moves at betas[1:-1]."""
        gradients_per_move = len(self._indices) * self._num_chains * num_leapfrog_steps

        def run(pass_key, step_sizes, steer_to):
            return population.run(
                pass_key,
                self._indices,
                _select(x, self._indices),
                functions,
                self._betas,
                step_sizes.astype(np.float32),
                steer_to,
                num_counted=len(self._indices),
                num_chains=self._num_chains,
                num_leapfrog_steps=num_leapfrog_steps,
                moves_fn=lambda num_moves: gradients_fn(num_moves * gradients_per_move),
                pace=population.Pace(),
            )[1]

        search_key, check_key = jax.random.split(key)
        start = np.full(self._num_chain_moves, _INITIAL_STEP_SIZE)
        frozen = _smooth(run(search_key, start, target_acceptance).step_sizes)
        # A second pass runs with the frozen step sizes. Near the integrator's stability limit the
        # acceptance falls off a cliff, and a step size that is right on average is wrong for good.
        acceptance = run(check_key, frozen, 0.0).acceptance
        frozen = frozen * np.exp(np.minimum(acceptance - target_acceptance, 0.0))
        found_at = self._betas[_NUM_WARM_UP_MOVES:-1]  # the last warm-up move is the one at β=0
        log_step_sizes = np.interp(betas[1:-1], found_at, np.log(frozen[_NUM_WARM_UP_MOVES - 1 :]))
        return np.exp(log_step_sizes).astype(np.float32)


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
    progress_fn: ProgressFn | None = None,
) -> Likelihood:
    """Estimates log p(x) of each datum by AIS from `initial` to the joint (section 5.2; Wu 2016).

    Step sizes are tuned on pilot chains with keys of their own and then frozen, one per
    temperature, shared by all data, so that the reported weights are unbiased. (Adapting on the
    very chains that are reported, as is often done, biases them.)

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
      progress_fn: called about every second with (gradient evaluations done, in all).

    Returns:
      A `Likelihood` of NumPy arrays.

    Raises:
      ValueError: if a count is too small.
    """
    betas = np.asarray(ais.linear_schedule(num_temperatures))
    hmc.check_num_leapfrog_steps(num_leapfrog_steps)
    counts = {
        "num_chains": num_chains,
        "chunk_size": chunk_size,
        "num_pilot_data": num_pilot_data,
        "num_pilot_chains": num_pilot_chains,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")
    num_data = jax.tree.leaves(x)[0].shape[0]
    if num_data < 1:
        raise ValueError("`x` must hold at least one datum, got none.")
    chunk_size = min(chunk_size, num_data)
    functions = (population.as_partial(log_joint_fn), population.as_partial(initial))

    per_chunk_move = chunk_size * num_chains * num_leapfrog_steps
    num_chunks = -(-num_data // chunk_size)
    pilot = _Pilot(num_data, num_temperatures, num_pilot_data, num_pilot_chains)
    num_gradients = num_leapfrog_steps * pilot.num_moves
    num_gradients += num_chunks * per_chunk_move * (num_temperatures - 2)
    done = 0

    def gradients_fn(num):
        nonlocal done
        done += num
        if progress_fn is not None:
            progress_fn(done, num_gradients)

    with jax.default_matmul_precision("highest"):
        pilot_key, run_key = jax.random.split(key)
        step_sizes = pilot.tune(
            pilot_key,
            x,
            functions,
            betas,
            target_acceptance,
            num_leapfrog_steps=num_leapfrog_steps,
            gradients_fn=gradients_fn,
        )
        pace, results = population.Pace(), []
        acceptance, num_nonfinite = np.zeros(num_temperatures - 2), 0
        for indices, num_kept in population.chunks(num_data, chunk_size):
            states, found = population.run(
                run_key,
                indices,
                _select(x, indices),
                functions,
                betas,
                step_sizes,
                0.0,
                num_counted=num_kept,
                num_chains=num_chains,
                num_leapfrog_steps=num_leapfrog_steps,
                moves_fn=lambda num_moves: gradients_fn(num_moves * per_chunk_move),
                pace=pace,
            )
            finished = population.finish(states, betas[-1])
            results.append([np.asarray(a)[:num_kept] for a in finished])
            acceptance += found.acceptance * num_kept / num_data
            num_nonfinite += found.num_nonfinite

    estimates, sizes, variances, num_zero_weight = map(np.concatenate, zip(*results, strict=True))
    return Likelihood(
        log_likelihood=estimates,
        effective_sample_size=sizes,
        log_weight_variance=variances,
        betas=betas,
        step_sizes=step_sizes,
        acceptance=acceptance,
        num_nonfinite=num_nonfinite,
        num_zero_weight=int(num_zero_weight.sum()),
        num_gradients=num_gradients,
    )


def estimate_seconds(
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    *,
    num_temperatures: int,
    num_chains: int,
    num_leapfrog_steps: int,
    chunk_size: int = 100,
) -> float:
    """Predicts how long `log_likelihood` with these arguments takes, pilots aside.

    It takes the fastest of four moves of one chunk, after the compilation, which `log_likelihood`
    will not repeat.
    """
    num_data = jax.tree.leaves(x)[0].shape[0]
    indices = np.arange(min(chunk_size, num_data), dtype=np.int32)
    ends: list[float] = []
    with jax.default_matmul_precision("highest"):
        population.run(
            jax.random.key(0),
            indices,
            _select(x, indices),
            (population.as_partial(log_joint_fn), population.as_partial(initial)),
            np.linspace(0, 1, 7, dtype=np.float32),
            np.full(5, 1e-3, np.float32),
            0.0,
            num_counted=len(indices),
            num_chains=num_chains,
            num_leapfrog_steps=num_leapfrog_steps,
            moves_fn=lambda num_moves: ends.append(time.monotonic()),
            pace=population.Pace(seconds=0.0),
        )
    seconds_per_move = np.diff(ends).min()
    return -(-num_data // len(indices)) * (num_temperatures - 2) * float(seconds_per_move)


class ImportanceBound(NamedTuple):
    """Multi-sample bounds of N data.

    Attributes:
      bound: `[N]` nats.
      num_zero_weight: samples whose weight was zero or not finite (and then counted as zero).
    """

    bound: np.ndarray
    num_zero_weight: int


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
        log_weights = weights.zero_if_broken(log_weights)
        return weights.log_mean_exp(log_weights), jnp.sum(log_weights == -jnp.inf)

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
) -> ImportanceBound:
    """L_{num_samples} of each datum (Eq. 3), a lower bound of log p(x) in expectation.

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
        for indices, num_kept in population.chunks(num_data, chunk_size):
            found = _importance_bound(
                key,
                indices,
                _select(x, indices),
                population.as_partial(log_joint_fn),
                population.as_partial(initial),
                num_blocks=num_samples // block_size,
                block_size=block_size,
            )
            results.append([np.asarray(a)[:num_kept] for a in found])
            if progress_fn is not None:
                progress_fn(int(indices[-1]) + 1, num_data)
    bound, num_zero_weight = map(np.concatenate, zip(*results, strict=True))
    return ImportanceBound(bound, int(num_zero_weight.sum()))


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
    means = np.asarray(_posterior_means(population.as_partial(initial), x), np.float64)
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
