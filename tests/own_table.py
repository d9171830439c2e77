"""A model of one's own in bare JAX, and a table of one's own: what the library knows nothing of."""

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import data, distributions, methods, train, types

NUM_COLUMNS, LATENT_SIZE = 5, 2


def table(seed=0, num_train=60, num_test=20):
    """Rows near a plane, with noise."""
    chance = np.random.default_rng(seed)
    loadings = np.random.default_rng(1).normal(size=(LATENT_SIZE, NUM_COLUMNS))
    z = chance.normal(size=(num_train + num_test, LATENT_SIZE))
    rows = z @ loadings + 0.5 * chance.normal(size=(len(z), NUM_COLUMNS))
    return data.from_arrays(rows[:num_train], rows[num_train:], name="plane")


def factor_analysis(num_columns=NUM_COLUMNS, *, with_sample=True):
    """x = z W + noise, with a linear Gaussian q."""

    def init(key):
        loadings_key, encoder_key = jax.random.split(key)
        loadings = 0.1 * jax.random.normal(loadings_key, (LATENT_SIZE, num_columns))
        encoder = 0.1 * jax.random.normal(encoder_key, (num_columns, LATENT_SIZE))
        theta = {"loadings": loadings, "log_scale": jnp.zeros(())}
        return types.Params(theta, {"encoder": encoder, "log_scale": jnp.zeros(LATENT_SIZE)})

    def prior(theta, x=None):
        del theta, x
        return distributions.standard_normal(LATENT_SIZE)

    def likelihood(theta, z):
        scale = jnp.full(num_columns, jnp.exp(theta["log_scale"]))
        return distributions.DiagNormal(z @ theta["loadings"], scale)

    def log_joint(theta, x, z):
        return likelihood(theta, z).log_prob(x) + prior(theta).log_prob(z)

    def posterior(phi, x):
        return distributions.DiagNormal(x @ phi["encoder"], jnp.exp(phi["log_scale"]))

    def sample(key, theta, x=None):
        del x
        z_key, x_key = jax.random.split(key)
        z = prior(theta).sample(z_key)
        return likelihood(theta, z).sample(x_key), z

    more = {"sample": sample} if with_sample else {}
    return types.Model(init, log_joint, posterior, prior, likelihood=likelihood, **more)


def exact_nll(theta, rows):
    """-log N(x; 0, W'W + σ²I) `[N]`, nats."""
    loadings = np.asarray(theta["loadings"], np.float64)
    variance = np.exp(2 * float(theta["log_scale"]))
    covariance = loadings.T @ loadings + variance * np.eye(loadings.shape[1])
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    return 0.5 * (log_det + np.einsum("ni,ij,nj->n", rows, np.linalg.inv(covariance), rows))


def fit(folder, **changed):
    """A few seconds of training."""
    model = changed.pop("model") if "model" in changed else factor_analysis()
    dataset = changed.pop("dataset") if "dataset" in changed else table()
    method = changed.pop("method") if "method" in changed else methods.aiwae(model, 2, 3, 2)
    options = {"epochs": 6, "batch_size": 20} | changed
    return train.fit(method, model, dataset, folder, **options)


if __name__ == "__main__":
    import sys

    fit(sys.argv[1], epochs=float(sys.argv[2]), checkpoint_minutes=0.002)
