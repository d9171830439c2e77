"""All annealing chains of a set of data at once, advanced by the host in segments of a second.

`ais.run_chain` is one chain in one compiled call. An evaluation takes minutes to days: here the
host sees all chains of a chunk between segments, and step sizes can follow their acceptance.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais, moves, paths, weights
from aiwae_jax.parallel import processes, sharding
from aiwae_jax.types import Move, PyTree

LogJointFn = Callable[[PyTree, chex.Array], chex.Array]
InitialFn = Callable[[PyTree], Any]
ProgressFn = Callable[[int, int], None]

SECONDS_PER_SEGMENT = 1.0
SEGMENT_SIZE = 256  # temperatures per call at most

# What becomes of the step size after each temperature.
FROZEN, PILOT, PAPER = range(3)
_PILOT_GAIN = 0.3
_NEGLIGIBLE = 20.0  # nats below a datum's heaviest chain: no part in its estimate
_STEP_SIZE_RANGE = (1e-8, 1e3)
_PAPER_LOG_FACTORS = (math.log(1.002), math.log(0.998))


@dataclasses.dataclass(frozen=True)
class Program:
    """What one program is compiled for; its fields as in `settings.Settings`."""

    num_chains: int
    num_leapfrog_steps: int
    chain_space: str
    momentum_persistence: float
    move: str = "hmc"

    def build_move(self) -> Move:
        """The move of `ais.step`."""
        return moves.build(self.move, self.num_leapfrog_steps, self.momentum_persistence)


class Segment(NamedTuple):
    """What a stretch of temperatures leaves behind; the first `num_moves` slots count."""

    step_sizes: chex.Array  # [S] as used, or as adapted after the move
    acceptance: chex.Array  # [S]
    work_variance: chex.Array  # [S] of log f_n - log f_0 over a datum's chains, mean over data
    path_sample_size: chex.Array  # [S] effective sample size of a datum's chains, mean over data
    num_nonfinite: chex.Array  # [B]


def as_partial(fn: Callable) -> Partial:
    """`fn` as a pytree, as the compiled functions below take it."""
    return fn if isinstance(fn, Partial) else Partial(fn)


@partial(jax.jit, static_argnames="program")
def _start(key, indices, x, latents, log_joint_fn, initial_fn, *, program):
    """Draws every chain's starting point; keys depend on a datum's index, not on its chunk.

    With `latents`, chains start at β=1 from their datum's exact latent, which they share.
    """
    path_fn = paths.SPACES[program.chain_space]

    def start_datum(index, x, latent):
        path = path_fn(log_joint_fn, initial_fn, x)
        start_keys, chain_keys = jax.random.split(
            jax.random.fold_in(key, index), (2, program.num_chains)
        )

        def start_chain(start_key, chain_key):
            z = path.sample(start_key) if latent is None else path.from_latent(latent)
            return ais.init(
                z,
                path.log_initial,
                path.log_target,
                beta=0.0 if latent is None else 1.0,
                momentum=ais.draw_momentum(chain_key, z, program.momentum_persistence),
            )

        return chain_keys, jax.vmap(start_chain)(start_keys, chain_keys)

    return jax.vmap(start_datum)(indices, x, latents)


def _log_step_size_change(rule, acceptance, target_acceptance):
    """Nothing; Robbins & Monro (1951) in the logarithm; or the authors' ×1.002 and ×0.998."""
    pilot = _PILOT_GAIN * (acceptance - target_acceptance)
    paper = jnp.where(acceptance >= target_acceptance, *_PAPER_LOG_FACTORS)
    return jnp.select([rule == PILOT, rule == PAPER], [pilot, paper], jnp.zeros_like(pilot))


