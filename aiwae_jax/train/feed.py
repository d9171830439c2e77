"""Rows on their way from disk to the device: those of the next steps, while the last ones run.

An epoch's order is the one that it has in memory, and so is a run's every bit. On the host it takes
four bytes a row; the rows themselves are two buffers of some steps each.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np
from jax.sharding import NamedSharding

from aiwae_jax.data.on_disk import Rows
from aiwae_jax.parallel import sharding as layout
from aiwae_jax.train.legs import Stretch
from aiwae_jax.train.loop import Buffer, LoopState, order_of
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.weighting import Weighted, parts

_BUFFER_BYTES = 32e6


def check(settings: Settings) -> None:
    """Refuses what rows on disk cannot be read for.

    Raises:
      ValueError: naming it.
    """
    if settings.num_repeats > 1:
        raise ValueError(
            f"`num_repeats` must be 1 for rows that are left on disk, got {settings.num_repeats}: "
            "each seed goes through them in its own order; train the seeds one after the other."
        )
    if jax.process_count() > 1:
        raise ValueError(
            f"Rows that are left on disk are read by one process, got {jax.process_count()}; use "
            "`in_memory`=True."
        )


class _Place(NamedTuple):
    """Which buffer: of a leg, by its number, in a pass over the data and in that pass."""

    leg: int
    epoch: int
    number: int


class Feed:
    """Runs steps on rows that are on disk."""

    def __init__(
        self,
        rows: Rows | Weighted,
        key: chex.PRNGKey,
        stretches: Sequence[Stretch],
        sharding: NamedSharding,
    ):
        """Reads nothing yet.

        Args:
          rows: `[N, X]`, with their weights if they have some.
          key: root key of the training.
          stretches: its legs.
          sharding: of a buffer over devices.
        """
        self._rows, self._weights = parts(rows)
        self._stretches, self._sharding = stretches, sharding
        self._order_fn = jax.jit(partial(order_of, key, num_examples=len(self._rows)))
        self._orders: dict[int, np.ndarray] = {}  # of the newest passes
        self._here: tuple[_Place, Buffer] | None = None
        self._coming: tuple[_Place, Future[Buffer]] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="rows")

    def _num_steps(self, leg: int) -> int:
        """Steps of a buffer."""
        stretch = self._stretches[leg]
        size = stretch.batch_size * self._rows.shape[1] * self._rows.dtype.itemsize
        return min(max(int(_BUFFER_BYTES / size), 1), stretch.steps_per_epoch)

    def like(self, leg: int) -> Buffer:
        """Shapes and types of a buffer."""
        num_rows = self._num_steps(leg) * self._stretches[leg].batch_size
        rows = jax.ShapeDtypeStruct((num_rows, self._rows.shape[1]), self._rows.dtype)
        if self._weights is not None:
            rows = Weighted(rows, jax.ShapeDtypeStruct((num_rows,), self._weights.dtype))
        return Buffer(
            rows,
            jax.ShapeDtypeStruct((num_rows,), np.int32),
            jax.ShapeDtypeStruct((), np.int32),
        )

    def run(
        self, run_fn: Callable[..., LoopState], state: LoopState, leg: int, num_steps: int
    ) -> LoopState:
        """Makes steps of one epoch, `run_fn(state, buffer, num_steps)` by buffers.

        While a buffer's steps run, a thread reads the next one and hands it to the device.

        Raises:
          DataError: if a file has become shorter.
        """
        step, end = state.num_steps, state.num_steps + num_steps
        while step < end:
            place, left = self._place(leg, step)
            buffer = self._take(place)
            num_now = min(left, end - step)
            state = run_fn(state, buffer, num_now)
            self._read_ahead(self._after(place))
            step += num_now
            if step < end:  # else many buffers would wait for the device, which keeps them all
                jax.block_until_ready(state.train.step)
        return state

    def _place(self, leg: int, step: int) -> tuple[_Place, int]:
        """The buffer of the next step, and how many of its steps are left."""
        stretch, size = self._stretches[leg], self._num_steps(leg)
        passes, position = divmod(step - stretch.start, stretch.steps_per_epoch)
        number = position // size
        last = min((number + 1) * size, stretch.steps_per_epoch)
        return _Place(leg, stretch.first_epoch + passes, number), last - position

    def _after(self, place: _Place) -> _Place:
        stretch = self._stretches[place.leg]
        if (place.number + 1) * self._num_steps(place.leg) < stretch.steps_per_epoch:
            return place._replace(number=place.number + 1)
        return place._replace(epoch=place.epoch + 1, number=0)

    def _take(self, place: _Place) -> Buffer:
        if self._here is None or self._here[0] != place:
            self._here = None  # before another one comes
            self._read_ahead(place)
            self._here = place, self._coming[1].result()
        return self._here[1]

    def _read_ahead(self, place: _Place) -> None:
        if self._coming is None or self._coming[0] != place:
            self._coming = place, self._reader.submit(self._read, place)

    def _read(self, place: _Place) -> Buffer:
        size, batch_size = self._num_steps(place.leg), self._stretches[place.leg].batch_size
        if place.epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == place.epoch - 1}
            self._orders[place.epoch] = np.asarray(self._order_fn(place.epoch))
        first = place.number * size
        indices = self._orders[place.epoch][first * batch_size : (first + size) * batch_size]
        # The last buffer of an epoch is filled up with rows that no step takes.
        indices = np.resize(indices, size * batch_size).astype(np.int32)
        rows = self._rows[indices]
        if self._weights is not None:
            rows = Weighted(rows, self._weights[indices])
        buffer = Buffer(rows, indices, np.asarray(first, np.int32))
        return layout.put(buffer, self._sharding)
