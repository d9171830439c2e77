"""Several seeds of one training, side by side in one program (`--repeats`)."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aiwae_jax.types import PyTree
from experiments.flags import Training


class Repeat(NamedTuple):
    """One of the repeats.

    Attributes:
      number: its place in the arrays of the run; None where the run has no others, and no axis for
        them.
      training: what it would be as a run of its own.
      folder: of its metrics and its report.
    """

    number: int | None
    training: Training
    folder: pathlib.Path

    def select(self, tree: PyTree) -> PyTree:
        """Its part of arrays with a leading axis of repeats."""
        return tree if self.number is None else jax.tree.map(lambda a: a[self.number], tree)


def of(training: Training, folder: pathlib.Path) -> list[Repeat]:
    """The repeats of a run: seeds `seed`, `seed + 1`, ... in folders repeat_0, repeat_1, ..."""
    if training.num_repeats == 1:
        return [Repeat(None, training, folder)]
    return [
        Repeat(
            number,
            dataclasses.replace(training, seed=training.seed + number, num_repeats=1),
            folder / f"repeat_{number}",
        )
        for number in range(training.num_repeats)
    ]


def mean_and_std(values: Sequence[float | None]) -> tuple[float, float | None]:
    """Mean and standard deviation of a sample; None, as JSON has it, is not a number."""
    values = np.array(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def summarize(reports: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample) over repeats, for each metric."""
    summary: dict[str, Any] = {"num_repeats": len(reports)}
    for name in metrics:
        values = [report[name] for report in reports]
        mean, std = mean_and_std(values)
        summary[name] = {"mean": mean, "std": std, "values": values}
    return summary
