"""Builders of `Model`s. Here: the paper's model, one Gaussian layer under Bernoulli pixels."""

import functools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import distributions, networks
from aiwae_jax.types import LogJointFn, Model, Params, PyTree

# name -> (initialization of the linear layers, whether the decoder's output bias starts at the
# logit of the mean training image)
INITIALIZATIONS = {
    "torch_mean_bias": ("torch", True),
    "torch": ("torch", False),
    "glorot_mean_bias": ("glorot", True),
}


def mean_image_logits(mean_image: chex.Array) -> chex.Array:
    """Logits `[X]` of the mean training image, clipped to [0.001, 0.999] as in the IWAE code."""
    probabilities = jnp.clip(jnp.asarray(mean_image, jnp.float32), 0.001, 0.999)
    return jnp.log(probabilities) - jnp.log1p(-probabilities)


def bernoulli_vae(
    data_size: int,
    latent_size: int,
    *,
    hidden_sizes: Sequence[int] = (200, 200),
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
) -> Model:
    """The model of the paper (supplement A): z ~ N(0, I), p(x|z) Bernoulli, q(z|x) diagonal normal.

    Both networks have tanh hidden layers; σ(x) = exp(linear).

    Args:
      data_size: X, the number of pixels.
      latent_size: D.
      hidden_sizes: hidden layers of the decoder; the encoder has the same in reverse order.
      mean_image: `[X]` mean of the training images in [0, 1]; needed by the `*_mean_bias`
        initializations.
      initialization: a key of `INITIALIZATIONS`.

    Raises:
      ValueError: for an unknown initialization, or one that lacks its `mean_image`.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"`initialization` must be one of {sorted(INITIALIZATIONS)}, got {initialization!r}."
        )
    linear, with_mean_bias = INITIALIZATIONS[initialization]
    if with_mean_bias and mean_image is None:
        raise ValueError(f"`initialization` {initialization!r} needs `mean_image`, got None.")
    if with_mean_bias and np.shape(mean_image) != (data_size,):
        raise ValueError(
            f"`mean_image` must have shape [{data_size}], got {list(np.shape(mean_image))}."
        )
    output_bias = mean_image_logits(mean_image) if with_mean_bias else None

    decoder = networks.mlp(
        latent_size, hidden_sizes, [data_size], linear=linear, output_bias=output_bias
    )
    encoder = networks.mlp(
        data_size, tuple(reversed(hidden_sizes)), [latent_size, latent_size], linear=linear
    )

    def init(key: chex.PRNGKey) -> Params:
        theta_key, phi_key = jax.random.split(key)
        return Params(theta=decoder.init(theta_key), phi=encoder.init(phi_key))

    def prior(theta: PyTree) -> distributions.DiagNormal:
        del theta
        return distributions.standard_normal(latent_size)

    def likelihood(theta: PyTree, z: chex.Array, precision: str = "float32"):
        return distributions.Bernoulli(*decoder.apply(theta, z, precision))

    def log_joint(
        theta: PyTree, x: chex.Array, z: chex.Array, precision: str = "float32"
    ) -> chex.Array:
        chex.assert_rank([x, z], 1)
        return likelihood(theta, z, precision).log_prob(x) + prior(theta).log_prob(z)

    def posterior(phi: PyTree, x: chex.Array) -> distributions.DiagNormal:
        chex.assert_rank(x, 1)
        loc, log_scale = encoder.apply(phi, x)
        return distributions.DiagNormal(loc, jnp.exp(log_scale))

    def sample(key: chex.PRNGKey, theta: PyTree) -> tuple[chex.Array, chex.Array]:
        z_key, x_key = jax.random.split(key)
        z = prior(theta).sample(z_key)
        return likelihood(theta, z).sample(x_key), z

    def log_joint_in(precision: str) -> LogJointFn:
        return functools.partial(log_joint, precision=precision)

    return Model(init, log_joint, posterior, prior, sample, likelihood, log_joint_in)
