"""All annealing chains of a set of data at once, advanced by the host in segments of a second.

`ais.run_chain` is one chain in one compiled call. An evaluation takes minutes to days: here the
host sees all chains of a chunk between segments, and step sizes can follow their acceptance.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais, moves, paths, weights
from aiwae_jax.evaluate.chunks import DATUM, Pace, Placement, mean_over_data
from aiwae_jax.parallel import processes
from aiwae_jax.types import Move, PyTree

SEGMENT_SIZE = 256  # temperatures per call at most

# What becomes of the step size after each temperature: nothing, or the authors' rule.
FROZEN, PAPER = range(2)
NUM_KNOTS = 16  # along the path, where a datum's own factor on the step sizes is given
_NEGLIGIBLE = 20.0  # nats below a datum's heaviest chain: no part in its estimate
_STEP_SIZE_RANGE = (1e-8, 1e3)
_PAPER_LOG_FACTORS = (math.log(1.002), math.log(0.998))


@dataclasses.dataclass(frozen=True)
class Program:
    """Facts that a program is compiled for; its fields as in `settings.Settings`."""

    num_chains: int
    num_leapfrog_steps: int
    chain_space: str
    momentum_persistence: float
    move: str = "hmc"

    def build_move(self) -> Move:
        """The move of `ais.step`."""
        return moves.build(self.move, self.num_leapfrog_steps, self.momentum_persistence)


class Segment(NamedTuple):
    """Diagnostics of a stretch of temperatures; the first `num_moves` slots count."""

    step_sizes: chex.Array  # [S] or [S, D] as used, or as adapted after the move
    acceptance: chex.Array  # [S] of chains whose weight is not zero
    work_variance: chex.Array  # [S] of log f_n - log f_0 over a datum's chains, mean over data
    path_sample_size: chex.Array  # [S] effective sample size of a datum's chains, mean over data
    num_nonfinite: chex.Array  # [B]


@partial(jax.jit, static_argnames="program")
def start(key, numbers, x, latents, functions, *, program):
    """Draws every chain's starting point; keys depend on a datum's number, not on its chunk.

    With `latents`, chains start at β=1 from their datum's exact latent, which they share.
    """
    path_fn = paths.SPACES[program.chain_space]

    def start_datum(number, x, latent):
        path = path_fn(*functions, x)
        start_keys, chain_keys = jax.random.split(
            jax.random.fold_in(key, number), (2, program.num_chains)
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

    return jax.vmap(start_datum)(numbers, x, latents)


def _log_step_size_change(rule, acceptance, target_acceptance):
    """Nothing, or the authors' ×1.002 and ×0.998."""
    paper = jnp.where(acceptance >= target_acceptance, *_PAPER_LOG_FACTORS)
    return jnp.where(rule == PAPER, paper, 0.0)


def _variance(values):
    """Variance of `[K]` values over those that are finite, 0 where fewer than two are."""
    is_finite = jnp.isfinite(values)
    num = jnp.sum(is_finite).astype(values.dtype)
    mean = jnp.sum(jnp.where(is_finite, values, 0.0)) / jnp.maximum(num, 1.0)
    squares = jnp.where(is_finite, jnp.square(values - mean), 0.0)
    return jnp.sum(squares) / jnp.maximum(num - 1.0, 1.0)


class _Data(NamedTuple):
    """Data of a chunk, as `_anneal` takes them."""

    keys: chex.Array  # [B, K]
    x: PyTree
    is_counted: chex.Array  # [B]; what fills up the chunk is left out of diagnostics
    log_factors: chex.Array | None  # [B, NUM_KNOTS] on the step sizes, where data have their own


class _Stretch(NamedTuple):
    """Temperatures of a call of `_anneal`: every length is a run-time value."""

    first: chex.Numeric  # the number of its first temperature, for the keys
    num_moves: chex.Numeric
    betas: chex.Array  # [S] of which the first `num_moves` count
    step_sizes: chex.Array  # [S] or [S, D] likewise
    places: chex.Array  # [S] among the knots
    rule: chex.Numeric
    target_acceptance: chex.Numeric


