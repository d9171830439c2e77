"""Builders of `Model`s: one or two stochastic layers under Bernoulli pixels."""

import functools
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks, distributions, likelihoods, networks, support
from aiwae_jax.likelihoods import bits
from aiwae_jax.models import flows
from aiwae_jax.models.general import family, vae
from aiwae_jax.recipe import of_model
from aiwae_jax.types import Model, Params, PyTree

mean_image_logits = bits.logits_of_mean
# name -> (initialization of the linear layers, whether the decoder's output bias starts at the
# logit of the mean training image)
INITIALIZATIONS = {
    "torch_mean_bias": ("torch", True),
    "torch": ("torch", False),
    "glorot_mean_bias": ("glorot", True),
}


def output_bias(
    initialization: str, mean_image: chex.Array | None, data_size: int
) -> tuple[str, chex.Array | None]:
    """Finds how linear layers are initialized, and the bias of the decoder's output."""
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"`initialization` must be one of {sorted(INITIALIZATIONS)}, got {initialization!r}."
        )
    linear, with_mean_bias = INITIALIZATIONS[initialization]
    if not with_mean_bias:
        return linear, None
    if mean_image is None:
        raise ValueError(
            f"`initialization`={initialization!r} needs `mean_image`, got None; 'torch' needs none."
        )
    if np.shape(mean_image) != (data_size,):
        raise ValueError(
            f"`mean_image` must have shape [{data_size}], got {list(np.shape(mean_image))}."
        )
    if support.is_concrete(mean_image):
        low, high = np.min(mean_image), np.max(mean_image)
        if not 0.0 <= low <= high <= 1.0:  # nor NaN
            raise ValueError(
                f"`mean_image` must lie within [0, 1], got values from {low:.4g} to {high:.4g}; it "
                "is the mean of the training images divided by their level of white."
            )
    return linear, mean_image_logits(mean_image)


def check_sizes(data_size: int, latent_size: int, hidden_sizes: Sequence[int]) -> None:
    """Raises ValueError for a size below 1, and TypeError for what is none."""
    sizes = {"data_size": data_size, "latent_size": latent_size}
    if not isinstance(hidden_sizes, Sequence):
        raise TypeError(
            "`hidden_sizes` must list the units of each layer, as (200, 200); got "
            f"{hidden_sizes!r}."
        )
    sizes |= {f"hidden_sizes[{i}]": size for i, size in enumerate(hidden_sizes)}
    for name, size in sizes.items():
        checks.integer(name, size, least=1)


@of_model
def bernoulli_vae(
    data_size: int,
    latent_size: int,
    *,
    hidden_sizes: Sequence[int] = (200, 200),
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
    posterior: str = "normal",
    **flow_options: Any,
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
      posterior: the family of q, a key of `flows.FAMILIES`.
      **flow_options: `num_layers` of a flow.

    Raises:
      ValueError: for an unknown initialization or family, a layer without units, or a `mean_image`
        that is missing, of another shape, or not within [0, 1].
    """
    check_sizes(data_size, latent_size, hidden_sizes)
    linear, bias = output_bias(initialization, mean_image, data_size)
    head_sizes = family(posterior, latent_size, flow_options).head_sizes
    decoder = networks.mlp(latent_size, hidden_sizes, [data_size], linear=linear, output_bias=bias)
    encoder = networks.mlp(data_size, tuple(reversed(hidden_sizes)), head_sizes, linear=linear)
    return vae(
        encoder,
        decoder,
        likelihood=likelihoods.bernoulli(),
        posterior=posterior,
        check_data=functools.partial(support.check_pixels, num_pixels=data_size),
        **flow_options,
    )


@of_model
def two_layer_vae(
    data_size: int,
    latent_size: int,
    *,
    hidden_sizes: Sequence[int] = (200, 200),
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
) -> Model:
    """The IWAE paper's model of two stochastic layers (Burda et al. 2015, section 5 and Figure 3).

    h2 ~ N(0, I) `[D]`, p(h1|h2) diagonal normal `[2D]`, p(x|h1) Bernoulli; q(h1|x) q(h2|h1), both
    diagonal normal. The networks between h1 and h2 have half the hidden units. There D = 50 and the
    hidden layers are 200 and 100 wide. The latent is z = (h1, h2) `[3D]`.

    Args:
      data_size: X.
      latent_size: D, of the upper layer.
      hidden_sizes: of the networks between x and h1.
      mean_image: as in `bernoulli_vae`.
      initialization: as in `bernoulli_vae`.

    Raises:
      ValueError: as `bernoulli_vae`.
    """
    check_sizes(data_size, latent_size, hidden_sizes)
    linear, bias = output_bias(initialization, mean_image, data_size)
    # Four networks, two each way.
    lower, upper = 2 * latent_size, latent_size
    upper_hidden = [max(size // 2, 1) for size in hidden_sizes]
    mlp = functools.partial(networks.mlp, linear=linear)
    decoder = mlp(lower, hidden_sizes, [data_size], output_bias=bias)
    lower_prior = mlp(upper, upper_hidden, [lower, lower])
    lower_encoder = mlp(data_size, tuple(reversed(hidden_sizes)), [lower, lower])
    upper_encoder = mlp(lower, tuple(reversed(upper_hidden)), [upper, upper])

    def init(key: chex.PRNGKey) -> Params:
        keys = jax.random.split(key, 4)
        return Params(
            theta={"decoder": decoder.init(keys[0]), "h1": lower_prior.init(keys[1])},
            phi={"h1": lower_encoder.init(keys[2]), "h2": upper_encoder.init(keys[3])},
        )

    def diag_normal(network, params, inputs):
        loc, log_scale = network.apply(params, inputs)
        return distributions.DiagNormal(loc, jnp.exp(log_scale))

    # Functions that the two distributions of z = (h1, h2) bind to their parameters.
    lower_given = functools.partial(diag_normal, lower_prior)
    upper_given = functools.partial(diag_normal, upper_encoder)

    def prior(theta: PyTree, x: PyTree = None) -> flows.Chained:
        """h2 first, then h1, of which it is the condition."""
        del x
        return flows.Chained(
            distributions.standard_normal(upper),
            Partial(lower_given, theta["h1"]),
            sizes=(upper, lower),
            is_reversed=True,
        )

    def decode(theta: PyTree, z: chex.Array, precision: str = "float32") -> tuple[chex.Array, ...]:
        return decoder.apply(theta["decoder"], z[:lower], precision)

    def encode(phi: PyTree, x: chex.Array) -> tuple[chex.Array, ...]:
        return lower_encoder.apply(phi["h1"], x)  # once per datum

    def posterior(phi: PyTree, loc: chex.Array, log_scale: chex.Array) -> flows.Chained:
        q1 = distributions.DiagNormal(loc, jnp.exp(log_scale))
        return flows.Chained(q1, Partial(upper_given, phi["h2"]), sizes=(lower, upper))

    # One key makes all four networks, in the `init` above.
    return vae(
        networks.Network(None, encode),
        networks.Network(None, decode),
        likelihood=likelihoods.bernoulli(),
        prior=prior,
        posterior=posterior,
        check_data=functools.partial(support.check_pixels, num_pixels=data_size),
    )._replace(init=init)
