"""Score-function objectives, for latents that no gradient flows through.

∇E[f(z)] needs the score ∇log q(z) of what z was drawn from, weighed by a learning signal. They
differ in what they take from the signal to make it small: the other particles (VIMCO), or a
baseline that is learned (NVIL). Every signal is stopped, and the gradient of a value is that of the
estimator.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import networks, objectives, weights
from aiwae_jax.types import Model, Objective


def leave_one_out(log_weights: chex.Array) -> chex.Array:
    """L̂_K with each weight replaced by the geometric mean of the others, `[K]` nats.

    An estimate of the bound that does not know of z_k (Mnih & Rezende 2016, Eq. 6 and 7).

    Args:
      log_weights: `[K]` nats, K >= 2; -inf is a weight of zero.

    Raises:
      ValueError: if K < 2.
    """
    num_particles = log_weights.shape[0]
    if num_particles < 2:
        raise ValueError(
            "Leaving one particle out needs at least 2 (`num_particles`), got "
            f"{num_particles}; with one use `nvil`."
        )
    is_own = jnp.eye(num_particles, dtype=bool)
    every = jnp.broadcast_to(log_weights, (num_particles, num_particles))
    others = jnp.sum(jnp.where(is_own, 0.0, every), axis=1) / (num_particles - 1)
    return jax.vmap(weights.log_mean_exp)(jnp.where(is_own, others[:, None], every))


def _score(signal: chex.Array, log_proposal: chex.Array) -> chex.Array:
    """Σ signal_k ∇log q(z_k) as a gradient, of value zero; what is not finite counts nothing."""
    signal = jax.lax.stop_gradient(jnp.where(jnp.isfinite(signal), signal, 0.0))
    return jnp.sum(signal * (log_proposal - jax.lax.stop_gradient(log_proposal)))


def vimco() -> Objective:
    """L_K for latents drawn without a path (Mnih & Rezende 2016): its gradient is unbiased.

    ∇E[L̂_K] = E[Σ_k (L̂_K - L̂_K^(-k)) ∇log q(z_k) + Σ_k w̃_k ∇log w_k] with `leave_one_out` as
    L̂_K^(-k). K >= 2. The value is L̂_K.
    """

    def value(params, particles):
        del params  # they enter through the weights and the proposal
        bound = weights.log_mean_exp(particles.log_weights)
        signal = bound - leave_one_out(particles.log_weights)
        return bound + _score(signal, particles.log_proposal)

    return Objective(
        value, trains=("theta", "phi"), needs=frozenset({"proper_weights", "log_proposal"})
    )


class Baseline(NamedTuple):
    """A network of the datum that predicts the learning signal: `psi["baseline"]`.

    Attributes:
      network: `[X]` -> `[1]`, nats.
    """

    network: networks.Network

    def init_params(self, key: chex.PRNGKey) -> dict:
        """Its parameters, by name."""
        return {"baseline": self.network.init(key)}

    def __call__(self, psi: dict, x: chex.Array) -> chex.Array:
        """The prediction `[]` for x, nats."""
        return self.network.apply(psi["baseline"], x)[0][0]


def baseline(model: Model, *, hidden_size: int = 100) -> Baseline:
    """A baseline of one tanh layer (Mnih & Gregor 2014, section 3.2).

    Raises:
      ValueError: for a model that does not say how large its data are.
    """
    if model.data_size is None:
        raise ValueError("`baseline` needs a model with `data_size`, for it reads x.")
    return Baseline(networks.mlp(model.data_size, (hidden_size,), [1]))


def nvil(baseline: Baseline) -> Objective:
    """The ELBO for latents drawn without a path (Mnih & Gregor 2014): its gradient is unbiased.

    ∇_φ = E[(log w - b_ψ(x)) ∇log q(z)], ∇_θ = E[∇log p(x, z)], and ψ descends the square of the
    signal. The value is the mean log weight.

    Deviation: the signal is not divided by its running standard deviation, which Adam's own scaling
    stands for, and the running mean is the bias of the baseline.
    """

    def value(params, particles):
        log_weights, log_proposal = particles.log_weights, particles.log_proposal
        is_used = log_weights > -jnp.inf
        safe = jnp.where(is_used, log_weights, 0.0)
        score_free = safe + (log_proposal - jax.lax.stop_gradient(log_proposal))
        signal = jax.lax.stop_gradient(safe) - baseline(params.psi, particles.x)
        error = jnp.where(is_used, jnp.square(signal), 0.0)
        loss = 0.5 * (error - jax.lax.stop_gradient(error))
        num = log_weights.shape[0]
        total = jnp.sum(jnp.where(is_used, score_free, 0.0) - loss)
        total = (total + _score(jnp.where(is_used, signal, 0.0), log_proposal)) / num
        return jnp.where(jnp.all(is_used), total, -jnp.inf)

    return Objective(
        value,
        trains=("theta", "phi", "psi"),
        needs=frozenset({"proper_weights", "log_proposal"}),
        init_params=baseline.init_params,
    )


def centered_log_joint(model: Model) -> Objective:
    """Σ_k w̃_k log p_θ(x, z_k) for z_k drawn from the prior, whose score is weighed by w̃_k - 1/K.

    The score of what was drawn has mean zero, so that the mean is that of `objectives.log_joint`;
    the variance is smaller (Raiko et al. 2015, G5). The value is that of `log_joint`.
    """
    log_joint = objectives.log_joint(model)

    def value(params, particles):
        log_proposal = particles.log_proposal
        num = log_proposal.shape[0]
        return log_joint.value(params, particles) + _score(
            jnp.full(num, -1.0 / num, log_proposal.dtype), log_proposal
        )

    return log_joint._replace(value=value, needs=frozenset({"log_proposal"}))
