"""Annealed importance weighted auto-encoders in JAX.

`data`, `models`, `methods`, `train.fit`, `report.write` and `load` are a run from its data to its
report; `ais.run_chain` is the piece to compose with.
"""

from aiwae_jax import (
    ais,
    belief,
    data,
    differentiable,
    discrete,
    distributions,
    evaluate,
    flows,
    hamiltonian,
    hmc,
    methods,
    models,
    moves,
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
    "belief",
    "data",
    "differentiable",
    "discrete",
    "distributions",
    "evaluate",
    "flows",
    "hamiltonian",
    "hmc",
    "load",
    "methods",
    "models",
    "moves",
    "objectives",
    "report",
    "samplers",
    "scores",
    "support",
    "train",
    "types",
    "weights",
]
