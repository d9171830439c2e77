"""Several seeds of one training, side by side in one program: a folder for each."""

import pathlib
from typing import NamedTuple

import jax

from aiwae_jax.types import PyTree


class Repeat(NamedTuple):
    """One of the repeats.

    Attributes:
      number: its place in the arrays of the run; None where the run has no others, and no axis for
        them.
      seed: of its training, as a run of its own.
      folder: of its metrics and its report.
    """

    number: int | None
    seed: int
    folder: pathlib.Path

    def select(self, tree: PyTree) -> PyTree:
        """Its part of arrays with a leading axis of repeats."""
        return tree if self.number is None else jax.tree.map(lambda a: a[self.number], tree)


def of(folder: pathlib.Path, seed: int, num_repeats: int) -> list[Repeat]:
    """The repeats of a run: seeds `seed`, `seed + 1`, ... in folders repeat_0, repeat_1, ..."""
    if num_repeats == 1:
        return [Repeat(None, seed, folder)]
    return [Repeat(i, seed + i, folder / f"repeat_{i}") for i in range(num_repeats)]
