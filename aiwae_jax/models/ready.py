"""Builders of whole auto-encoders for data with any likelihood: dense, and convolutional."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, convolutions, networks, support
from aiwae_jax.likelihoods import Likelihood
from aiwae_jax.models import priors
from aiwae_jax.models.conditions import Condition
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
    condition: Likelihood | Sequence[Likelihood] | None = None,
    **flow_options: Any,
) -> Model:
    """An auto-encoder of two dense networks, for data of any kind.

    `models.bernoulli_vae` is the paper's, with Bernoulli pixels.

    Args:
      data_size: X, columns of a datum, those of a condition among them.
      latent_size: D.
      likelihood: from `likelihoods`, of what is modelled; the encoder sees a datum as its `inputs`
        show it.
      hidden_sizes: hidden layers of the decoder; the encoder has the same in reverse order.
      activation: of the hidden layers, a key of `networks.ACTIVATIONS`.
      prior: "normal", N(0, I), or "mixture", normals that are learned.
      num_components: of a mixture, 10 where nothing is said.
      posterior: the family of q, a key of `flows.FAMILIES`.
      mean: `[X]` mean of the training data, at which the decoder's outputs start with the
        `*_mean_bias` initializations; by default they start anywhere near 0.
      columns: X names of the columns, for what is said of data.
      initialization: a key of `models.INITIALIZATIONS`.
      condition: what the last columns of a datum are, which are given and not modelled, a
        likelihood for each, as `data.condition_of(dataset)` has them: p(x|z, c), q(z|x, c), and a
        prior that c does not change. Networks see the `inputs` of each.
      **flow_options: `num_layers` of a flow.

    Raises:
      ValueError: for what is unknown, layers without units, or a `mean` of another shape.
      TypeError: for what is no likelihood.
    """
    given = Condition.of(condition)
    num_modelled = check_given(data_size, given)
    linear, biases = _start(initialization, likelihood, mean, num_modelled, given)
    check_sizes(data_size, latent_size, hidden_sizes)
    head_sizes = likelihood.head_sizes(num_modelled)
    decoder = networks.mlp(
        latent_size + given.num_inputs,
        hidden_sizes,
        head_sizes,
        linear=linear,
        output_bias=biases,
        activation=activation,
    )

    def make_encoder(num_inputs: int, sizes: Sequence[int]) -> networks.Network:
        layers, num_seen = tuple(reversed(hidden_sizes)), num_inputs + given.num_inputs
        return networks.mlp(num_seen, layers, sizes, linear=linear, activation=activation)

    return _of_networks(
        make_encoder,
        decoder,
        data_size,
        latent_size,
        likelihood,
        given,
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
    condition: Likelihood | Sequence[Likelihood] | None = None,
    **flow_options: Any,
) -> Model:
    """An auto-encoder of two convolutional networks, for images.

    Args:
      image_shape: (height, width), or (height, width, colours); a datum is such an image, flat,
        with its condition behind it.
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
      condition: as of `mlp_vae`; the dense layers see it beside the convolutions, and beside z.
      **flow_options: as of `mlp_vae`.

    Raises:
      ValueError: as `mlp_vae`, for what is no shape, and for outputs that are not of pixels.
      TypeError: as `mlp_vae`.
    """
    shape = convolutions.as_shape(image_shape)
    num_pixels = int(np.prod(shape))
    given = Condition.of(condition)
    linear, biases = _start(initialization, likelihood, mean, num_pixels, given)
    check_sizes(num_pixels, latent_size, [hidden_size, *channels])
    layers = {"linear": linear, "activation": activation}
    decoder = convolutions.decoder(
        latent_size + given.num_inputs,
        shape,
        tuple(reversed(channels)),
        hidden_size,
        likelihood.head_sizes(num_pixels),
        output_bias=biases,
        **layers,
    )

    def make_encoder(num_inputs: int, sizes: Sequence[int]) -> networks.Network:
        build = functools.partial(convolutions.encoder, num_beside=given.num_inputs, **layers)
        if likelihood.takes_missing and num_inputs == 2 * num_pixels:
            wide = (*shape[:2], 2 * shape[2])  # the bits of what was observed as more colours
            seeing = build(wide, channels, hidden_size, sizes)
            return networks.Network(
                seeing.init, lambda params, x: seeing.apply(params, _side_by_side(x, shape))
            )
        if num_inputs != num_pixels:
            raise ValueError(
                f"`likelihood` must show an encoder one number for each of the {num_pixels} "
                f"pixels, got {num_inputs}; use `models.mlp_vae`."
            )
        return build(shape, channels, hidden_size, sizes)

    return _of_networks(
        make_encoder,
        decoder,
        num_pixels + given.num_given,
        latent_size,
        likelihood,
        given,
        prior=_prior(prior, latent_size, num_components),
        posterior=posterior,
        **flow_options,
    )


def _side_by_side(inputs: chex.Array, shape: Sequence[int]) -> chex.Array:
    """Two flat images, one after the other, as one with the colours of both; the rest behind."""
    size = 2 * int(np.prod(shape))
    both = jnp.moveaxis(inputs[:size].reshape(2, *shape), 0, 2).reshape(-1)
    return jnp.concatenate([both, inputs[size:]])


def check_given(data_size: int, given: Condition) -> int:
    """How many columns are modelled, of `data_size`.

    Raises:
      ValueError: where a condition leaves none.
    """
    num = checks.integer("data_size", data_size, least=1) - given.num_given
    if num < 1:
        raise ValueError(
            f"`data_size` must be above the {given.num_given} columns of the `condition`, which "
            f"are among them; got {data_size}."
        )
    return num


def _start(
    initialization: str,
    likelihood: Likelihood,
    mean: chex.Array | None,
    num_modelled: int,
    given: Condition,
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
    data_size = num_modelled + given.num_given
    if np.shape(mean) != (data_size,) or not np.isfinite(mean).all():
        raise ValueError(
            f"`mean` must be [{data_size}] finite numbers, got shape {list(np.shape(mean))}."
        )
    return linear, list(likelihood.first_outputs(np.asarray(mean)[:num_modelled]))


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
    given: Condition,
    *,
    posterior: str,
    columns: Sequence[str] | None = None,
    prior: priors.Prior | None,
    **flow_options: Any,
) -> Model:
    """The model, whose encoder sees the likelihood's inputs."""
    sizes = family(posterior, latent_size, flow_options).head_sizes
    num_inputs = num_modelled = data_size - given.num_given
    if likelihood.inputs is not None:
        like_datum = jax.ShapeDtypeStruct((num_modelled,), jnp.result_type(float))
        (num_inputs,) = jax.eval_shape(likelihood.inputs, like_datum).shape
    encoder = make_encoder(num_inputs, sizes)
    inputs = given.beside(likelihood.inputs)
    if inputs is not None:
        seeing = encoder
        encoder = networks.Network(
            seeing.init, lambda params, x: seeing.apply(params, inputs(x)), data_size
        )

    def check_data(x: Any, *, name: str) -> None:
        support.check_columns(x, name=name, num_columns=data_size)
        modelled = None if columns is None else columns[:num_modelled]
        likelihood.check(x[:, :num_modelled], name=name, columns=modelled)
        given.check(x, name=name, columns=columns)

    model = vae(
        encoder,
        decoder,
        likelihood=likelihood,
        prior=prior,
        posterior=posterior,
        check_data=check_data,
        latent_size=latent_size,
        data_size=data_size,
        condition=given.columns,
        **flow_options,
    )
    return model._replace(data_size=data_size)
