"""Seconds and gaps of all sides, interleaved, and how tight the reference is."""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax import evaluate
from experiments.benchmark.peers import script
from experiments.benchmark.peers.bounds import Bounds
from experiments.benchmark.peers.ours import settings_of
from experiments.benchmark.peers.problem import Problem
from experiments.benchmark.peers.sides import Side

_PAUSE = 0.1  # seconds in which threads of the side before, which may spin, go to sleep


class Reference(NamedTuple):
    """log p(x) of all images, from long chains in both directions.

    Attributes:
      values: `[N]` middle between the bounds, nats.
      half_gap: half of the mean distance between them: no mean is known more exactly.
      half_gap_se: its standard error over the images.
      num_temperatures: of the chains.
      seconds: that it took, compilation included.
    """

    values: np.ndarray
    half_gap: float
    half_gap_se: float
    num_temperatures: int
    seconds: float


class Timed(NamedTuple):
    """A call's result, the seconds of its first call and the median of later ones.

    Attributes:
      bounds: the result.
      first: seconds, compilation included.
      seconds: median of the repeats.
      num_repeats: how many there were.
    """

    bounds: Bounds
    first: float
    seconds: float
    num_repeats: int


def reference(problem: Problem, num_gradients: int) -> Reference:
    """Encloses log p(x) of the same images by ours, with far longer chains."""
    began = time.perf_counter()
    settings = settings_of(num_gradients, problem.num_chains)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate.bidirectional(
            problem.key, problem.target("posterior"), settings, num_data=len(problem.x)
        )
    lower, upper = found.forward.log_likelihood, found.reverse.log_likelihood
    return Reference(
        0.5 * (lower + upper),
        0.5 * found.gap,
        0.5 * found.gap_standard_error,
        settings.num_temperatures,
        time.perf_counter() - began,
    )


def interleaved(
    calls: dict[str, Callable[[], Bounds]], num_repeats: int, most_seconds: float
) -> dict[str, Timed]:
    """Calls every side once, then all in turn, again and again, and takes medians.

    No further round begins where it would end after `most_seconds`; there is always one.
    """

    def timed(call):
        time.sleep(_PAUSE)
        began = time.perf_counter()
        result = call()
        return result, time.perf_counter() - began

    firsts = {name: timed(call) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for number in range(1, num_repeats + 1):
        for name, call in calls.items():
            seconds[name].append(timed(call)[1])
        elapsed = time.perf_counter() - began
        if elapsed * (number + 1) / number > most_seconds:
            break
    return {
        name: Timed(bounds, first, float(np.median(seconds[name])), len(seconds[name]))
        for name, (bounds, first) in firsts.items()
    }


def all_rows(
    problem: Problem,
    sides: list[Side],
    known: Reference,
    num_repeats: int,
    most_seconds: float,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for each side, budget and kind of number, and why who is missing is missing.

    "shortfall" is how far the estimates lie below the reference, in the mean over the images, for
    the time of the forward chains; "gap" what lies between both bounds, for the time of both.
    """
    calls, facts, missing = {}, {}, {}
    for side in sides:
        if not side.is_there:
            missing[side.name] = f"{side.package} is not installed"
            continue
        try:
            moves = side.choose(problem)
            kinds = {"shortfall": {"with_reverse": False}, "gap": {"with_reverse": True}}
            for kind, options in kinds.items() if side.has_reverse else [("shortfall", {})]:
                for budget in side.budgets:
                    name = f"{side.name} {kind} {budget}"
                    calls[name] = side.call(problem, budget, moves, **options)
                    facts[name] = (side, kind, budget, moves)
        except script.UnknownDecoderError as error:
            missing[side.name] = str(error)
    rows = []
    for name, timed in interleaved(calls, num_repeats, most_seconds).items():
        side, kind, budget, moves = facts[name]
        if kind == "gap":
            differences = timed.bounds.upper - timed.bounds.lower
        else:
            differences = known.values - timed.bounds.lower
        mean, standard_error = evaluate.mean_and_standard_error(differences)
        rows.append(
            {
                "side": side.name,
                "program": side.program,
                "kind": kind,
                "budget": budget,
                "unit": side.unit,
                "moves": str(moves) if moves else "found by its own pilots, in its time",
                "seconds": timed.seconds,
                "repeats": timed.num_repeats,
                "compile_seconds": max(timed.first - timed.seconds, 0.0),
                "nats": mean,
                "standard_error": standard_error,
            }
        )
    return rows, missing
