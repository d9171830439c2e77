"""Sums of several seeds of one training (`--repeats`)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from aiwae_jax.runs.repeats import Repeat
from experiments.settings import Training


def training_of(training: Training, repeat: Repeat) -> Training:
    """Makes the settings of a repeat as a run of its own."""
    if repeat.number is None:
        return training
    return dataclasses.replace(training, seed=repeat.seed, num_repeats=1)


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
