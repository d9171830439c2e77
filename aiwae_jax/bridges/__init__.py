"""Other people's models and kernels: each bridge is a function by the other side's name.

`numpyro(model, *args)` is a NumPyro model's evidence, ready to be measured. `blackjax(algorithm)`
is a kernel of BlackJAX as a move of `ais.run_chain`, `to_blackjax(log_density_fn, step_size,
move=...)` one of our moves as an algorithm of theirs.
"""

from aiwae_jax.bridges.kernels import KernelInfo, KernelState, blackjax, to_blackjax
from aiwae_jax.bridges.programs import NumPyroTarget, numpyro

__all__ = ["KernelInfo", "KernelState", "NumPyroTarget", "blackjax", "numpyro", "to_blackjax"]
