"""From a command's settings to the method and the model that they name."""

from typing import Any

import numpy as np

from aiwae_jax import methods, models
from aiwae_jax.cli import curriculum
from aiwae_jax.cli.settings import Fitting
from aiwae_jax.train import Leg
from aiwae_jax.types import Method, Model

_FEW_PIXELS = 4


def build_method(fitting: Fitting, model: Model) -> Method | list[Leg]:
    """Builds the configured method, by its builder in `aiwae_jax.methods`; or those of all legs."""
    legs = [
        Leg(methods.BUILDERS[own.method](model, **own.method_options), share, own.batch_size)
        for own, share in curriculum.legs_of(fitting)
    ]
    return legs if fitting.curriculum else legs[0].method


def _vae_sizes(fitting: Fitting) -> dict[str, Any]:
    hidden_sizes = (fitting.hidden_size, fitting.hidden_size)
    return {"latent_size": fitting.latent_size, "hidden_sizes": hidden_sizes}


def _one_layer(fitting: Fitting, **start) -> Model:
    flow = {} if fitting.num_flow_layers is None else {"num_layers": fitting.num_flow_layers}
    return models.bernoulli_vae(**_vae_sizes(fitting), posterior=fitting.posterior, **start, **flow)


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


def build_model(fitting: Fitting, mean_image: np.ndarray) -> Model:
    """The configured model, by its builder in `aiwae_jax.models`."""
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
    model = build_model(fitting, np.full(_FEW_PIXELS, 0.5, np.float32))
    return build_method(fitting, model), model
