"""Samplers: where the particles of a datum come from."""

from aiwae_jax.samplers.chains import TARGET_ACCEPTANCE, annealed
from aiwae_jax.samplers.direct import ancestral, importance, importance_from_prior
from aiwae_jax.samplers.joint import joined
from aiwae_jax.samplers.on_posterior import hmc_from_posterior, persistent

__all__ = [
    "TARGET_ACCEPTANCE",
    "ancestral",
    "annealed",
    "hmc_from_posterior",
    "importance",
    "importance_from_prior",
    "joined",
    "persistent",
]
