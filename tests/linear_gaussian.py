"""A model in bare JAX whose log p(x), posterior and gradients are known exactly.

z ~ N(0, I), x | z ~ N(W z + b, s² I), q(z|x) = N(A x + c, diag(exp(r))²), off the true posterior.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import distributions
from aiwae_jax.types import Model, Params

D, X, NOISE = 2, 3, 0.7
WEIGHT = np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -0.6]], np.float32)
BIAS = np.array([0.3, -0.2, 0.1], np.float32)
DATUM = np.array([0.9, -0.4, 0.7], np.float32)


def product(*factors):
    """A product of matrices and vectors in real fp32, which a GPU has to be asked for."""
    return functools.reduce(
        functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST), factors
    )


def params() -> Params:
    theta = {"weight": jnp.asarray(WEIGHT), "bias": jnp.asarray(BIAS)}
    phi = {
        "weight": jnp.asarray([[0.4, -0.1, 0.1], [0.0, 0.4, -0.2]], jnp.float32),
        "bias": jnp.asarray([0.2, -0.3], jnp.float32),
        "log_scale": jnp.log(jnp.asarray([0.8, 0.7], jnp.float32)),
    }
    return Params(theta, phi)


def log_joint(theta, x, z):
    likelihood = distributions.DiagNormal(
        product(theta["weight"], z) + theta["bias"], jnp.full(X, NOISE)
    )
    return likelihood.log_prob(x) + distributions.standard_normal(D).log_prob(z)


def posterior(phi, x):
    return distributions.DiagNormal(
        product(phi["weight"], x) + phi["bias"], jnp.exp(phi["log_scale"])
    )


def sample(key, theta, x=None):
    del x
    z_key, x_key = jax.random.split(key)
    z = jax.random.normal(z_key, (D,))
    noise = NOISE * jax.random.normal(x_key, (X,))
    return product(theta["weight"], z) + theta["bias"] + noise, z


def model() -> Model:
    return Model(
        init=lambda key: params(),
        log_joint=log_joint,
        posterior=posterior,
        prior=lambda theta, x: distributions.standard_normal(D),
        sample=sample,
    )


def exact_log_likelihood(theta, x):
    """log N(x; b, W Wᵀ + s² I)."""
    covariance = product(theta["weight"], theta["weight"].T) + NOISE**2 * jnp.eye(X)
    residual = x - theta["bias"]
    _, log_det = jnp.linalg.slogdet(covariance)
    quadratic = product(residual, jnp.linalg.solve(covariance, residual))
    return -0.5 * (quadratic + log_det + X * jnp.log(2 * jnp.pi))


def exact_posterior(theta, x):
    """p(z|x), a normal with full covariance."""
    precision = jnp.eye(D) + product(theta["weight"].T, theta["weight"]) / NOISE**2
    covariance = jnp.linalg.inv(precision)
    mean = product(covariance, theta["weight"].T, x - theta["bias"]) / NOISE**2
    return distributions.FullNormal(mean, jnp.linalg.cholesky(covariance))
