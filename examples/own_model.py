"""Trains a user's own model, in bare JAX, with AIWAE: probabilistic PCA, Gaussian posterior."""

import jax
import jax.numpy as jnp

from aiwae_jax import distributions, evaluate, methods, train
from aiwae_jax.types import Model, Params

DATA_SIZE, LATENT_SIZE, NOISE = 6, 2, 0.5


def log_joint(theta, x, z):
    """Log N(x; W z, NOISE² I) + log N(z; 0, I)."""
    likelihood = distributions.DiagNormal(theta @ z, jnp.full(DATA_SIZE, NOISE))
    return likelihood.log_prob(x) + distributions.standard_normal(LATENT_SIZE).log_prob(z)


def posterior(phi, x):
    """q(z|x) = N(A x, exp(r)²)."""
    return distributions.DiagNormal(phi["weight"] @ x, jnp.exp(phi["log_scale"]))


def sample(key, theta, x=None):
    """One ancestral draw (x', z); of the model of a part of x, x would say the rest."""
    del x
    z_key, x_key = jax.random.split(key)
    z = jax.random.normal(z_key, (LATENT_SIZE,))
    return theta @ z + NOISE * jax.random.normal(x_key, (DATA_SIZE,)), z


def init(key):
    """Small random parameters."""
    theta_key, phi_key = jax.random.split(key)
    weight = 0.1 * jax.random.normal(phi_key, (LATENT_SIZE, DATA_SIZE))
    return Params(
        theta=0.1 * jax.random.normal(theta_key, (DATA_SIZE, LATENT_SIZE)),
        phi={"weight": weight, "log_scale": jnp.zeros(LATENT_SIZE)},
    )


MODEL = Model(
    init=init,
    log_joint=log_joint,
    posterior=posterior,
    prior=lambda theta, x: distributions.standard_normal(LATENT_SIZE),
    sample=sample,
)


def main(num_steps: int = 1500):
    """Trains on data from a known W, and compares likelihoods."""
    true_theta = jax.random.normal(jax.random.key(1), (DATA_SIZE, LATENT_SIZE))
    keys = jax.random.split(jax.random.key(2), 512)
    data = jax.vmap(lambda key: sample(key, true_theta)[0])(keys)

    method = methods.aiwae(MODEL, num_particles=5, num_temperatures=5)
    optimizers = train.adam(0.01)
    step = train.make_train_step(method, optimizers)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    for i in range(num_steps):
        state, info = step(jax.random.fold_in(jax.random.key(3), i), state, data)
    print(f"after {num_steps} steps: acceptance {info['theta']['acceptance'].mean():.2f}")

    for name, theta in (("true", true_theta), ("learned", state.params.theta)):
        target = evaluate.Target.of(MODEL, state.params._replace(theta=theta))
        settings = evaluate.Settings(num_temperatures=100)
        found = evaluate.log_likelihood(jax.random.key(4), target, data[:100], settings)
        mean, error = evaluate.mean_and_standard_error(found.log_likelihood)
        print(f"log p(x) under the {name} parameters: {mean:.2f} ± {error:.2f} nats")


if __name__ == "__main__":
    main()
