"""Objectives: scalars of one particle set, in nats, to be maximised."""

import jax
import jax.numpy as jnp

from aiwae_jax import distributions, weights
from aiwae_jax.types import Model, Objective


def elbo(model: Model) -> Objective:
    """The evidence lower bound L(θ, φ) (Eq. 1 and 2), averaged over the particles.

    Where q and the prior have a closed-form KL it is used, as in the authors' code:
    log p(x|z) - KL(q(z|x) || p(z)); otherwise log p(x, z) - log q(z|x). The particles must come
    from q by reparameterization; their weights are not used.
    """

    def value(params, particles):
        x, posterior, prior = particles.x, particles.posterior, model.prior(params.theta)
        if posterior is None:
            posterior = model.posterior(params.phi, x)
        log_joint = jax.vmap(lambda z: model.log_joint(params.theta, x, z))(particles.z)
        if distributions.has_closed_form_kl(posterior, prior):
            log_likelihood = log_joint - jax.vmap(prior.log_prob)(particles.z)
            return jnp.mean(log_likelihood) - distributions.kl_divergence(posterior, prior)
        return jnp.mean(log_joint - jax.vmap(posterior.log_prob)(particles.z))

    return Objective(value, trains=("theta", "phi"), needs_reparameterized=True)


def bound() -> Objective:
    """The multi-sample bound L_K = log (1/K) Σ_k w_k (Eq. 3); its gradient is Eq. 4."""

    def value(params, particles):
        del params  # they enter through the weights
        return weights.log_mean_exp(particles.log_weights)

    return Objective(
        value,
        trains=("theta", "phi", "psi"),
        needs_reparameterized=True,
        needs_properly_weighted=True,
    )


def log_joint(model: Model, *, particle_chunk: int | None = None) -> Objective:
    """Σ_k w̃_k log p_θ(x, z_k): its θ-gradient estimates ∇_θ log p_θ(x) (Eq. 10).

    Gradients are stopped at z and at the weights. The estimate is self-normalized: biased at small
    K, consistent in K and in T. Without any positive weight the value is -inf and has no gradient.

    Args:
      model: the model.
      particle_chunk: particles of a datum differentiated at once; default all. Smaller chunks bound
        the memory, and each is computed once more on the way back.
    """

    def value(params, particles):
        normalized = jax.lax.stop_gradient(weights.normalize(particles.log_weights))
        is_used = normalized > 0
        # A particle without weight may sit where log p is not finite; it is moved to the origin so
        # that not even 0 * NaN reaches the gradient.
        z = jnp.where(is_used[:, None], jax.lax.stop_gradient(particles.z), 0.0)

        def log_p_fn(z_k):
            return model.log_joint(params.theta, particles.x, z_k)

        if particle_chunk is None:
            log_p = jax.vmap(log_p_fn)(z)
        else:
            log_p = jax.lax.map(jax.checkpoint(log_p_fn), z, batch_size=particle_chunk)
        total = jnp.sum(normalized * jnp.where(is_used, log_p, 0.0))
        return jnp.where(jnp.any(is_used), total, -jnp.inf)

    return Objective(value, trains=("theta",))
