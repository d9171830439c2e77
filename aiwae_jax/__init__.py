"""Annealed importance weighted auto-encoders in JAX.

`data`, `models`, `methods`, `train.fit`, `report.write` and `load` are a run from its data to its
report, `AIWAE` the same as an estimator for scikit-learn; `ais.run_chain` is the piece to compose
with.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` finds, for those who read and do not run
    from aiwae_jax.estimator import AIWAE as AIWAE
    from aiwae_jax.train import load as load

__version__ = "0.2.0"
__all__ = [
    "ais",
    "bridges",
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
# What is of a room, and is called by its own name. `AIWAE` brings scikit-learn with it, so that it
# is not among what a star imports.
_ELSEWHERE = {"load": "train", "AIWAE": "estimator"}
_MOVED = {
    "belief": "models",
    "discrete": "moves.discrete",
    "flows": "models.flows",
    "hmc": "moves.hamiltonian",
}


def __getattr__(name: str) -> Any:
    """Loads a room when it is first asked for: what only looks for the command waits for no JAX."""
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(f"aiwae_jax.{_ELSEWHERE[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"aiwae_jax.{name}")
    if name in _MOVED:
        warnings.warn(
            f"`aiwae_jax.{name}` is `aiwae_jax.{_MOVED[name]}` now.", FutureWarning, stacklevel=2
        )
        return importlib.import_module(f"aiwae_jax.{_MOVED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ELSEWHERE})
