"""Other people's models and kernels: each bridge is a function by the other side's name.

`numpyro(model, *args)` is a NumPyro model's evidence, ready to be measured. `torch(state, ...)`,
`pythae(folder)` and `scvi(model)` are auto-encoders trained elsewhere, as `train.Trained`.
`blackjax(algorithm)` is a kernel of BlackJAX as a move of `ais.run_chain`,
`to_blackjax(logdensity_fn, step_size, move=...)` one of our moves as an algorithm of theirs.
"""

from aiwae_jax.bridges.auto_encoders import pythae, torch
from aiwae_jax.bridges.kernels import KernelInfo, KernelState, blackjax, to_blackjax
from aiwae_jax.bridges.programs import NumPyroTarget, numpyro
from aiwae_jax.bridges.single_cells import scvi

__all__ = [
    "KernelInfo",
    "KernelState",
    "NumPyroTarget",
    "blackjax",
    "numpyro",
    "pythae",
    "scvi",
    "to_blackjax",
    "torch",
]
