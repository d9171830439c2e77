"""Builders of whole auto-encoders for data with any likelihood: dense, and convolutional."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, convolutions, networks, support
from aiwae_jax.likelihoods import Likelihood
from aiwae_jax.models import priors
from aiwae_jax.models.general import family, vae
from aiwae_jax.models.images import INITIALIZATIONS, check_sizes
from aiwae_jax.recipe import of_model
from aiwae_jax.types import Model


@of_model
def mlp_vae(
    data_size: int,
    latent_size: int,
    *,
    likelihood: Likelihood,
    hidden_sizes: Sequence[int] = (200, 200),
    activation: str = "tanh",
    prior: str = "normal",
    num_components: int | None = None,
    posterior: str = "normal",
    mean: chex.Array | None = None,
    columns: Sequence[str] | None = None,
    initialization: str = "torch_mean_bias",
    **flow_options: Any,
) -> Model:
    """An auto-encoder of two dense networks, for data of any kind.

    `models.bernoulli_vae` is the paper's, with Bernoulli pixels.

    Args:
      data_size: X, columns of a datum.
      latent_size: D.
      likelihood: from `likelihoods`; the encoder sees a datum as its `inputs` show it.
      hidden_sizes: hidden layers of the decoder; the encoder has the same in reverse order.
      activation: of the hidden layers, a key of `networks.ACTIVATIONS`.
      prior: "normal", N(0, I), or "mixture", normals that are learned.
      num_components: of a mixture, 10 where nothing is said.
      posterior: the family of q, a key of `flows.FAMILIES`.
      mean: `[X]` mean of the training data, at which the decoder's outputs start with the
        `*_mean_bias` initializations; by default they start anywhere near 0.
      columns: X names of the columns, for what is said of data.
      initialization: a key of `models.INITIALIZATIONS`.
      **flow_options: `num_layers` of a flow.

    Raises:
      ValueError: for what is unknown, layers without units, or a `mean` of another shape.
      TypeError: for what is no likelihood.
    """
    linear, biases = _start(initialization, likelihood, mean, data_size)
    check_sizes(data_size, latent_size, hidden_sizes)
    head_sizes = likelihood.head_sizes(data_size)
    decoder = networks.mlp(
        latent_size,
        hidden_sizes,
        head_sizes,
        linear=linear,
        output_bias=biases,
        activation=activation,
    )

    def make_encoder(num_inputs: int, sizes: Sequence[int]) -> networks.Network:
        layers = tuple(reversed(hidden_sizes))
        return networks.mlp(num_inputs, layers, sizes, linear=linear, activation=activation)

    return _of_networks(
        make_encoder,
        decoder,
        data_size,
        latent_size,
        likelihood,
        columns=columns,
        prior=_prior(prior, latent_size, num_components),
        posterior=posterior,
        **flow_options,
    )


@of_model
def conv_vae(
    image_shape: Sequence[int],
    latent_size: int,
    *,
    likelihood: Likelihood,
    channels: Sequence[int] = (32, 64),
    hidden_size: int = 200,
    activation: str = "tanh",
    prior: str = "normal",
    num_components: int | None = None,
    posterior: str = "normal",
    mean: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
    **flow_options: Any,
) -> Model:
    """An auto-encoder of two convolutional networks, for images.

    Args:
      image_shape: (height, width), or (height, width, colours); a datum is such an image, flat.
      latent_size: D.
      likelihood: of pixels: a number for each pixel goes in, as its `inputs` show it, and each of
        its outputs has one, too.
      channels: of the encoder's convolutions, each of which halves height and width; the decoder
        has them in reverse order.
      hidden_size: units of the dense layer between the convolutions and the latent.
      activation: as of `mlp_vae`.
      prior: as of `mlp_vae`.
      num_components: as of `mlp_vae`.
      posterior: as of `mlp_vae`.
      mean: as of `mlp_vae`; an output starts at one number for all pixels of a colour.
      initialization: as of `mlp_vae`; of the dense layers.
      **flow_options: as of `mlp_vae`.

    Raises:
      ValueError: as `mlp_vae`, for what is no shape, and for outputs that are not of pixels.
      TypeError: as `mlp_vae`.
    """
    shape = convolutions.as_shape(image_shape)
    data_size = int(np.prod(shape))
    linear, biases = _start(initialization, likelihood, mean, data_size)
    check_sizes(data_size, latent_size, [hidden_size, *channels])
    layers = {"linear": linear, "activation": activation}
    decoder = convolutions.decoder(
        latent_size,
        shape,
        tuple(reversed(channels)),
        hidden_size,
        likelihood.head_sizes(data_size),
        output_bias=biases,
        **layers,
    )

    def make_encoder(num_inputs: int, sizes: Sequence[int]) -> networks.Network:
        if likelihood.takes_missing and num_inputs == 2 * data_size:
            wide = (*shape[:2], 2 * shape[2])  # the bits of what was observed as more colours
            seeing = convolutions.encoder(wide, channels, hidden_size, sizes, **layers)
            return networks.Network(
                seeing.init, lambda params, x: seeing.apply(params, _side_by_side(x, shape))
            )
        if num_inputs != data_size:
            raise ValueError(
                f"`likelihood` must show an encoder one number for each of the {data_size} pixels, "
                f"got {num_inputs}; use `models.mlp_vae`."
            )
        return convolutions.encoder(shape, channels, hidden_size, sizes, **layers)

    return _of_networks(
        make_encoder,
        decoder,
        data_size,
        latent_size,
        likelihood,
        prior=_prior(prior, latent_size, num_components),
        posterior=posterior,
        **flow_options,
    )


def _side_by_side(inputs: chex.Array, shape: Sequence[int]) -> chex.Array:
    """Two flat images, one after the other, as one with the colours of both."""
    return jnp.moveaxis(inputs.reshape(2, *shape), 0, 2).reshape(-1)


def _start(
    initialization: str, likelihood: Likelihood, mean: chex.Array | None, data_size: int
) -> tuple[str, list[chex.Array | None]]:
    """Finds how dense layers are initialized, and where the decoder's outputs start."""
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            "`likelihood` must be a `likelihoods.Likelihood`, such as `likelihoods.normal()`, got "
            f"{checks.describe(likelihood)}."
        )
    if likelihood.head_sizes is None:
        raise ValueError(
            "`likelihood` must say its `head_sizes`, for a decoder to be made for it; or make one "
            "yourself, for `models.vae`."
        )
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"`initialization` must be one of {sorted(INITIALIZATIONS)}, got {initialization!r}."
        )
    linear, with_mean_bias = INITIALIZATIONS[initialization]
    if mean is None or not with_mean_bias or likelihood.first_outputs is None:
        return linear, []
    if np.shape(mean) != (data_size,) or not np.isfinite(mean).all():
        raise ValueError(
            f"`mean` must be [{data_size}] finite numbers, got shape {list(np.shape(mean))}."
        )
    return linear, list(likelihood.first_outputs(np.asarray(mean)))


