"""What share of a training step is matrix product, elementwise work, random numbers, overhead."""

import collections
import glob
import re
import tempfile
from collections.abc import Callable

import jax

_RANDOM = re.compile(r"threefry|random|erf_inv|uniform|_normal")
_MATRIX = re.compile(r"\b(dot|convolution|custom-call)\(|dot_general")
CATEGORIES = ("matrix product", "random numbers", "elementwise and the rest")


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
            if _MATRIX.search(text):
                category = CATEGORIES[0]
            elif _RANDOM.search(text):
                category = CATEGORIES[1]
            else:
                category = CATEGORIES[2]
            found[instruction[1]] = category
    return found


def measure(call: Callable[[], None], compiled_text: str) -> dict[str, float]:
    """Seconds of each category, summed over threads, in one call of an already compiled step."""
    categories = _categories(compiled_text)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        profile = jax.profiler.ProfileData.from_file(path)
        seconds = dict.fromkeys(CATEGORIES, 0.0)
        for plane in profile.planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name in categories and not event.name.startswith(("while", "call")):
                        seconds[categories[event.name]] += event.duration_ns * 1e-9
    return seconds
