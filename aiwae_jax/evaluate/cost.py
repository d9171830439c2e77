"""Costs of an evaluation: gradient evaluations, memory, and time, by a few moves of it."""

import itertools
import statistics
import time

import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import calls, chunks, doors, population, programs, tuning
from aiwae_jax.evaluate.population import Chunk, Course
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_CPU_CHUNK_BYTES = 2**27
_ACCELERATOR_SHARE = 1 / 8  # of its memory
_MOST_CHAINS = 2**16  # per chunk, so that a chunk's results are not hours away
_NUM_TIMED = 5  # moves, of which the first waits for the compiler
_SECONDS_TIMED = 0.1  # of moves that take less than that all together
_AT_ONCE = 1e9  # seconds of moves in one call


def num_gradients(settings: Settings, num_data: int) -> int:
    """Gradient evaluations of log p(x, z) of one estimate for `num_data` data, without pilots.

    With `move="gibbs"` it is the number of sweeps, each of D or more evaluations.
    """
    calls.check_settings(settings)
    num_data = checks.integer("num_data", num_data, least=0)
    num_moves = num_data * settings.num_chains * (settings.num_temperatures - 2)
    return num_moves * settings.num_leapfrog_steps


@calls.of_target
def fit_chunk_size(target: Target, x: PyTree, settings: Settings) -> int:
    """Chooses how many data to anneal at once, by the memory of a gradient and of the device.

    On a CPU the chunk is kept near the size of its caches, which is also faster.

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    doors.enter(target, x, settings)
    return choose_chunk_size(target, x, settings)


def choose_chunk_size(target: Target, x: PyTree, settings: Settings) -> int:
    """`fit_chunk_size` behind its door."""
    datum = chunks.first(x)
    z = jax.eval_shape(lambda x: target.start(x).sample(jax.random.key(0)), datum)
    gradient = jax.make_jaxpr(jax.value_and_grad(lambda z, x: target.log_joint(x, z)))(z, datum)
    arrays = [variable.aval for equation in gradient.eqns for variable in equation.outvars]
    bytes_per_chain = sum(a.size * a.dtype.itemsize for a in arrays)
    memory = jax.local_devices()[0].memory_stats()
    budget = memory["bytes_limit"] * _ACCELERATOR_SHARE if memory else _CPU_CHUNK_BYTES
    num_chains = min(budget // max(bytes_per_chain, 1), _MOST_CHAINS)
    size = int(np.clip(num_chains // settings.num_chains, 1, checks.num_rows("x", x)))
    return int(processes.of_primary(np.asarray(size)))  # memories may differ


@calls.of_target
def estimate_seconds(
    target: Target,
    x: PyTree,
    settings: Settings,
    *,
    num_data: int | None = None,
    chunk_size: int | None = None,
) -> float:
    """Predicts how long `log_likelihood` takes for `num_data` data (by default all of `x`).

    It times a few moves of one chunk, after the compilation, which `log_likelihood` will not
    repeat; pilots are counted at the same pace.

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    settings = doors.enter(target, x, settings, chunk_size=chunk_size).settings
    num_rows = checks.num_rows("x", x)
    num_data = checks.integer("num_data", num_rows if num_data is None else num_data, least=1)
    chunk_size = min(chunk_size or choose_chunk_size(target, x, settings), num_rows)
    per_chunk_move = seconds_per_move(target, x, settings, chunk_size)
    num_moves = -(-num_data // chunk_size) * (settings.num_temperatures - 2)
    pilot_share = tuning.num_pilot_moves(settings, num_data) / (chunk_size * settings.num_chains)
    return per_chunk_move * (num_moves + pilot_share)


def seconds_per_move(
    target: Target,
    x: PyTree,
    settings: Settings,
    num_rows: int,
    num_chains: int | None = None,
) -> float:
    """Times one move of all chains of the first `num_rows` data, after the compilation.

    Args:
      target: what is measured.
      x: data.
      settings: of the chains, whose space is chosen.
      num_rows: of the data, at once.
      num_chains: of each, by default those of the settings.
    """
    indices = np.arange(num_rows, dtype=np.int32)
    chunk = Chunk(indices, chunks.select(x, indices), num_rows)
    program = settings.program(num_chains)

    def time_moves(num_moves: int, seconds_at_once: float) -> float:
        ends: list[tuple[float, int]] = []
        with jax.default_matmul_precision("highest"):
            population.run(
                jax.random.key(0),
                target.functions,
                chunk,
                Course(np.linspace(0.0, 1.0, num_moves + 2), np.full(num_moves, 1e-3)),
                program,
                moves_fn=lambda num: ends.append((time.monotonic(), num)),
                pace=chunks.Pace(seconds_at_once),
            )
        found = statistics.median(
            (end - start) / num for (start, _), (end, num) in itertools.pairwise(ends)
        )
        return float(processes.of_primary(np.asarray(found)))  # clocks differ

    # One by one; where that is mostly the time of the calls themselves, many in one call.
    found = time_moves(_NUM_TIMED, 0.0)
    num_more = min(int(_SECONDS_TIMED / max(found, 1e-6)), programs.SEGMENT_SIZE)
    if num_more >= _NUM_TIMED:
        found = time_moves(1 + num_more, _AT_ONCE)
    return found