def _prior(name: str, latent_size: int, num_components: int | None) -> priors.Prior | None:
    options = {} if num_components is None else {"num_components": num_components}
    prior = priors.named(name, latent_size, **options)
    return None if name == "normal" else prior


def _of_networks(
    make_encoder: Callable[[int, Sequence[int]], networks.Network],
    decoder: networks.Network,
    data_size: int,
    latent_size: int,
    likelihood: Likelihood,
    *,
    posterior: str,
    columns: Sequence[str] | None = None,
    prior: priors.Prior | None,
    **flow_options: Any,
) -> Model:
    """The model, whose encoder sees the likelihood's inputs."""
    sizes = family(posterior, latent_size, flow_options).head_sizes
    inputs = likelihood.inputs
    num_inputs = data_size
    if inputs is not None:
        like_datum = jax.ShapeDtypeStruct((data_size,), jnp.result_type(float))
        (num_inputs,) = jax.eval_shape(inputs, like_datum).shape
    encoder = make_encoder(num_inputs, sizes)
    if inputs is not None:
        seeing = encoder
        encoder = networks.Network(
            seeing.init, lambda params, x: seeing.apply(params, inputs(x)), data_size
        )

    def check_data(x: Any, *, name: str) -> None:
        support.check_columns(x, name=name, num_columns=data_size)
        likelihood.check(x, name=name, columns=columns)

    model = vae(
        encoder,
        decoder,
        likelihood=likelihood,
        prior=prior,
        posterior=posterior,
        check_data=check_data,
        data_size=data_size,
        **flow_options,
    )
    return model._replace(data_size=data_size)