def _variance(values):
    """Variance of `[K]` values over those that are finite, 0 where fewer than two are."""
    is_finite = jnp.isfinite(values)
    num = jnp.sum(is_finite).astype(values.dtype)
    mean = jnp.sum(jnp.where(is_finite, values, 0.0)) / jnp.maximum(num, 1.0)
    squares = jnp.where(is_finite, jnp.square(values - mean), 0.0)
    return jnp.sum(squares) / jnp.maximum(num - 1.0, 1.0)


@partial(jax.jit, static_argnames="program", donate_argnames="states")
def _anneal(
    states,
    step_size,
    keys,
    x,
    is_counted,
    log_joint_fn,
    initial_fn,
    first,
    num_moves,
    betas,
    step_sizes,
    rule,
    target_acceptance,
    *,
    program,
):
    """Takes a chunk's chains through `num_moves` temperatures: (states, step size, `Segment`).

    `betas` and `step_sizes` are the next `SEGMENT_SIZE` entries of the schedule, and every length
    is a run-time value: the program is compiled once for any T, and cutting a long schedule into
    segments changes nothing. Unless `rule` is FROZEN, one `step_size` follows the acceptance from
    temperature to temperature. Data that are not `is_counted` `[B]` only fill up the chunk;
    diagnostics leave them out.
    """
    dtype = states.position.dtype
    betas, step_sizes = betas.astype(dtype), step_sizes.astype(dtype)
    num_counted = jnp.sum(is_counted).astype(dtype)
    move = program.build_move()

    def anneal_datum(states, keys, x, is_counted):
        # The encoder, once per datum and call.
        path = paths.SPACES[program.chain_space](log_joint_fn, initial_fn, x)

        def mean_over_data(value):
            return jax.lax.psum(jnp.where(is_counted, value, 0.0), "datum") / num_counted

        def body(i, carry):
            states, step_size, segment = carry
            step_size = jnp.where(rule == FROZEN, segment.step_sizes[i], step_size)
            states, info = jax.vmap(
                lambda key, state: ais.step(
                    jax.random.fold_in(key, first + i),
                    state,
                    betas[i],
                    step_size,
                    path.log_initial,
                    path.log_target,
                    move=move,
                )
            )(keys, states)
            acceptance = mean_over_data(jnp.mean(info.acceptance))
            # One offset for all chains, whose spread it must not change.
            work = states.target.log_density - states.offset[0] - states.initial.log_density
            change = _log_step_size_change(rule, acceptance, target_acceptance.astype(dtype))
            # A move that rejects nothing has no use for its step size, which must stay a number.
            step_size = jnp.clip(step_size * jnp.exp(change), *_STEP_SIZE_RANGE)
            segment = Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                work_variance=segment.work_variance.at[i].set(mean_over_data(_variance(work))),
                path_sample_size=segment.path_sample_size.at[i].set(
                    mean_over_data(weights.effective_sample_size(states.log_weight_sum.split()[1]))
                ),
                num_nonfinite=segment.num_nonfinite + jnp.sum(info.num_nonfinite, dtype=jnp.int32),
            )
            return states, step_size, segment

        zeros = jnp.zeros_like(step_sizes)
        segment = Segment(step_sizes, zeros, zeros, zeros, jnp.zeros((), jnp.int32))
        return jax.lax.fori_loop(0, num_moves, body, (states, step_size.astype(dtype), segment))

    shared = Segment(None, None, None, None, num_nonfinite=0)
    return jax.vmap(anneal_datum, out_axes=(0, None, shared), axis_name="datum")(
        states, keys, x, is_counted
    )


@jax.jit
def _finish(states, beta):
    """The last weight increment, and each datum's statistics over its chains.

    The log mean weight comes as two terms, for the host to add in float64.
    """

    def finish_datum(states):
        states = jax.vmap(lambda state: ais.reweight(state, beta))(states)
        common, log_weights = states.log_weight_sum.split()
        energies = jnp.stack([states.initial.log_density, states.target.log_density])
        counts = (log_weights > jnp.max(log_weights) - _NEGLIGIBLE)[None] & jnp.isfinite(energies)
        return (
            (common, weights.log_mean_exp(log_weights)),
            weights.effective_sample_size(log_weights),
            _variance(log_weights),
            jnp.sum(log_weights == -jnp.inf),
            jnp.max(jnp.where(counts, jnp.abs(energies), 0.0)),
        )

    return jax.vmap(finish_datum)(states)


