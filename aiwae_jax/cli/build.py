"""From a command's settings to the method and the model that they name."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax import likelihoods, methods, models
from aiwae_jax.cli import curriculum
from aiwae_jax.cli.settings import Fitting
from aiwae_jax.train import Leg
from aiwae_jax.types import Method, Model

_FEW_PIXELS = 4


class Given(NamedTuple):
    """What a model is built of, beside its configuration; see `build_model`."""

    mean: np.ndarray
    likelihood: likelihoods.Likelihood | None
    columns: Sequence[str] | None
    image_shape: Sequence[int] | None
    condition: Sequence[likelihoods.Likelihood] = ()


def build_method(fitting: Fitting, model: Model) -> Method | list[Leg]:
    """Builds the configured method, by its builder in `aiwae_jax.methods`; or those of all legs."""
    legs = [
        Leg(methods.BUILDERS[own.method](model, **own.method_options), share, own.batch_size)
        for own, share in curriculum.legs_of(fitting)
    ]
    return legs if fitting.curriculum else legs[0].method


def _vae_sizes(fitting: Fitting) -> dict[str, Any]:
    return {"latent_size": fitting.latent_size, "hidden_sizes": fitting.hidden_layers}


def _one_layer(fitting: Fitting, **start) -> Model:
    return models.bernoulli_vae(
        **_vae_sizes(fitting), posterior=fitting.posterior, **start, **_flow(fitting)
    )


def _flow(fitting: Fitting) -> dict[str, int]:
    return {} if fitting.num_flow_layers is None else {"num_layers": fitting.num_flow_layers}


def is_papers(fitting: Fitting) -> bool:
    """Whether a model of bits is the paper's: with its networks and its prior."""
    return (
        fitting.network in (None, "mlp")
        and fitting.activation in (None, "tanh")
        and fitting.prior in (None, "normal")
    )


def _of_any_data(fitting: Fitting, given: Given) -> Model:
    """A model of any likelihood, network and prior."""
    likelihood = given.likelihood or likelihoods.bernoulli()
    options = {
        "likelihood": likelihood,
        "activation": fitting.activation or "tanh",
        "prior": fitting.prior or "normal",
        "num_components": fitting.num_components,
        "posterior": fitting.posterior,
        "mean": given.mean,
        "initialization": fitting.initialization,
        "condition": given.condition or None,
        **_flow(fitting),
    }
    if fitting.network != "conv":
        sizes = _vae_sizes(fitting)
        return models.mlp_vae(given.mean.size, **sizes, columns=given.columns, **options)
    if given.image_shape is None:
        raise ValueError("`network`=conv is for images, and these data are none; use mlp.")
    if fitting.channels is not None:
        options["channels"] = fitting.conv_channels
    options["hidden_size"] = fitting.hidden_size
    return models.conv_vae(given.image_shape, fitting.latent_size, **options)


def _two_layer(fitting: Fitting, **start) -> Model:
    return models.two_layer_vae(**_vae_sizes(fitting), **start)


def _sbn(fitting: Fitting, **start) -> Model:
    return models.sigmoid_belief_network(layer_sizes=fitting.layer_sizes, **start)


def _conditional(fitting: Fitting, **start) -> Model:
    return models.half_predictor(layer_sizes=fitting.layer_sizes, **start)


_MODELS = {
    "one_layer": _one_layer,
    "two_layer": _two_layer,
    "sbn": _sbn,
    "conditional": _conditional,
}


def build_model(
    fitting: Fitting,
    mean_image: np.ndarray,
    *,
    likelihood: likelihoods.Likelihood | None = None,
    columns: Sequence[str] | None = None,
    image_shape: Sequence[int] | None = None,
    condition: Sequence[likelihoods.Likelihood] = (),
) -> Model:
    """The configured model, by its builder in `aiwae_jax.models`.

    Args:
      fitting: the configuration.
      mean_image: `[X]`, mean of the training data.
      likelihood: of data that are no bits.
      columns: X names.
      image_shape: of images.
      condition: what the last columns are, which the model is given; `likelihood` is of the others.

    Raises:
      ValueError: for what the library refuses to build.
    """
    if fitting.model == "one_layer" and not (likelihood is None and is_papers(fitting)):
        given = Given(mean_image, likelihood, columns, image_shape, condition)
        return _of_any_data(fitting, given)
    if fitting.model not in _MODELS:
        return models.from_file(fitting.model, data_size=mean_image.size, mean_image=mean_image)
    return _MODELS[fitting.model](
        fitting,
        data_size=mean_image.size,
        mean_image=mean_image,
        initialization=fitting.initialization,
    )


def stand_in(fitting: Fitting) -> tuple[Method | list[Leg], Model]:
    """The same method and model of images of a few pixels, before there are data.

    Raises:
      ValueError: for what the library refuses to build.
    """
    mean = np.full(_FEW_PIXELS, 0.5, np.float32)
    model = build_model(fitting, mean, image_shape=(2, _FEW_PIXELS // 2))
    return build_method(fitting, model), model
