"""Targets whose latents are pytrees are measured as vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate

SETTINGS = evaluate.Settings(
    num_temperatures=10, num_chains=4, num_pilot_rounds=1, chain_space="latent"
)
X = np.array([[0.3, -1.2, 0.8], [1.0, 0.1, -0.4]], np.float32)


def log_joint(scale, x, z):
    return distributions.DiagNormal(z, jnp.full(3, scale)).log_prob(
        x
    ) + distributions.standard_normal(3).log_prob(z)


class Prior(NamedTuple):
    """A distribution over `{"a": [1], "b": [2]}`."""

    def sample(self, key):
        z = jax.random.normal(key, (3,))
        return {"a": z[:1], "b": z[1:]}

    def log_prob(self, z):
        return distributions.standard_normal(3).log_prob(as_vector(z))


class FlatPrior(NamedTuple):
    """The same over `[3]`."""

    def sample(self, key):
        return jax.random.normal(key, (3,))

    def log_prob(self, z):
        return distributions.standard_normal(3).log_prob(z)


def as_vector(z):
    return jnp.concatenate([z["a"], z["b"]])


def of_tree(scale, x, z):
    return log_joint(scale, x, as_vector(z))


def sample(key):
    z = Prior().sample(key)
    return as_vector(z) + 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (3,)), z


def made(scale=0.5):
    target = evaluate.Target(Partial(of_tree, scale), lambda x: Prior(), sample)
    return evaluate.of_trees(target, {"a": jnp.zeros(1), "b": jnp.zeros(2)})


def test_functions_of_trees_are_those_of_their_vectors():
    z = jnp.array([0.2, -0.3, 1.1])
    np.testing.assert_allclose(made().log_joint(X[0], z), log_joint(0.5, X[0], z), rtol=1e-6)
    np.testing.assert_allclose(made().start(X[0]).log_prob(z), FlatPrior().log_prob(z), rtol=1e-6)
    assert made().start(X[0]).sample(jax.random.key(2)).shape == (3,)
    x, z = evaluate.simulate(jax.random.key(1), made(), 5)
    assert (x.shape, z.shape) == ((5, 3), (5, 3))


@pytest.mark.slow
def test_a_target_of_trees_has_the_likelihood_of_their_vectors():
    flat = evaluate.Target(Partial(log_joint, 0.5), lambda x: FlatPrior())
    found, expected = (
        evaluate.log_likelihood(jax.random.key(0), target, X, SETTINGS) for target in (made(), flat)
    )
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=1e-4)


def test_the_next_target_of_the_same_shapes_has_the_same_functions():
    one, other = (made(scale).log_joint for scale in (0.5, 0.7))
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_what_is_no_tree_is_refused():
    with pytest.raises(TypeError, match="`like` must be a pytree of arrays, got float32"):
        evaluate.of_trees(made(), jnp.zeros(3))
