"""Annealed importance weighted auto-encoders in JAX.

`data`, `models`, `methods`, `train.fit`, `report.write` and `load` are a run from its data to its
report; `ais.run_chain` is the piece to compose with.
"""

import importlib
import warnings

from aiwae_jax import (
    ais,
    data,
    differentiable,
    distributions,
    evaluate,
    hamiltonian,
    likelihoods,
    methods,
    models,
    moves,
    networks,
    objectives,
    report,
    samplers,
    scores,
    support,
    train,
    types,
    weights,
)
from aiwae_jax.train import load

__version__ = "0.1.0"
__all__ = [
    "ais",
    "data",
    "differentiable",
    "distributions",
    "evaluate",
    "hamiltonian",
    "likelihoods",
    "load",
    "methods",
    "models",
    "moves",
    "networks",
    "objectives",
    "report",
    "samplers",
    "scores",
    "support",
    "train",
    "types",
    "weights",
]

_MOVED = {
    "belief": "models",
    "discrete": "moves.discrete",
    "flows": "models.flows",
    "hmc": "moves.hamiltonian",
}


def __getattr__(name: str):
    """Finds a module by the name that it had before."""
    if name not in _MOVED:
        raise AttributeError(f"module 'aiwae_jax' has no attribute {name!r}")
    warnings.warn(
        f"`aiwae_jax.{name}` is `aiwae_jax.{_MOVED[name]}` now.", FutureWarning, stacklevel=2
    )
    return importlib.import_module(f"aiwae_jax.{_MOVED[name]}")
