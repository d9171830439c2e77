"""Medians of interleaved repeats: every side in turn, again and again, on a machine that drifts."""

import math
import time
from collections.abc import Callable

import numpy as np

_SECONDS = 0.25


def seconds(call: Callable[[], None], num_calls: int = 1) -> float:
    """Seconds of one of `num_calls` calls, each of which waits for its result."""
    began = time.perf_counter()
    for _ in range(num_calls):
        call()
    return (time.perf_counter() - began) / num_calls


def interleaved(sides: dict[str, Callable[[], None]], num_repeats: int) -> dict[str, float]:
    """Median seconds of a call of each side; the first round, with its compilation, is dropped.

    A repeat lasts a quarter of a second at least, and begins after a pause in which the threads of
    the side before, which may wait by spinning, have gone to sleep.
    """
    for call in sides.values():
        call()
    num_calls = {name: math.ceil(_SECONDS / seconds(call)) for name, call in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(num_repeats):
        for name, call in sides.items():
            time.sleep(_SECONDS)
            found[name].append(seconds(call, num_calls[name]))
    return {name: float(np.median(values)) for name, values in found.items()}