@partial(jax.jit, static_argnames="program", donate_argnames="states")
def _anneal(states, step_size, data, functions, stretch, *, program):
    """Takes a chunk's chains through a `_Stretch`: (states, step size, `Segment`).

    The program is compiled once for any T, and cutting a long schedule into segments changes
    nothing. Unless the rule is FROZEN, one `step_size` follows the acceptance from temperature to
    temperature.
    """
    dtype = states.position.dtype
    betas, step_sizes = stretch.betas.astype(dtype), stretch.step_sizes.astype(dtype)
    target_acceptance = stretch.target_acceptance.astype(dtype)
    places = stretch.places.astype(dtype)
    move = program.build_move()

    def anneal_datum(states, keys, x, is_counted, log_factors):
        # The encoder, once per datum and call.
        path = paths.SPACES[program.chain_space](*functions, x)

        def step(key, state, i, step_size):
            return ais.step(
                jax.random.fold_in(key, stretch.first + i),
                ais.recenter(state),
                betas[i],
                step_size,
                path.log_initial,
                path.log_target,
                move=move,
            )

        def body(i, carry):
            states, step_size, segment = carry
            # All chains move with one step size.
            step_size = jnp.where(stretch.rule == FROZEN, segment.step_sizes[i], step_size)
            own = step_size
            if log_factors is not None:
                knots = jnp.arange(NUM_KNOTS, dtype=dtype)
                own = own * jnp.exp(jnp.interp(places[i], knots, log_factors.astype(dtype)))
            states, info = jax.vmap(lambda key, state: step(key, state, i, own))(keys, states)

            # Acceptance is that of chains that still count; work has one offset for all chains,
            # whose spread it must not change.
            is_alive = jnp.isfinite(states.log_weight)
            num_alive = jnp.sum(is_alive)
            acceptance = jnp.sum(jnp.where(is_alive, info.acceptance, 0.0)) / jnp.maximum(
                num_alive, 1
            ).astype(dtype)
            work = states.target.log_density - states.offset[0] - states.initial.log_density
            sample_size = weights.effective_sample_size(states.log_weight_sum.split()[1])
            acceptance, work_variance, path_sample_size = mean_over_data(
                jnp.stack([acceptance, _variance(work), sample_size]),
                is_counted & jnp.stack([num_alive > 0, True, True]),
            )
            acceptance = jnp.nan_to_num(acceptance)

            # The step size follows it, if it may; a move that rejects nothing has no use for its
            # step size, which must stay a number.
            change = _log_step_size_change(stretch.rule, acceptance, target_acceptance)
            step_size = jnp.clip(step_size * jnp.exp(change), *_STEP_SIZE_RANGE)

            segment = Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                work_variance=segment.work_variance.at[i].set(work_variance),
                path_sample_size=segment.path_sample_size.at[i].set(path_sample_size),
                num_nonfinite=segment.num_nonfinite + jnp.sum(info.num_nonfinite, dtype=jnp.int32),
            )
            return states, step_size, segment

        zeros = jnp.zeros_like(betas)
        segment = Segment(step_sizes, zeros, zeros, zeros, jnp.zeros((), jnp.int32))
        carry = states, step_size.astype(dtype), segment
        return jax.lax.fori_loop(0, stretch.num_moves, body, carry)

    shared = Segment(None, None, None, None, num_nonfinite=0)
    return jax.vmap(anneal_datum, out_axes=(0, None, shared), axis_name=DATUM)(states, *data)


@jax.jit
def _reweighted(states, beta):
    return jax.vmap(jax.vmap(lambda state: ais.reweight(ais.recenter(state), beta)))(states)


@jax.jit
def _finish(states, beta):
    """The last weight increment, and each datum's statistics over its chains.

    The log mean weight comes as two terms, for the host to add in float64.
    """

    def finish_datum(states):
        states = jax.vmap(lambda state: ais.reweight(ais.recenter(state), beta))(states)
        common, log_weights = states.log_weight_sum.split()
        energies = jnp.stack([states.initial.log_density, states.target.log_density])
        counts = (log_weights > jnp.max(log_weights) - _NEGLIGIBLE)[None] & jnp.isfinite(energies)
        return (
            (common, weights.log_mean_exp(log_weights)),
            weights.log_mean_standard_error(log_weights),
            weights.effective_sample_size(log_weights),
            _variance(log_weights),
            jnp.sum(log_weights == -jnp.inf),
            jnp.max(jnp.where(counts, jnp.abs(energies), 0.0)),
        )

    return jax.vmap(finish_datum)(states)


class Annealed(NamedTuple):
    """Results of one chunk's chains, as NumPy arrays.

    Attributes:
      log_mean_weight: `[B]` nats, float64 of sums that have lost no digits.
      standard_error: `[B]` of it, over the chains, nats.
      effective_sample_size: `[B]`.
      log_weight_variance: `[B]` nats², over the weights that are not zero.
      num_zero_weight: `[B]` chains of weight zero.
      rounding: `[B]` by how much neighbouring numbers of the chains' dtype differ where log f_0 or
        log f_n is largest at the end of a chain that counts, nats: no estimate is more exact.
      step_sizes: `[T-2]` or `[T-2, D]` as used, or as adapted after each move.
      acceptance: `[T-2]` of the chains whose weight is not zero.
      work_variance: `[T-2]` of log f_n - log f_0 at each β, nats².
      path_sample_size: `[T-2]` effective sample size of the chains so far, mean over data.
      num_nonfinite: `[B]` moves rejected for a non-finite energy.
    """

    log_mean_weight: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    log_weight_variance: np.ndarray
    num_zero_weight: np.ndarray
    rounding: np.ndarray
    step_sizes: np.ndarray
    acceptance: np.ndarray
    work_variance: np.ndarray
    path_sample_size: np.ndarray
    num_nonfinite: np.ndarray


