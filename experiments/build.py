"""From a configuration to the compiled pieces of a run."""

from typing import Any

import numpy as np
from jax.sharding import Mesh

from aiwae_jax import data, methods, models
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.cli.layout import Layout
from aiwae_jax.parallel import sharding
from aiwae_jax.train import program
from aiwae_jax.types import Method, Model
from experiments.settings import Training

_ANYWHERE = Layout()
_FEW_PIXELS = 4


def build_method(training: Training, model: Model) -> Method:
    """The configured method, by its builder in `aiwae_jax.methods`."""
    return methods.BUILDERS[training.method](model, **training.method_options)


def _vae_sizes(training: Training) -> dict[str, Any]:
    hidden_sizes = (training.hidden_size, training.hidden_size)
    return {"latent_size": training.latent_size, "hidden_sizes": hidden_sizes}


def _one_layer(training: Training, **start) -> Model:
    flow = {} if training.num_flow_layers is None else {"num_layers": training.num_flow_layers}
    return models.bernoulli_vae(
        **_vae_sizes(training), posterior=training.posterior, **start, **flow
    )


def _two_layer(training: Training, **start) -> Model:
    return models.two_layer_vae(**_vae_sizes(training), **start)


def _sbn(training: Training, **start) -> Model:
    return models.sigmoid_belief_network(layer_sizes=training.layer_sizes, **start)


def _conditional(training: Training, **start) -> Model:
    return models.half_predictor(layer_sizes=training.layer_sizes, **start)


_MODELS = {
    "one_layer": _one_layer,
    "two_layer": _two_layer,
    "sbn": _sbn,
    "conditional": _conditional,
}


def build_model(training: Training, mean_image: np.ndarray) -> Model:
    """The configured model, by its builder in `aiwae_jax.models`."""
    return _MODELS[training.model](
        training,
        data_size=mean_image.size,
        mean_image=mean_image,
        initialization=training.initialization,
    )


def stand_in(training: Training) -> tuple[Method, Model]:
    """The same method and model of images of a few pixels, before there are data.

    Raises:
      ValueError: for what the library refuses to build.
    """
    model = build_model(training, np.full(_FEW_PIXELS, 0.5, np.float32))
    return build_method(training, model), model


def build_mesh(layout: Layout, batch_size: int) -> Mesh:
    """The mesh that was asked for, or the largest data axis that divides the batch."""
    num_data, num_particle = layout.num(sharding.DATA), layout.num(sharding.PARTICLE) or 1
    try:
        if num_data is None:
            return sharding.largest_mesh(batch_size, num_particle)
        return sharding.make_mesh(num_data, num_particle)
    except ValueError as error:
        raise UsageError(f"--mesh, --batch_size: {error}") from None


def build(training: Training, dataset: data.Dataset, layout: Layout = _ANYWHERE) -> program.Program:
    """Builds a run; nothing is compiled before it is called.

    Raises:
      data.DataError: for a data set that `data.check` refuses, or that is smaller than a batch.
      UsageError: for a mesh that there are no devices for.
    """
    data.check(dataset)  # before a model is made of its mean
    model = build_model(training, dataset.mean_image())
    return program.build(
        build_method(training, model),
        model,
        dataset,
        settings_of(training),
        mesh=build_mesh(layout, training.batch_size),
    )


def settings_of(training: Training) -> program.Settings:
    """What the library's trainer must know."""
    return program.Settings(
        epochs=training.epochs,
        num_stages=training.num_stages,
        batch_size=training.batch_size,
        seed=training.seed,
        num_repeats=training.num_repeats,
        adam_eps=training.adam_eps,
        loss_reduction=training.loss_reduction,
    )


def recipes_of(training: Training, model: Model) -> dict[str, Any]:
    """How the model and the method were built, as config.json has it."""
    return program.describe(build_method(training, model), model)
