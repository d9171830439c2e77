"""Other people's models and kernels: each bridge is a function by the other side's name.

`numpyro(model, *args)` is a NumPyro model's evidence, ready to be measured.
"""

from aiwae_jax.bridges.programs import NumPyroTarget, numpyro

__all__ = ["NumPyroTarget", "numpyro"]
