"""Measures a trained model, also one that was trained elsewhere: log p(x), with bounds and cost.

A `Target(log_joint, start, sample)` says what is measured, `Settings` how. `log_likelihood`
estimates log p(x) of any differentiable log p(x, z) by annealed importance sampling;
`bidirectional` says how far off it is, on data simulated from the model; `reach_gap` finds the
settings for a wanted precision, `within` keeps to a wanted time; `certificate` bounds the NLL of
real data with a stated probability; `compare` pairs two models; `importance_bound`, `active_units`
and `audit` measure q; `weighted_latents` are samples of p(z|x), and `log_likelihood_of_missing`
says how likely values were that a model did not see.
"""

import warnings
from typing import Any

from aiwae_jax.evaluate.amortization import Audit, audit
from aiwae_jax.evaluate.budget import settings_within, within
from aiwae_jax.evaluate.certificate import Certificate, certificate
from aiwae_jax.evaluate.check import check
from aiwae_jax.evaluate.comparison import Comparison, compare
from aiwae_jax.evaluate.cost import estimate_seconds, fit_chunk_size, num_gradients
from aiwae_jax.evaluate.findings import Check, Finding
from aiwae_jax.evaluate.gap import Bidirectional, GapSearch, bidirectional, reach_gap
from aiwae_jax.evaluate.likelihood import Likelihood, log_likelihood, mean_and_standard_error
from aiwae_jax.evaluate.of_missing import OfMissing, log_likelihood_of_missing
from aiwae_jax.evaluate.particles import WeightedLatents, weighted_latents
from aiwae_jax.evaluate.posterior import ImportanceBound, active_units, importance_bound
from aiwae_jax.evaluate.settings import BINARY_SETTINGS, PAPER_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.simulation import simulate
from aiwae_jax.evaluate.target import Target
from aiwae_jax.evaluate.tuning import tune
from aiwae_jax.evaluate.vectors import of_trees

__all__ = [
    "BINARY_SETTINGS",
    "PAPER_SETTINGS",
    "Audit",
    "Bidirectional",
    "Certificate",
    "Check",
    "Comparison",
    "Finding",
    "GapSearch",
    "ImportanceBound",
    "Likelihood",
    "OfMissing",
    "Plan",
    "Settings",
    "Target",
    "WeightedLatents",
    "active_units",
    "audit",
    "bidirectional",
    "certificate",
    "check",
    "compare",
    "estimate_seconds",
    "fit_chunk_size",
    "importance_bound",
    "log_likelihood",
    "log_likelihood_of_missing",
    "mean_and_standard_error",
    "num_gradients",
    "of_trees",
    "reach_gap",
    "settings_within",
    "simulate",
    "tune",
    "weighted_latents",
    "within",
]

_EARLIER_NAMES = {"certify": "reach_gap"}


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
