"""All annealing chains of a set of data at once, advanced by the host in segments of a second.

`ais.run_chain` is one chain in one compiled call. An evaluation takes minutes to days, so here the
same `ais.step` runs for every chain of a chunk of data, the host sees it between segments, and a
pilot can steer its step size by the acceptance of the whole population.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais, weights

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
        gain = jnp.where(is_pilot, PILOT_GAIN, 0.0)
        step_size = step_size * jnp.exp(gain * (acceptance - target_acceptance))
        return (
            states,
            step_size,
            Segment(
                step_sizes=segment.step_sizes.at[i].set(step_size),
                acceptance=segment.acceptance.at[i].set(acceptance),
                num_nonfinite=segment.num_nonfinite + jnp.sum(info.num_nonfinite),
            ),
        )

    segment = Segment(step_sizes, jnp.zeros_like(step_sizes), jnp.zeros((), jnp.int32))
    return jax.lax.fori_loop(0, num_moves, body, (states, pilot_step_size, segment))


@jax.jit
def finish(states, beta):
    """The last weight increment, and each datum's statistics of its chains' log weights."""
    log_weights = jax.vmap(jax.vmap(lambda state: ais.reweight(state, beta).log_weight))(states)
    num_zero_weight = jnp.sum(log_weights == -jnp.inf, axis=1)
    return (
        jax.vmap(weights.log_mean_exp)(log_weights),
        jax.vmap(weights.effective_sample_size)(log_weights),
        jnp.var(log_weights, axis=1),
        num_zero_weight,
    )


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
      The chains' states, and `Segment` of NumPy arrays over the T-2 moves.
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
