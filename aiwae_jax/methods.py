"""Every method, as a composition of samplers and objectives.

| method | θ phase: sampler, objective | φ phase: sampler, objective |
|---|---|---|
| VAE | importance(1), elbo | same phase |
| IWAE | importance(K), bound | same phase |
| AIWAE | annealed(K, T), log_joint | importance(1), elbo |
"""

from typing import Any

from aiwae_jax import objectives, samplers
from aiwae_jax.types import Method, Model, phase


def vae(model: Model) -> Method:
    """Variational auto-encoder (Kingma & Welling 2013): one sample, the ELBO for both networks."""
    return (phase(("theta", "phi"), samplers.importance(model, 1), objectives.elbo(model)),)


def iwae(model: Model, num_particles: int) -> Method:
    """Importance weighted auto-encoder (Burda et al. 2015): L_K (Eq. 3) for both networks."""
    sampler = samplers.importance(model, num_particles)
    return (phase(("theta", "phi"), sampler, objectives.bound()),)


def aiwae(
    model: Model,
    num_particles: int,
    num_temperatures: int,
    num_leapfrog_steps: int = 5,
    *,
    particle_chunk: int | None = None,
    **options: Any,
) -> Method:
    """Annealed importance weighted auto-encoder (Ding & Freedman 2019, Algorithm 1).

    θ follows Σ_k w̃_k ∇_θ log p_θ(x, z_k) on annealed particles; then φ follows the one-sample ELBO
    of the new θ. `particle_chunk` bounds the memory of both; `options` are the others of
    `samplers.annealed`.
    """
    annealed = samplers.annealed(
        *(model, num_particles, num_temperatures, num_leapfrog_steps),
        particle_chunk=particle_chunk,
        **options,
    )
    objective = objectives.log_joint(model, particle_chunk=particle_chunk)
    return (
        phase(("theta",), annealed, objective),
        phase(("phi",), samplers.importance(model, 1), objectives.elbo(model)),
    )
