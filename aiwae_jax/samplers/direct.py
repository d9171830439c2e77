"""Particles that are drawn at once: from q, from the prior, from the model itself."""

from functools import partial

import jax
import jax.numpy as jnp

from aiwae_jax import checks, distributions, weights
from aiwae_jax.types import Info, Model, Particles, Sampler


def importance(model: Model, num_particles: int, *, with_score: bool = True) -> Sampler:
    """Importance sampling from q: z_k ~ q_φ(z|x), w_k = p_θ(x, z_k) / q_φ(z_k|x) (Eq. 3).

    Properly weighted, and reparameterized: z and the weights carry gradients to θ and φ. Binary z
    have none; there the weights carry gradients at fixed z, and `log_proposal` is log q_φ(z|x).

    Args:
      model: the model.
      num_particles: K.
      with_score: False leaves out, of ∇_φ log w_k, the score ∂ log q_φ(z)/∂φ at fixed z, whose mean
        is zero at K = 1: only the path through z remains (Roeder et al. 2017). Values and
        θ-gradients are the same. Where q's density is not to be had at a given z, this costs D
        forward derivatives of its `transport` and a linear system for each particle.

    Raises:
      ValueError: if `num_particles` < 1; for `with_score=False` where latents are binary.
    """
    checks.integer("num_particles", num_particles, least=1)
    is_binary = model.latents == "binary"
    if is_binary and not with_score:
        raise ValueError(
            "`with_score=False` leaves the path through z alone, and binary latents have none; use "
            "`scores.vimco`."
        )
    if model.has_posterior_density:
        without_score = _sample_with_frozen_density
    else:
        without_score = _sample_with_score_from_transport

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        posterior = model.posterior(params.phi, x)
        if with_score:
            draw_one = posterior.sample_and_log_prob
        else:
            frozen = model.posterior(jax.lax.stop_gradient(params.phi), x)
            draw_one = partial(without_score, posterior, frozen)
        z, log_q = jax.vmap(draw_one)(jax.random.split(key, num_particles))
        log_p = jax.vmap(lambda z_k: model.log_joint(params.theta, x, z_k))(z)
        log_weights = weights.zero_if_broken(log_p - log_q)
        log_proposal = log_q if is_binary else None
        return Particles(x, z, log_weights, posterior, log_proposal), Info()

    gives = {"proper_weights", "log_proposal" if is_binary else "gradients"}
    if not with_score:
        gives.add("no_score")
    return Sampler(draw, frozenset(gives), check_data=model.check_data)


def importance_from_prior(
    model: Model, num_particles: int, *, with_straight_through: bool = False
) -> Sampler:
    """Importance sampling from the prior given x: z_k ~ p_θ(z|x), w_k = p_θ(x, z_k) / p_θ(z_k|x).

    For a conditional model that is the likelihood of what it predicts (Tang & Salakhutdinov 2013,
    Raiko et al. 2015). Properly weighted. Binary z carry no gradient, and `log_proposal` is the
    prior's.

    Args:
      model: the model.
      num_particles: K.
      with_straight_through: lets gradients flow through binary z as if they were their
        probabilities; biased. Then there is no `log_proposal`.

    Raises:
      ValueError: if `num_particles` < 1; for straight-through where latents are not binary.
    """
    checks.integer("num_particles", num_particles, least=1)
    checks.given("model.prior", model.prior, "particles are drawn from it")
    is_binary = model.latents == "binary"
    if with_straight_through and not is_binary:
        raise ValueError(
            "`with_straight_through` stands for a gradient that continuous latents have; leave it "
            "out."
        )
    with_score = is_binary and not with_straight_through

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        prior = model.prior(params.theta, x)
        options = {"with_straight_through": True} if with_straight_through else {}
        z = jax.vmap(partial(prior.sample, **options))(jax.random.split(key, num_particles))
        log_prior = jax.vmap(prior.log_prob)(z)
        log_p = jax.vmap(lambda z_k: model.log_joint(params.theta, x, z_k))(z)
        log_weights = weights.zero_if_broken(log_p - log_prior)
        return Particles(x, z, log_weights, None, log_prior if with_score else None), Info()

    gives = {"proper_weights", "log_proposal" if with_score else "gradients"}
    return Sampler(draw, frozenset(gives), check_data=model.check_data)


def _sample_with_frozen_density(posterior, frozen, key):
    """(z, log q(z)), the latter with a gradient through z alone."""
    z = posterior.sample(key)
    return z, frozen.log_prob(z)


def _sample_with_score_from_transport(posterior, frozen, key):
    """The same where only z = f(ε) is known: ∇_z log q(z) = J⁻ᵀ ∇_ε [log N(ε) - log |det J|]."""
    shape = jax.eval_shape(posterior.sample, key)
    noise = jax.random.normal(key, shape.shape, shape.dtype)
    z, _ = posterior.transport(noise)

    def log_density(noise):
        return (
            distributions.standard_normal(noise.shape[0], noise.dtype).log_prob(noise)
            - frozen.transport(noise)[1]
        )

    jacobian = jax.jacfwd(lambda noise: frozen.transport(noise)[0])(noise)
    log_q, gradient = jax.value_and_grad(log_density)(noise)
    score = jnp.linalg.solve(jacobian.T, gradient)
    # The value of log q, and the score as its derivative in z.
    return z, log_q + jnp.sum(score * (z - jax.lax.stop_gradient(z)))


def ancestral(model: Model) -> Sampler:
    """A dream: (x, z) ~ p_θ(x, z), one particle of unit weight, whatever the datum.

    A conditional model dreams what it predicts, given the rest of the datum. The particle's x is
    the dreamt one. Gradients are stopped; not properly weighted, for it says
    nothing of the datum's p(x).

    Raises:
      ValueError: for a model without a `sample`.
    """
    checks.given("model.sample", model.sample, "a dream is drawn by it")

    def draw(key, params, x, state, *, axis_name=None):
        del state, axis_name
        x, z = jax.lax.stop_gradient(model.sample(key, params.theta, x))
        return Particles(x, z[None], jnp.zeros(1, z.dtype)), Info()

    return Sampler(draw, frozenset())
