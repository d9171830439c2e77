"""Annealed importance weighted auto-encoders in JAX.

`ais.run_chain` is the piece to compose with; `methods`, `train` and `evaluate` build the rest.
"""

from aiwae_jax import (
    ais,
    differentiable,
    distributions,
    evaluate,
    flows,
    hamiltonian,
    hmc,
    methods,
    models,
    objectives,
    samplers,
    train,
    types,
    weights,
)

__version__ = "0.1.0"
__all__ = [
    "ais",
    "differentiable",
    "distributions",
    "evaluate",
    "flows",
    "hamiltonian",
    "hmc",
    "methods",
    "models",
    "objectives",
    "samplers",
    "train",
    "types",
    "weights",
]