class Chunk(NamedTuple):
    """Data that are annealed together.

    Attributes:
      numbers: `[B]` of the data, which choose their keys.
      x: the data, leading axis B.
      num_counted: how many of them, from the first on, the diagnostics are about.
      latents: `[B, D]` exact samples of f_n to start from, or None to start from f_0.
      log_factors: `[B, NUM_KNOTS]` logarithms of factors on each datum's step sizes, at places
        evenly spread over the moves, or None where no datum has its own.
    """

    numbers: np.ndarray
    x: PyTree
    num_counted: int
    latents: np.ndarray | None = None
    log_factors: np.ndarray | None = None


class Course(NamedTuple):
    """Temperatures and step sizes in the direction of the chains.

    Attributes:
      betas: `[T]` schedule, from 0 to 1, or from exact latents from 1 to 0.
      step_sizes: `[T-2]`, or `[T-2, D]` of each coordinate, of the moves at betas[1:-1]; a rule
        that adapts starts from the first.
      rule: FROZEN or PAPER.
      target_acceptance: what the latter steers to.
    """

    betas: np.ndarray
    step_sizes: np.ndarray
    rule: int = FROZEN
    target_acceptance: float = 0.6

    def stretch(self, first: int, num_moves: int) -> _Stretch:
        """The next temperatures, filled up to the one length that is compiled."""

        def filled(values: np.ndarray) -> np.ndarray:
            these = values[first : first + num_moves]
            missing = [(0, SEGMENT_SIZE - num_moves)] + [(0, 0)] * (these.ndim - 1)
            return np.pad(these, missing)

        return _Stretch(
            np.int32(first + 1),
            np.int32(num_moves),
            filled(self.betas[1:-1]),
            filled(self.step_sizes),
            filled(self._places()),
            np.int32(self.rule),
            np.asarray(self.target_acceptance),
        )

    def _places(self) -> np.ndarray:
        """Of the moves among the knots, which are in the order of rising temperatures."""
        places = np.linspace(0.0, NUM_KNOTS - 1.0, max(len(self.betas) - 2, 0))
        return places if self.betas[0] < self.betas[-1] else places[::-1]


def run(
    key: chex.PRNGKey,
    functions: tuple[Partial, Partial],
    chunk: Chunk,
    course: Course,
    program: Program,
    *,
    moves_fn: Callable[[int], None] = lambda num_moves: None,
    pace: Pace | None = None,
    last_fn: Callable[[ais.AISState, PyTree], None] | None = None,
) -> Annealed:
    """Anneals one chunk of data from f_0 to f_n, without the move at f_n, which no weight needs.

    With exact latents and decreasing betas it goes backwards, from f_n to f_0: the same program,
    since the increments (β - β')(log f_n - log f_0) change their sign by themselves.

    Args:
      key: parent of every datum's keys.
      functions: of a `Target`.
      chunk: the data.
      course: the temperatures.
      program: the program.
      moves_fn: called with the number of moves after each segment.
      pace: chooses the segments' lengths.
      last_fn: called with the chains as they end, their last weight increment in them, and their
        data, both on the devices.
    """
    pace = pace or Pace()

    # Data and chains over the devices.
    num_data = len(chunk.numbers)
    place = Placement(num_data)
    key, functions = place.replicate((key, functions))
    numbers, x, latents, factors = place.split(
        (chunk.numbers, chunk.x, chunk.latents, chunk.log_factors)
    )
    is_counted = place.split(np.arange(num_data) < chunk.num_counted, filler=False)
    keys, states = start(key, numbers, x, latents, functions, program=program)
    data = _Data(keys, x, is_counted, factors)

    # On the devices from the start, as later segments leave it, so that one program serves all.
    num_all = len(course.betas) - 2
    step_size = np.asarray(course.step_sizes[0] if num_all else 0.0, states.position.dtype)
    step_size = place.replicate(step_size)

    # Segment after segment; each fetch waits for the device.
    found = Segment(
        np.zeros(np.shape(course.step_sizes)),
        *(np.zeros(num_all) for _ in range(3)),
        np.zeros(num_data, np.int32),
    )
    first = 0
    while first < num_all:
        began = time.monotonic()
        num_moves = min(pace.num_moves(), num_all - first, SEGMENT_SIZE)
        stretch = course.stretch(first, num_moves)
        states, step_size, segment = _anneal(
            states, step_size, data, functions, stretch, program=program
        )
        segment = processes.fetch(segment)
        for name in ("step_sizes", "acceptance", "work_variance", "path_sample_size"):
            getattr(found, name)[first : first + num_moves] = getattr(segment, name)[:num_moves]
        found.num_nonfinite[:] += segment.num_nonfinite[:num_data]
        pace.record(num_moves, time.monotonic() - began)
        first += num_moves
        moves_fn(num_moves)

    # The last weight increment.
    if last_fn is not None:
        last_fn(_reweighted(states, course.betas[-1]), x)
    finished = processes.fetch(_finish(states, course.betas[-1]))
    finished = jax.tree.map(lambda a: a[:num_data], finished)
    (common, log_mean_weight), *statistics, largest = finished
    return Annealed(
        np.float64(common) + log_mean_weight,
        *statistics,
        np.spacing(largest).astype(np.float64),
        *found,
    )
