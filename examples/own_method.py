"""A user's own method through the same `train`: thermodynamic variational objective.

TVO (Masrani et al. 2019) integrates log p(x) = ∫ E_β[log w] dβ over the path from q to p(x, z) by
a left Riemann sum, which lies below it, with E_β by self-normalized weights w^β of the same K
samples: consistent in K, biased at small K.
"""

import jax
import jax.numpy as jnp
from own_model import DATA_SIZE, LATENT_SIZE, MODEL, NOISE, sample

from aiwae_jax import distributions, samplers, train, weights
from aiwae_jax.types import Objective, phase


def tvo(model, num_particles, betas):
    """One phase for θ and φ: importance samples, and an objective of our own."""

    def value(params, particles):
        z, stop = jax.lax.stop_gradient(particles.z), jax.lax.stop_gradient
        log_p = jax.vmap(lambda z_k: model.log_joint(params.theta, particles.x, z_k))(z)
        log_q = jax.vmap(particles.posterior.log_prob)(z)
        log_w = log_p - log_q

        def expected_log_weight(beta):
            normalized = stop(weights.normalize(beta * log_w))
            mean = jnp.vdot(normalized, log_w)
            # The expectation moves with β·log p + (1-β)·log q, too: its covariance gradient.
            log_path = beta * log_p + (1.0 - beta) * log_q
            score = log_path - stop(log_path)
            return mean + jnp.vdot(normalized, score * stop(log_w - mean))

        lower_ends, widths = betas[:-1], jnp.diff(betas)
        return jnp.vdot(widths, jax.vmap(expected_log_weight)(lower_ends))

    objective = Objective(value, trains=("theta", "phi"))
    return (phase(("theta", "phi"), samplers.importance(model, num_particles), objective),)


def main(num_steps: int = 1500):
    """Trains probabilistic PCA on data from a known W, and compares exact likelihoods."""
    true_theta = jax.random.normal(jax.random.key(1), (DATA_SIZE, LATENT_SIZE))
    keys = jax.random.split(jax.random.key(2), 512)
    data = jax.vmap(lambda key: sample(key, true_theta)[0])(keys)

    betas = jnp.concatenate([jnp.zeros(1), jnp.logspace(-1.5, 0.0, 6)])
    method, optimizers = tvo(MODEL, 20, betas), train.adam(0.01)
    step = train.make_train_step(method, optimizers)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    for i in range(num_steps):
        state, info = step(jax.random.fold_in(jax.random.key(3), i), state, data)
    print(f"TVO after {num_steps} steps: {info['theta+phi']['objective']:.2f} nats")

    for name, theta in (("true", true_theta), ("learned", state.params.theta)):
        factor = jnp.linalg.cholesky(theta @ theta.T + NOISE**2 * jnp.eye(DATA_SIZE))
        marginal = distributions.FullNormal(jnp.zeros(DATA_SIZE), factor)
        mean = jnp.mean(jax.vmap(marginal.log_prob)(data))
        print(f"log p(x) under the {name} parameters: {mean:.2f} nats")


if __name__ == "__main__":
    main()
