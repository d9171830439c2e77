"""Decoders trained elsewhere: other libraries, a convolution, a Gaussian likelihood."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate

D, H, X = 3, 5, 16
RNG = np.random.default_rng(0)
W1, B1 = RNG.normal(size=(D, H)).astype(np.float32), RNG.normal(size=H).astype(np.float32)
W2, B2 = RNG.normal(size=(H, X)).astype(np.float32), RNG.normal(size=X).astype(np.float32)
IMAGES = (RNG.random((6, X)) < 0.5).astype(np.float32)
PRIOR = Partial(lambda x: distributions.standard_normal(D))
SMALL = evaluate.Settings(num_temperatures=40, num_chains=32, num_leapfrog_steps=3)


class LinenDecoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        return nn.Dense(X, name="out")(nn.tanh(nn.Dense(H, name="hidden")(z)))


class EquinoxDecoder(eqx.Module):
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear

    def __call__(self, z):
        return self.out(jnp.tanh(self.hidden(z)))


class ConvDecoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        hidden = nn.tanh(nn.Dense(2 * 2 * 4)(z)).reshape(1, 2, 2, 4)
        return nn.ConvTranspose(1, (3, 3), strides=(2, 2))(hidden).reshape(X)


def decoders():
    """(weights, logits_fn) of the same network, written three times."""
    bare = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}
    yield bare, lambda w, z: jnp.tanh(z @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]
    linen = {"hidden": {"kernel": W1, "bias": B1}, "out": {"kernel": W2, "bias": B2}}
    yield {"params": linen}, LinenDecoder().apply
    keys = jax.random.split(jax.random.key(0))
    module = EquinoxDecoder(eqx.nn.Linear(D, H, key=keys[0]), eqx.nn.Linear(H, X, key=keys[1]))
    module = eqx.tree_at(
        lambda m: (m.hidden.weight, m.hidden.bias, m.out.weight, m.out.bias),
        module,
        tuple(map(jnp.asarray, (W1.T, B1, W2.T, B2))),
    )
    yield module, lambda module, z: module(z)


def log_joint_of(logits_fn):
    def log_joint(weights, x, z):
        log_prior = distributions.standard_normal(D).log_prob(z)
        return distributions.Bernoulli(logits_fn(weights, z)).log_prob(x) + log_prior

    return log_joint


@pytest.mark.slow
def test_bare_jax_linen_and_equinox_evaluate_to_the_same_value():
    """At small step sizes: near the stability limit chains amplify the different rounding."""
    values = []
    plan = evaluate.Plan(np.linspace(0.0, 1.0, 40), np.full(38, 0.3), num_gradients=0)
    for weights, logits_fn in decoders():
        log_joint = Partial(log_joint_of(logits_fn), weights)
        target = evaluate.Target(log_joint, PRIOR)
        found = evaluate.log_likelihood(jax.random.key(0), target, IMAGES, SMALL, plan=plan)
        values.append(found.log_likelihood)
    np.testing.assert_allclose(values[1], values[0], rtol=1e-4)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-4)
    exact = quadrature(values[0])
    assert np.abs(values[0] - exact).mean() < 0.1


def quadrature(values):
    """log p(x) by importance sampling with half a million draws of the prior."""
    weights, logits_fn = next(decoders())
    z = jax.random.normal(jax.random.key(9), (500_000, D))
    logits = jax.vmap(lambda z: logits_fn(weights, z))(z)
    log_p = jnp.asarray(IMAGES) @ logits.T - distributions.softplus(logits).sum(axis=1)[None]
    return np.asarray(jax.nn.logsumexp(log_p, axis=1)) - np.log(len(z))


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_convolutional_decoder_and_gaussian_likelihood(likelihood):
    decoder = ConvDecoder()
    weights = decoder.init(jax.random.key(0), jnp.zeros(D))

    def distribution(weights, z):
        outputs = decoder.apply(weights, z)
        if likelihood == "bernoulli":
            return distributions.Bernoulli(outputs)
        return distributions.DiagNormal(outputs, jnp.full(X, 0.5))

    def log_joint(weights, x, z):
        log_prior = distributions.standard_normal(D).log_prob(z)
        return distribution(weights, z).log_prob(x) + log_prior

    def sample(weights, key):
        z_key, x_key = jax.random.split(key)
        z = jax.random.normal(z_key, (D,))
        return distribution(weights, z).sample(x_key), z

    found = evaluate.bidirectional(
        jax.random.key(1),
        evaluate.Target(Partial(log_joint, weights), PRIOR, Partial(sample, weights)),
        evaluate.Settings(num_temperatures=100, num_chains=4, num_leapfrog_steps=3),
        num_data=30,
    )
    assert -3 * found.gap_standard_error < found.gap < 0.2
