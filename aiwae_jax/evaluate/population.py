"""All annealing chains of a set of data at once, advanced by the host in segments of a second.

`ais.run_chain` is one chain in one compiled call. An evaluation takes minutes to days: here the
host sees all chains of a chunk between segments, and step sizes can follow their acceptance.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import ais
from aiwae_jax.evaluate import programs
from aiwae_jax.evaluate.chunks import Pace, Placement
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree


class Annealed(NamedTuple):
    """Results of one chunk's chains, as NumPy arrays.

    Attributes:
      log_mean_weight: `[B]` nats, float64 of sums that have lost no digits.
      standard_error: `[B]` of it, over the chains, or populations that resample, nats.
      effective_sample_size: `[B]` of these, in chains.
      log_weight_variance: `[B]` nats², over their weights that are not zero, the lowest twentieth
        of them raised to the next.
      num_zero_weight: `[B]` chains of weight zero.
      rounding: `[B]` nats: by how much neighbouring numbers of the chains' dtype differ where log
        f_0 or log f_n is largest at the end of a chain that counts, or log f_n at neighbouring
        points, whatever is more: no estimate is more exact.
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
      rule: programs.FROZEN or PAPER.
      target_acceptance: what the latter steers to.
      persistences: `[T-2]` of the moves' momenta, or None for that of the program.
    """

    betas: np.ndarray
    step_sizes: np.ndarray
    rule: int = programs.FROZEN
    target_acceptance: float = 0.6
    persistences: np.ndarray | None = None

    def stretch(self, first: int, num_moves: int) -> programs.Stretch:
        """The next temperatures, filled up to the one length that is compiled."""

        def filled(values: np.ndarray) -> np.ndarray:
            these = values[first : first + num_moves]
            missing = [(0, programs.SEGMENT_SIZE - num_moves)] + [(0, 0)] * (these.ndim - 1)
            return np.pad(these, missing)

        return programs.Stretch(
            np.int32(first + 1),
            np.int32(num_moves),
            filled(self.betas[1:-1]),
            filled(self.step_sizes),
            filled(self._places()),
            None if self.persistences is None else filled(self.persistences),
            np.int32(self.rule),
            np.asarray(self.target_acceptance),
        )

    def _places(self) -> np.ndarray:
        """Of the moves among the knots, which are in the order of rising temperatures."""
        places = np.linspace(0.0, programs.NUM_KNOTS - 1.0, max(len(self.betas) - 2, 0))
        return places if self.betas[0] < self.betas[-1] else places[::-1]


def run(
    key: chex.PRNGKey,
    functions: tuple[Partial, Partial],
    chunk: Chunk,
    course: Course,
    program: programs.Program,
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
    keys, states = programs.start(key, numbers, x, latents, functions, program=program)
    data = programs.Data(place.settle(keys), x, is_counted, factors)

    # On the devices from the start, as later segments leave it, so that one program serves all.
    num_all = len(course.betas) - 2
    step_size = np.asarray(course.step_sizes[0] if num_all else 0.0, states.position.dtype)
    step_size = place.replicate(step_size)

    # Segment after segment; each fetch waits for the device.
    found = programs.Segment(
        np.zeros(np.shape(course.step_sizes)),
        *(np.zeros(num_all) for _ in range(3)),
        np.zeros(num_data, np.int32),
    )
    first = 0
    while first < num_all:
        began = time.monotonic()
        num_moves = min(pace.num_moves(), num_all - first, programs.SEGMENT_SIZE)
        stretch = course.stretch(first, num_moves)
        states, step_size, segment = programs.anneal(
            place.settle(states), step_size, data, functions, stretch, program=program
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
        last_fn(programs.reweighted(states, course.betas[-1]), x)
    finished = programs.finish(states, course.betas[-1], x, functions, program=program)
    finished = processes.fetch(finished)
    finished = jax.tree.map(lambda a: a[:num_data], finished)
    (common, log_mean_weight), *statistics, largest, roughness = finished
    return Annealed(
        np.float64(common) + log_mean_weight,
        *statistics,
        np.maximum(np.spacing(largest), roughness).astype(np.float64),
        *found,
    )