def select(x: PyTree, indices: np.ndarray) -> PyTree:
    """The rows `indices` of every leaf."""
    return jax.tree.map(lambda a: np.asarray(a)[indices], x)


def first(x: PyTree) -> PyTree:
    """The first datum."""
    return jax.tree.map(lambda a: a[0], select(x, np.arange(1)))


def chunks(num_data: int, chunk_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices `[chunk_size]` of each chunk of data, and how many of them count.

    The last chunk is filled up with repeats of the last datum, whose results are dropped.
    """
    for first in range(0, num_data, chunk_size):
        indices = np.arange(first, first + chunk_size, dtype=np.int32)
        yield np.minimum(indices, num_data - 1), min(chunk_size, num_data - first)


class Pace:
    """Chooses segment lengths of about a second, so that the host can report and be interrupted."""

    def __init__(self, seconds: float = SECONDS_PER_SEGMENT):
        self._seconds = seconds
        self._moves_per_second = 0.0

    def num_moves(self) -> int:
        """How many moves the next segment should make, by the clock of process 0."""
        return int(
            processes.of_primary(np.asarray(max(1, int(self._moves_per_second * self._seconds))))
        )

    def record(self, num_moves: int, seconds: float) -> None:
        """Learns from a segment."""
        self._moves_per_second = num_moves / max(seconds, 1e-6)


class Placement:
    """Where data go: as evenly as possible over all devices, those of other processes included.

    Each process has some of the data, so their number is filled up to a multiple of that of the
    processes; whoever reads the results takes the first `num_data`.
    """

    def __init__(self, num_data: int):
        num_processes = jax.process_count()
        self._num_filled = -(-num_data // num_processes) * num_processes
        self._mesh = sharding.largest_mesh(self._num_filled)

    def split(self, tree: PyTree, *, filler: Any = None) -> PyTree:
        """Rows of each leaf over the devices; filled up with `filler`, by default the last row."""

        def fill(array):
            missing = self._num_filled - len(array)
            last = np.asarray(array)[-1:] if filler is None else np.array([filler])
            return np.concatenate([array, np.repeat(last, missing, axis=0)]) if missing else array

        return sharding.put(jax.tree.map(fill, tree), sharding.over_data(self._mesh))

    def replicate(self, tree: PyTree) -> PyTree:
        """Each leaf on all devices."""
        return sharding.put(tree, sharding.replicated(self._mesh))


class Annealed(NamedTuple):
    """What one chunk's chains leave behind, as NumPy arrays.

    Attributes:
      log_mean_weight: `[B]` nats, float64 of sums that have lost no digits.
      effective_sample_size: `[B]`.
      log_weight_variance: `[B]` nats², over the weights that are not zero.
      num_zero_weight: `[B]` chains of weight zero.
      rounding: `[B]` by how much neighbouring numbers of the chains' dtype differ where log f_0 or
        log f_n is largest at the end of a chain that counts, nats: no estimate is more exact.
      step_sizes: `[T-2]` as used, or as adapted after each move.
      acceptance: `[T-2]`.
      work_variance: `[T-2]` of log f_n - log f_0 at each β, nats².
      path_sample_size: `[T-2]` effective sample size of the chains so far, mean over data.
      num_nonfinite: `[B]` moves rejected for a non-finite energy.
    """

    log_mean_weight: np.ndarray
    effective_sample_size: np.ndarray
    log_weight_variance: np.ndarray
    num_zero_weight: np.ndarray
    rounding: np.ndarray
    step_sizes: np.ndarray
    acceptance: np.ndarray
    work_variance: np.ndarray
    path_sample_size: np.ndarray
    num_nonfinite: np.ndarray


def run(
    key: chex.PRNGKey,
    indices: np.ndarray,
    x: PyTree,
    functions: tuple[Partial, Partial],
    betas: np.ndarray,
    step_sizes: np.ndarray,
    program: Program,
    *,
    rule: int = FROZEN,
    target_acceptance: float = 0.6,
    latents: np.ndarray | None = None,
    num_counted: int | None = None,
    moves_fn: Callable[[int], None] = lambda num_moves: None,
    pace: Pace | None = None,
) -> Annealed:
    """Anneals one chunk of data from f_0 to f_n, without the move at f_n, which no weight needs.

    With `latents` and decreasing betas it goes backwards, from exact samples of f_n to f_0: the
    same program, since the increments (β - β')(log f_n - log f_0) change their sign by themselves.

    Args:
      key: parent of every datum's keys.
      indices: `[B]` numbers of the data, which choose their keys.
      x: the data, leading axis B.
      functions: log_joint_fn and initial_fn.
      betas: `[T]` schedule in the chain's direction: from 0 to 1, or with `latents` from 1 to 0.
      step_sizes: `[T-2]` of the moves at betas[1:-1]; a rule that adapts starts from the first.
      program: the program.
      rule: FROZEN, PILOT or PAPER.
      target_acceptance: what the other two steer to.
      latents: `[B, D]` exact samples of f_n to start from.
      num_counted: how many data, from the first on, the diagnostics are about; default all.
      moves_fn: called with the number of moves after each segment.
      pace: chooses the segments' lengths.
    """
    pace = pace or Pace()
    num_data = len(indices)
    is_counted = np.arange(num_data) < (num_data if num_counted is None else num_counted)
    place = Placement(num_data)
    key, functions = place.replicate((key, functions))
    indices, x, latents = place.split((indices, x, latents))
    is_counted = place.split(is_counted, filler=False)
    keys, states = _start(key, indices, x, latents, *functions, program=program)
    num_all = len(betas) - 2
    found = Segment(*(np.zeros(num_all) for _ in range(4)), np.zeros(num_data, np.int32))
    # On the devices from the start, as later segments leave it, so that one program serves all.
    step_size = np.asarray(step_sizes[0] if num_all else 0.0, states.position.dtype)
    step_size = place.replicate(step_size)
    first = 0
    while first < num_all:
        num_moves = min(pace.num_moves(), num_all - first, SEGMENT_SIZE)
        stretch = slice(first, first + num_moves)
        padding = (0, SEGMENT_SIZE - num_moves)
        began = time.monotonic()
        states, step_size, segment = _anneal(
            states,
            step_size,
            keys,
            x,
            is_counted,
            *functions,
            np.int32(first + 1),
            np.int32(num_moves),
            np.pad(betas[1:-1][stretch], padding),
            np.pad(step_sizes[stretch], padding),
            np.int32(rule),
            np.asarray(target_acceptance),
            program=program,
        )
        segment = processes.fetch(segment)  # waits for the device
        found.step_sizes[stretch] = segment.step_sizes[:num_moves]
        found.acceptance[stretch] = segment.acceptance[:num_moves]
        found.work_variance[stretch] = segment.work_variance[:num_moves]
        found.path_sample_size[stretch] = segment.path_sample_size[:num_moves]
        found.num_nonfinite[:] += segment.num_nonfinite[:num_data]
        pace.record(num_moves, time.monotonic() - began)
        first += num_moves
        moves_fn(num_moves)
    finished = jax.tree.map(lambda a: a[:num_data], processes.fetch(_finish(states, betas[-1])))
    (common, log_mean_weight), *statistics, largest = finished
    return Annealed(
        np.float64(common) + log_mean_weight,
        *statistics,
        np.spacing(largest).astype(np.float64),
        *found,
    )
