"""One decoder in Flax Linen, Flax NNX, Equinox and Haiku: the same log p(x, z) in `models.vae`."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aiwae_jax import likelihoods, models, networks

hk = pytest.importorskip("haiku")

pytestmark = pytest.mark.slow
D, X = 3, 16


class Linen(nn.Module):
    @nn.compact
    def __call__(self, z):
        return nn.Dense(X)(z)


def linen():
    return networks.Network(lambda key: Linen().init(key, jnp.zeros(D)), Linen().apply)


def nnx_module():
    module = nnx.Linear(D, X, rngs=nnx.Rngs(0))
    graph, _ = nnx.split(module)

    def init(key):
        return nnx.to_pure_dict(nnx.split(nnx.Linear(D, X, rngs=nnx.Rngs(key)))[1])

    return networks.Network(init, lambda params, z: nnx.merge(graph, params)(z))


def equinox():
    return networks.Network(lambda key: eqx.nn.Linear(D, X, key=key), lambda module, z: module(z))


def haiku():
    function = hk.without_apply_rng(hk.transform(lambda z: hk.Linear(X)(z)))
    return networks.Network(lambda key: function.init(key, jnp.zeros(D)), function.apply)


@pytest.mark.parametrize("make", [linen, nnx_module, equinox, haiku])
def test_decoder_of_another_library_is_a_pair_of_functions(make):
    decoder = make()
    model = models.vae(
        networks.mlp(X, (4,), [D, D]), decoder, likelihood=likelihoods.bernoulli(), latent_size=D
    )
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(D, X)), rng.normal(size=X)
    x, z = (rng.random(X) < 0.5).astype(np.float32), rng.normal(size=D).astype(np.float32)

    def ours(leaf):  # Equinox has kernels [out, in]
        given = bias if leaf.ndim == 1 else kernel if leaf.shape == (D, X) else kernel.T
        return jnp.asarray(given, jnp.float32)

    theta = jax.tree.map(ours, model.init(jax.random.key(0)).theta)
    logits = z @ kernel + bias
    expected = x @ logits - np.logaddexp(0.0, logits).sum()
    expected -= 0.5 * (z @ z + D * np.log(2.0 * np.pi))
    np.testing.assert_allclose(model.log_joint(theta, x, z), expected, rtol=1e-5)
