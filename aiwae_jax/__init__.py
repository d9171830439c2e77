"""Annealed importance weighted auto-encoders in JAX.

`ais.run_chain` is the piece to compose with; `methods`, `train` and `evaluate` build the rest.
"""

from aiwae_jax import (
    ais,
    belief,
    differentiable,
    discrete,
    distributions,
    evaluate,
    flows,
    hamiltonian,
    hmc,
    kernels,
    methods,
    models,
    objectives,
    samplers,
    scores,
    support,
    train,
    types,
    weights,
)

__version__ = "0.1.0"
__all__ = [
    "ais",
    "belief",
    "differentiable",
    "discrete",
    "distributions",
    "evaluate",
    "flows",
    "hamiltonian",
    "hmc",
    "kernels",
    "methods",
    "models",
    "objectives",
    "samplers",
    "scores",
    "support",
    "train",
    "types",
    "weights",
]
