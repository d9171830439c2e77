"""All annealing chains of a set of data at once, advanced by the host in segments of a second.

`ais.run_chain` is one chain in one compiled call. An evaluation takes minutes to days, so here the
same `ais.step` runs for every chain of a chunk of data, the host sees it between segments, and a
pilot can steer its step size by the acceptance of the whole population.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais, weights
from aiwae_jax.types import PyTree

SECONDS_PER_SEGMENT = 1.0
SEGMENT_SIZE = 256  # temperatures per call at most
PILOT_GAIN = 0.3


class Segment(NamedTuple):
    """What a stretch of temperatures leaves behind; the first `num_moves` slots count."""

    step_sizes: chex.Array  # [S] as used, or as found by a pilot
    acceptance: chex.Array  # [S]
    num_nonfinite: chex.Array  # []


def as_partial(fn: Callable) -> Partial:
    """`fn` as a pytree, as the compiled functions below take it."""
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
    is_counted,
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
    """Takes a chunk's chains through `num_moves` temperatures: (states, step size, `Segment`).

    `betas` and `step_sizes` are the next `SEGMENT_SIZE` entries of the schedule, and every length
    is a run-time value: the program is compiled once for any T, and cutting a long schedule into
    segments changes nothing. With `target_acceptance` > 0 it is a pilot: one step size follows the
    acceptance from temperature to temperature (Robbins & Monro 1951, in the logarithm). Data that
    are not `is_counted` `[B]` only fill up the chunk; diagnostics leave them out.
    """
    is_pilot = target_acceptance > 0.0

    def anneal_datum(states, keys, x, is_counted):
        initial = initial_fn(x)  # the encoder, once per datum and call

        def body(i, carry):
            states, pilot_step_size, segment = carry
            step_size = jnp.where(is_pilot, pilot_step_size, segment.step_sizes[i])
            states, info = jax.vmap(
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
            num_counted = jax.lax.psum(is_counted.astype(jnp.float32), "datum")
            acceptance = jnp.where(is_counted, jnp.mean(info.acceptance), 0.0)
            acceptance = jax.lax.psum(acceptance, "datum") / num_counted
            num_nonfinite = jnp.where(is_counted, jnp.sum(info.num_nonfinite), 0)
            gain = jnp.where(is_pilot, PILOT_GAIN, 0.0)
            step_size = step_size * jnp.exp(gain * (acceptance - target_acceptance))
            segment = Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                num_nonfinite=segment.num_nonfinite + jax.lax.psum(num_nonfinite, "datum"),
            )
            return states, step_size, segment

        segment = Segment(step_sizes, jnp.zeros_like(step_sizes), jnp.zeros((), jnp.int32))
        return jax.lax.fori_loop(0, num_moves, body, (states, pilot_step_size, segment))

    return jax.vmap(anneal_datum, out_axes=(0, None, None), axis_name="datum")(
        states, keys, x, is_counted
    )


@jax.jit
def finish(states, beta):
    """The last weight increment: each datum's log mean weight, ESS, variance and count of zeros."""
    log_weights = jax.vmap(jax.vmap(lambda state: ais.reweight(state, beta).log_weight))(states)

    def statistics(log_weights):
        is_finite = log_weights > -jnp.inf
        num = jnp.sum(is_finite).astype(log_weights.dtype)
        mean = jnp.sum(jnp.where(is_finite, log_weights, 0.0)) / num
        squares = jnp.where(is_finite, jnp.square(log_weights - mean), 0.0)
        return (
            weights.log_mean_exp(log_weights),
            weights.effective_sample_size(log_weights),
            jnp.sum(squares) / (num - 1.0),
            jnp.sum(~is_finite),
        )

    return jax.vmap(statistics)(log_weights)


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
        """How many moves the next segment should make."""
        return max(1, int(self._moves_per_second * self._seconds))

    def record(self, num_moves: int, seconds: float) -> None:
        """Learns from a segment."""
        self._moves_per_second = num_moves / max(seconds, 1e-6)


def run(
    key: chex.PRNGKey,
    indices: np.ndarray,
    x: PyTree,
    functions: tuple[Partial, Partial],
    betas: np.ndarray,
    step_sizes: np.ndarray,
    target_acceptance: float,
    *,
    num_counted: int,
    num_chains: int,
    num_leapfrog_steps: int,
    moves_fn: Callable[[int], None],
    pace: Pace,
) -> tuple[ais.AISState, Segment]:
    """Starts and anneals one chunk up to, not including, the last temperature.

    Args:
      key: parent of every datum's keys.
      indices: `[B]` numbers of the data, which choose their keys.
      x: the data, leading axis B.
      functions: log_joint_fn and initial_fn.
      betas: `[T]` schedule, float32.
      step_sizes: `[T-2]` of the moves at betas[1:-1]; a pilot starts from the first.
      target_acceptance: what a pilot steers to; 0 keeps the step sizes frozen.
      num_counted: how many data, from the first on, the diagnostics are about.
      num_chains: K per datum.
      num_leapfrog_steps: L.
      moves_fn: called with the number of moves after each segment.
      pace: chooses the segments' lengths.

    Returns:
      The chains' states `[B, K]`, and a `Segment` of NumPy arrays `[T-2]`.
    """
    keys, states = _start(key, indices, x, *functions, num_chains=num_chains)
    num_all = len(betas) - 2
    found = Segment(np.zeros(num_all), np.zeros(num_all), 0)
    pilot_step_size = np.float32(step_sizes[0]) if num_all else np.float32(0.0)
    first = 0
    while first < num_all:
        num_moves = min(pace.num_moves(), num_all - first, SEGMENT_SIZE)
        stretch = slice(first, first + num_moves)
        padding = (0, SEGMENT_SIZE - num_moves)
        began = time.monotonic()
        states, pilot_step_size, segment = _anneal(
            states,
            pilot_step_size,
            keys,
            x,
            np.arange(len(indices)) < num_counted,
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
        moves_fn(num_moves)
    return states, found
