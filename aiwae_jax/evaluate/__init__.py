"""Measuring a trained model, also one that was trained elsewhere: log p(x), with bounds and cost.

`log_likelihood` estimates log p(x) of any differentiable log p(x, z) by annealed importance
sampling; `bidirectional` says how far off it is, on data simulated from the model; `reach_gap`
finds the settings for a wanted precision; `importance_bound` and `active_units` measure q.

Pass functions that close over large parameters as `jax.tree_util.Partial(fn, params)`: their arrays
are then arguments of the compiled program, and the next model of the same shape needs no new
compilation.
"""

import warnings
from typing import Any

from aiwae_jax.evaluate.bounds import Bidirectional, GapSearch, bidirectional, reach_gap
from aiwae_jax.evaluate.cost import estimate_seconds
from aiwae_jax.evaluate.likelihood import (
    Likelihood,
    fit_chunk_size,
    log_likelihood,
    mean_and_standard_error,
    num_gradients,
    tune,
)
from aiwae_jax.evaluate.settings import BINARY_SETTINGS, PAPER_SETTINGS, Settings
from aiwae_jax.evaluate.simulation import simulate
from aiwae_jax.evaluate.tuning import Plan
from aiwae_jax.evaluate.variational import ImportanceBound, active_units, importance_bound

__all__ = [
    "BINARY_SETTINGS",
    "PAPER_SETTINGS",
    "Bidirectional",
    "GapSearch",
    "ImportanceBound",
    "Likelihood",
    "Plan",
    "Settings",
    "active_units",
    "bidirectional",
    "estimate_seconds",
    "fit_chunk_size",
    "importance_bound",
    "log_likelihood",
    "mean_and_standard_error",
    "num_gradients",
    "reach_gap",
    "simulate",
    "tune",
]

_EARLIER_NAMES = {"certify": "reach_gap", "Certificate": "GapSearch"}


def __getattr__(name: str) -> Any:
    if name not in _EARLIER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _EARLIER_NAMES[name]
    warnings.warn(
        f"`evaluate.{name}` is called `evaluate.{new}` now: it searches for a gap, and certifies "
        "nothing.",
        FutureWarning,
        stacklevel=2,
    )
    return globals()[new]
