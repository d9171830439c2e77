"""Several processes that run one program (`jax.distributed`): what they must agree on.

Every process runs the same Python, and whatever goes into a compiled program must be the same in
all. What only one of them can know, by its clock, its disk or a signal, is decided by process 0, or
by all together, through this module. With one process every function here is the identity.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from aiwae_jax.types import PyTree

T = TypeVar("T")


class OtherProcessError(RuntimeError):
    """Process 0 has failed at what it did for all, and has said why."""


def is_primary() -> bool:
    """Whether this is process 0, which alone writes logs and reports."""
    return jax.process_index() == 0


def of_primary(tree: PyTree) -> PyTree:
    """Process 0's numbers, as NumPy arrays; shapes and dtypes must be the same everywhere.

    They travel as bytes, for devices may have no numbers of 64 bits.
    """
    arrays = jax.tree.map(np.asarray, tree)
    raw = jax.tree.map(lambda a: np.frombuffer(a.tobytes(), np.uint8), arrays)
    raw = multihost_utils.broadcast_one_to_all(raw)
    return jax.tree.map(lambda a, b: np.asarray(b).view(a.dtype).reshape(a.shape), arrays, raw)


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    return int(np.max(multihost_utils.process_allgather(np.asarray(number, np.int32))))


def wait_for_all() -> None:
    """Returns when all processes have come here."""
    of_primary(np.zeros(()))


def on_primary(fn: Callable[[], T]) -> T | None:
    """Runs `fn` on process 0 alone, the others wait; None for them.

    Raises:
      OtherProcessError: in all others, if it raises in process 0.
    """
    found, failure = None, None
    if is_primary():
        try:
            found = fn()
        except Exception as error:
            failure = error
    has_failed = bool(of_primary(np.asarray(failure is not None)))
    if failure is not None:
        raise failure
    if has_failed:
        raise OtherProcessError("process 0 has failed, and says why.")
    return found


def bytes_of_primary(fn: Callable[[], bytes]) -> bytes:
    """Runs `fn` on process 0 alone, and returns its result on all.

    Raises:
      OtherProcessError: as `on_primary`.
    """
    content = on_primary(fn) or b""
    size = int(of_primary(np.asarray(len(content))))
    return of_primary(np.frombuffer(content.ljust(size, b"\0"), np.uint8)).tobytes()


def fetch(tree: PyTree) -> PyTree:
    """Arrays, also such as lie on devices of several processes, as NumPy arrays."""

    def fetch_one(array):
        is_elsewhere = isinstance(array, jax.Array) and not (
            array.is_fully_addressable or array.is_fully_replicated
        )
        if is_elsewhere:
            return multihost_utils.process_allgather(array, tiled=True)
        return np.asarray(array)

    return jax.tree.map(fetch_one, tree)
