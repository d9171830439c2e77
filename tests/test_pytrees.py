"""Posteriors and priors are pytrees: they go in and out of `jit` and `vmap`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import models, samplers
from aiwae_jax.models import flows

X = 6
DATA = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, X)), jnp.float32)
_START = {"initialization": "torch"}
MODELS = {
    **{
        name: models.bernoulli_vae(X, 3, hidden_sizes=(5,), posterior=name, **_START)
        for name in flows.FAMILIES
    },
    "two layers": models.two_layer_vae(X, 2, hidden_sizes=(5,), **_START),
    "network": models.sigmoid_belief_network(X, (4, 3), **_START),
    "predictor": models.half_predictor(X, (4, 3), **_START),
}


def params_of(model):
    """Far from where they start, so that no layer of a flow is the identity."""
    params = jax.jit(model.init)(jax.random.key(0))
    return jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), params
    )


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_draws_is_the_draws_one_by_one(name):
    model, keys = MODELS[name], jax.random.split(jax.random.key(1), len(DATA))
    sampler, params = samplers.importance(model, 3), params_of(model)

    def draw(key, x):
        return sampler.draw(key, params, x, sampler.init())[0]

    batched = jax.vmap(draw)(keys, DATA)
    one_by_one = [draw(key, x) for key, x in zip(keys, DATA, strict=True)]
    assert type(batched.posterior) is type(one_by_one[0].posterior)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)
    chex.assert_trees_all_close(batched, stacked, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_what_leaves_a_compiled_function_is_the_same_distribution(name):
    model, key = MODELS[name], jax.random.key(2)
    params = params_of(model)
    for build, its_params in ((model.posterior, params.phi), (model.prior, params.theta)):
        compiled, plain = jax.jit(build)(its_params, DATA[0]), build(its_params, DATA[0])
        assert jax.tree.structure(compiled) == jax.tree.structure(build(its_params, DATA[1]))
        z, log_q = compiled.sample_and_log_prob(key)
        chex.assert_trees_all_close(
            (z, log_q), plain.sample_and_log_prob(key), rtol=1e-4, atol=1e-5
        )
        # And in again, many at once.
        many = jax.vmap(build, in_axes=(None, 0))(its_params, DATA)
        if model.has_posterior_density or build is model.prior:
            found = jax.jit(jax.vmap(lambda q, z: q.log_prob(z), in_axes=(0, None)))(many, z)
            assert found.shape == (len(DATA),)
            np.testing.assert_allclose(found[0], log_q, rtol=1e-4, atol=1e-5)
