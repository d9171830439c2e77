"""Objectives: scalars of one particle set, in nats, to be maximised."""

import functools
from collections.abc import Callable, Iterable

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import distributions, weights
from aiwae_jax.types import (
    LogDensityFn,
    Model,
    Objective,
    Params,
    Particles,
    init_params_of_all,
)


def elbo(model: Model) -> Objective:
    """The evidence lower bound L(θ, φ) (Eq. 1 and 2), averaged over the particles.

    Where q and the prior have a closed-form KL it is used, as in the authors' code:
    log p(x|z) - KL(q(z|x) || p(z)); otherwise the mean of the log weights, log p(x, z) - log q(z|x)
    for particles of q. Those of another reparameterized sampler, which brings no posterior along,
    have the bound of its own density.

    In a warm-up the KL weighs less: E_q[log p(x|z)] - β KL(q(z|x) || p(z)) (Sønderby et al. 2016,
    Eq. 19), where the model says what its prior is.
    """

    def value(params, particles):
        x, posterior = particles.x, particles.posterior
        prior = model.prior and model.prior(params.theta, x)
        if posterior is None or not distributions.has_closed_form_kl(posterior, prior):
            return jnp.mean(particles.log_weights)
        log_joint = jax.vmap(lambda z: model.log_joint(params.theta, x, z))(particles.z)
        log_likelihood = log_joint - jax.vmap(prior.log_prob)(particles.z)
        return jnp.mean(log_likelihood) - distributions.kl_divergence(posterior, prior)

    def value_at(kl_weight, params, particles):
        prior = model.prior(params.theta, particles.x)
        log_joint = jax.vmap(lambda z: model.log_joint(params.theta, particles.x, z))(particles.z)
        log_likelihood = jnp.mean(log_joint - jax.vmap(prior.log_prob)(particles.z))
        divergence = log_likelihood - value(params, particles)
        return log_likelihood - kl_weight * divergence

    return Objective(
        value,
        trains=("theta", "phi", "psi"),
        needs=frozenset({"gradients", "proper_weights"}),
        value_at=None if model.prior is None else value_at,
    )


def value_fn(
    objective: Objective, kl_weight: chex.Array | None
) -> Callable[[Params, Particles], chex.Array]:
    """The value of an objective at a weight of the KL, or its own where either is missing."""
    if kl_weight is None or objective.value_at is None:
        return objective.value
    return functools.partial(objective.value_at, kl_weight)


def bound() -> Objective:
    """The multi-sample bound L_K = log (1/K) Σ_k w_k (Eq. 3); its gradient is Eq. 4."""

    def value(params, particles):
        del params  # they enter through the weights
        return weights.log_mean_exp(particles.log_weights)

    return Objective(
        value, trains=("theta", "phi", "psi"), needs=frozenset({"gradients", "proper_weights"})
    )


def log_joint(model: Model, *, particle_chunk: int | None = None) -> Objective:
    """Σ_k w̃_k log p_θ(x, z_k): its θ-gradient estimates ∇_θ log p_θ(x) (Eq. 10).

    Gradients are stopped at z and at the weights. The estimate is self-normalized: biased at small
    K, consistent in K and in T. Without any positive weight the value is -inf and has no gradient.

    Args:
      model: the model.
      particle_chunk: particles of a datum differentiated at once, a divisor of K; default all.
        Smaller chunks bound the memory, and each is computed once more on the way back.
    """

    def log_p_fn(params, particles):
        def log_p(z_k):
            return model.log_joint(params.theta, particles.x, z_k)

        return log_p

    value = _weighted_mean(log_p_fn, particle_chunk)
    return Objective(value, trains=("theta",))


def log_posterior(model: Model) -> Objective:
    """Σ_k w̃_k log q_φ(z_k|x): the wake and sleep updates of φ (Bornschein & Bengio 2015, Eq. 11).

    Its φ-gradient descends KL(p(z|x) || q): with weighted particles of the datum it is the wake
    update, with dreams, for their own x, the sleep update. Gradients are stopped at z and at the
    weights; self-normalized as `log_joint`.

    Raises:
      ValueError: for a model whose posterior's density cannot be had at a given z.
    """
    if not model.has_posterior_density:
        raise ValueError(
            "`log_posterior` needs log q at points that q did not draw, which this model's "
            "posterior does not have; use a normal or full-covariance posterior, or train φ by "
            "`elbo` or `bound`."
        )

    def log_q_fn(params, particles):
        posterior = particles.posterior
        if posterior is None:
            posterior = model.posterior(params.phi, particles.x)
        return posterior.log_prob

    return Objective(_weighted_mean(log_q_fn), trains=("phi",))


