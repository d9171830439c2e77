"""Data in chunks: which rows, on which devices, and for how long at a time."""

from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.parallel import processes, sharding
from aiwae_jax.types import PyTree

SECONDS_PER_SEGMENT = 1.0
DATUM = "datum"  # the axis over which a chunk's data are vmapped


def select(x: PyTree, indices: np.ndarray) -> PyTree:
    """Takes the rows `indices` of every leaf."""
    return jax.tree.map(lambda a: np.asarray(a)[indices], x)


def first(x: PyTree) -> PyTree:
    """Takes the first datum."""
    return jax.tree.map(lambda a: a[0], select(x, np.arange(1)))


def of(num_data: int, chunk_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the indices `[chunk_size]` of each chunk of data, and how many of them count.

    The last chunk is filled up with repeats of the last datum, whose results are dropped.
    """
    for first in range(0, num_data, chunk_size):
        indices = np.arange(first, first + chunk_size, dtype=np.int32)
        yield np.minimum(indices, num_data - 1), min(chunk_size, num_data - first)


def mean_over_data(values: chex.Array, counts: chex.Array) -> chex.Array:
    """Means `[S]` over a chunk's data of what counts in each `[S]`; NaN where nothing does.

    To be called under `vmap(..., axis_name=DATUM)`, and once a move: all devices meet for each sum.
    """
    sums = jnp.stack([jnp.where(counts, values, 0.0), counts.astype(values.dtype)])
    total, num = jax.lax.psum(sums, DATUM)
    return total / num


class Pace:
    """Chooses segment lengths of about a second, so that the host can report and be interrupted."""

    def __init__(self, seconds: float = SECONDS_PER_SEGMENT):
        self._seconds = seconds
        self._moves_per_second = 0.0

    def num_moves(self) -> int:
        """Says how many moves the next segment should make, by the clock of process 0."""
        return int(
            processes.of_primary(np.asarray(max(1, int(self._moves_per_second * self._seconds))))
        )

    def record(self, num_moves: int, seconds: float) -> None:
        """Learns from a segment."""
        self._moves_per_second = num_moves / max(seconds, 1e-6)


class Placement:
    """Places data as evenly as possible over all devices, those of other processes included.

    Each process has some of the data, so their number is filled up to a multiple of that of the
    processes; whoever reads the results takes the first `num_data`.
    """

    def __init__(self, num_data: int):
        num_processes = jax.process_count()
        self._num_filled = -(-num_data // num_processes) * num_processes
        self._mesh = sharding.largest_mesh(self._num_filled)

    def split(self, tree: PyTree, *, filler: Any = None) -> PyTree:
        """Lays rows over the devices, filled up with `filler`, by default the last row."""

        def fill(array):
            missing = self._num_filled - len(array)
            last = np.asarray(array)[-1:] if filler is None else np.array([filler])
            return np.concatenate([array, np.repeat(last, missing, axis=0)]) if missing else array

        return sharding.put(jax.tree.map(fill, tree), sharding.over_data(self._mesh))

    def settle(self, tree: PyTree) -> PyTree:
        """Rows that a program left on the devices, described as `split` does; nothing moves.

        A program is compiled anew for rows that lie the same way and are described otherwise.
        """
        if jax.process_count() > 1:
            return tree
        return jax.device_put(tree, sharding.over_data(self._mesh))

    def replicate(self, tree: PyTree) -> PyTree:
        """Lays each leaf on all devices."""
        return sharding.put(tree, sharding.replicated(self._mesh))
