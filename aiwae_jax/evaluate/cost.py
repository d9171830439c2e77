"""How long an evaluation will take, by a few moves of it."""

import time

import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import doors, population, tuning
from aiwae_jax.evaluate.likelihood import choose_chunk_size
from aiwae_jax.evaluate.population import InitialFn, LogJointFn
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.types import PyTree


def estimate_seconds(
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    x: PyTree,
    settings: Settings,
    *,
    num_data: int | None = None,
    chunk_size: int | None = None,
) -> float:
    """Predicts how long `log_likelihood` takes for `num_data` data (by default all of `x`).

    It takes the fastest of four moves of one chunk, after the compilation, which `log_likelihood`
    will not repeat; pilots are counted at the same pace.

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    settings = doors.enter(log_joint_fn, initial, x, settings, chunk_size=chunk_size)
    if num_data is None:
        num_data = checks.num_rows("x", x)
    num_data = checks.integer("num_data", num_data, least=1)
    if chunk_size is None:
        chunk_size = choose_chunk_size(log_joint_fn, initial, x, settings)
    chunk_size = min(chunk_size, checks.num_rows("x", x))
    indices = np.arange(chunk_size, dtype=np.int32)
    ends: list[float] = []
    with jax.default_matmul_precision("highest"):
        population.run(
            jax.random.key(0),
            indices,
            population.select(x, indices),
            (population.as_partial(log_joint_fn), population.as_partial(initial)),
            np.linspace(0.0, 1.0, 7),
            np.full(5, 1e-3),
            settings.program(),
            moves_fn=lambda num_moves: ends.append(time.monotonic()),
            pace=population.Pace(seconds=0.0),
        )
    per_chunk_move = float(np.diff(ends).min())
    num_moves = -(-num_data // chunk_size) * (settings.num_temperatures - 2)
    pilot_share = tuning.num_pilot_moves(settings, num_data) / (chunk_size * settings.num_chains)
    return per_chunk_move * (num_moves + pilot_share)