def _weighted_mean(
    log_density_fn: Callable[[Params, Particles], LogDensityFn], particle_chunk: int | None = None
) -> Callable[[Params, Particles], chex.Array]:
    """Σ_k w̃_k log f(z_k), gradients stopped at z and w̃; -inf without any positive weight."""

    def value(params, particles):
        normalized = jax.lax.stop_gradient(weights.normalize(particles.log_weights))
        is_used = normalized > 0
        # A particle without weight may sit where log f is not finite; it is moved to the origin so
        # that not even 0 * NaN reaches the gradient.
        z = jnp.where(is_used[:, None], jax.lax.stop_gradient(particles.z), 0.0)
        density = log_density_fn(params, particles)
        num_particles = z.shape[0]
        if particle_chunk is None or particle_chunk >= num_particles:
            log_f = jax.vmap(density)(z)
        elif num_particles % particle_chunk:
            raise ValueError(
                f"`particle_chunk`={particle_chunk} must divide the {num_particles} particles."
            )
        else:  # chunks as in `samplers.annealed`
            chunks = jnp.swapaxes(z.reshape(particle_chunk, -1, z.shape[1]), 0, 1)
            log_f = jax.lax.map(jax.vmap(jax.checkpoint(density)), chunks).T.reshape(num_particles)
        total = jnp.sum(normalized * jnp.where(is_used, log_f, 0.0))
        return jnp.where(jnp.any(is_used), total, -jnp.inf)

    return value


def dreg() -> Objective:
    """Σ_k stop(w̃_k²) log w_k: the doubly reparameterized φ-gradient of L_K (Tucker et al. 2018).

    With log weights that have no score of q in them, it is unbiased for ∇_φ L_K, and its
    signal-to-noise ratio grows with K where that of `bound` falls. Its value is no bound.
    """

    def value(params, particles):
        del params  # they enter through the weights
        normalized = jax.lax.stop_gradient(weights.normalize(particles.log_weights))
        is_used = normalized > 0
        log_weights = jnp.where(is_used, particles.log_weights, 0.0)
        total = jnp.sum(jnp.square(normalized) * log_weights)
        return jnp.where(jnp.any(is_used), total, -jnp.inf)

    return Objective(
        value, trains=("phi",), needs=frozenset({"gradients", "proper_weights", "no_score"})
    )


def total(*objectives: Objective) -> Objective:
    """The sum of objectives of the same particles, where each trains parameters of its own.

    Raises:
      ValueError: if two of them train the same parameters.
    """
    trained = [name for objective in objectives for name in objective.trains]
    if len(set(trained)) < len(trained):
        raise ValueError(
            f"`objectives` must train different parameters, got {', '.join(trained)}; what trains "
            "the same ones belongs in one objective."
        )
    return _combined(
        objectives, lambda values, params, sets: sum(value(params, sets) for value in values)
    )


def mean_of(**objectives: Objective) -> Objective:
    """The mean of objectives, each of the particle set of its name from `samplers.joined`."""
    return _combined(
        objectives.values(),
        lambda values, params, sets: (
            sum(value(params, sets[name]) for name, value in zip(objectives, values, strict=True))
            / len(objectives)
        ),
    )


def _combined(objectives: Iterable[Objective], combine: Callable) -> Objective:
    """An objective that needs what any of them needs.

    Args:
      objectives: these.
      combine: `combine(values, params, sets) -> []`, of their value functions.
    """
    objectives = tuple(objectives)
    has_kl = any(objective.value_at is not None for objective in objectives)

    def value(params, sets):
        return combine([objective.value for objective in objectives], params, sets)

    def value_at(kl_weight, params, sets):
        return combine([value_fn(each, kl_weight) for each in objectives], params, sets)

    return Objective(
        value,
        value_at=value_at if has_kl else None,
        trains=tuple(sorted({name for o in objectives for name in o.trains})),
        needs=frozenset().union(*(o.needs for o in objectives)),
        init_params=init_params_of_all(objectives),
    )
