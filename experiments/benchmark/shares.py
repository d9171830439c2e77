"""Shares of a step: matrix products, elementwise work, random numbers, waiting, overhead."""

import collections
import glob
import re
import tempfile
from collections.abc import Callable

import jax
import numpy as np

from experiments.benchmark import timing

_RANDOM = re.compile(r"threefry|random|erf_inv|uniform|_normal")
_MATRIX = re.compile(r"\b(dot|convolution|custom-call)\(|dot_general")
CATEGORIES = (
    "matrix product and what is fused with it",
    "random numbers",
    "elementwise and the rest",
    "exchange between devices",
    "overhead and idle",
)
_PRODUCT, _RANDOMNESS, _REST, _EXCHANGE, _OVERHEAD = CATEGORIES
_CONTAINERS = ("while", "call", "conditional")  # their time is that of what they run
_NUM_ALONE = 9  # calls without the profiler
# Kernels of libraries, which no instruction is named like.
_LIBRARY_MATRIX = re.compile(r"gemm|gemv|nvjet|cutlass|xmma|splitK", re.IGNORECASE)


def _categories(compiled_text: str) -> dict[str, str]:
    """Category of each instruction of a compiled program, by what it or its fusion computes."""
    bodies: dict[str, list[str]] = collections.defaultdict(list)
    name = ""
    for line in compiled_text.splitlines():
        header = re.match(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header:
            name = header[1]
        elif "=" in line:
            bodies[name].append(line)
    found = {}
    for lines in bodies.values():
        for line in lines:
            instruction = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = ", line)
            if instruction is None:
                continue
            called = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", line)
            text = "\n".join([line, *(bodies.get(called[1], []) if called else [])])
            if instruction[1].startswith("all-reduce"):
                category = _EXCHANGE
            elif _MATRIX.search(text):
                category = _PRODUCT
            elif _RANDOM.search(text):
                category = _RANDOMNESS
            else:
                category = _REST
            found[instruction[1]] = category
    return found


def _kernel_category(event, categories: dict[str, str]) -> str:
    """Category of a kernel on a GPU, whose event names the instruction that launched it."""
    instruction = dict(event.stats).get("hlo_op", event.name)
    if instruction in categories:
        return categories[instruction]
    if _LIBRARY_MATRIX.search(event.name):
        return _PRODUCT
    return _RANDOMNESS if _RANDOM.search(event.name) else _REST


def _seconds_by_category(profile, categories: dict[str, str]) -> dict[str, float]:
    seconds = dict.fromkeys(CATEGORIES, 0.0)
    for plane in profile.planes:
        is_gpu = plane.name.startswith("/device:GPU")
        for line in plane.lines:
            if is_gpu and "Stream" not in line.name:
                continue  # sums of what the streams show one by one
            for event in line.events:
                if is_gpu:
                    seconds[_kernel_category(event, categories)] += event.duration_ns * 1e-9
                elif event.name in categories and not event.name.startswith(_CONTAINERS):
                    seconds[categories[event.name]] += event.duration_ns * 1e-9
    return seconds


def measure(call: Callable[[], None], compiled_text: str) -> dict[str, float]:
    """Seconds of each category, summed over devices, in one call of an already compiled step.

    Overhead is what the other categories leave of the elapsed time of all devices. On a GPU that
    time is of calls before the profile, which slows launches down.
    """
    categories = _categories(compiled_text)
    alone = float(np.median([timing.seconds(call) for _ in range(_NUM_ALONE)]))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            elapsed = timing.seconds(call)
        if jax.default_backend() == "gpu":
            elapsed = alone
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        profile = jax.profiler.ProfileData.from_file(path)
        seconds = _seconds_by_category(profile, categories)
    total = elapsed * jax.local_device_count()
    return seconds | {_OVERHEAD: max(total - sum(seconds.values()), 0.0)}
