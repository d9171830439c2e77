"""Medians of interleaved repeats: every side in turn, again and again, on a machine that drifts."""

import time
from collections.abc import Callable

import numpy as np


def seconds(call: Callable[[], None], num_calls: int = 1) -> float:
    """Seconds of one of `num_calls` calls, each of which waits for its result."""
    began = time.perf_counter()
    for _ in range(num_calls):
        call()
    return (time.perf_counter() - began) / num_calls


def interleaved(sides: dict[str, Callable[[], None]], num_repeats: int) -> dict[str, float]:
    """Median seconds of a call of each side; the first round, with its compilation, is dropped."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(num_repeats + 1):
        for name, call in sides.items():
            elapsed = seconds(call)
            if repeat:
                found[name].append(elapsed)
    return {name: float(np.median(values)) for name, values in found.items()}
