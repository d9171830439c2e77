"""From a configuration to the compiled pieces of a run."""

import math
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from aiwae_jax import data, train
from aiwae_jax.cli.build import build_method, build_model
from aiwae_jax.cli.curriculum import legs_of
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.cli.layout import Layout
from aiwae_jax.parallel import sharding
from aiwae_jax.train import Leg, Optimizers, TrainStep, program
from aiwae_jax.train.legs import place
from aiwae_jax.types import Method, Model
from experiments.settings import Training

_ANYWHERE = Layout()


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
    model = build_model(training, dataset.mean_image(), image_shape=dataset.image_shape)
    return program.build(
        build_method(training, model),
        model,
        dataset,
        settings_of(training),
        mesh=build_mesh(layout, math.gcd(*(own.batch_size for own, _ in legs_of(training)))),
    )


def settings_of(training: Training) -> train.Settings:
    """Takes the part that the library's trainer must know."""
    return train.Settings.of(training)


class Step(NamedTuple):
    """A train step by itself, outside of any run.

    Attributes:
      model: its model.
      method: its phases.
      optimizers: at a learning rate of 0.001.
      step: `step(key, state, batch) -> (state, info)`.
    """

    model: Model
    method: Method
    optimizers: Optimizers
    step: TrainStep

    def init(self, key: jax.Array, batch: jax.Array) -> train.TrainState:
        """A state to begin with, on such a batch."""
        state = train.init_state(key, self.model, self.method, self.optimizers)
        return state._replace(kept=self.step.init_kept(state, batch))


def build_step(training: Training, dataset: data.Dataset) -> Step:
    """Builds the train step of a run; of one with several legs the last one's."""
    own, _ = legs_of(training)[-1]
    model = build_model(own, dataset.mean_image(), image_shape=dataset.image_shape)
    settings = settings_of(own)
    method, optimizers = build_method(own, model), settings.make_optimizers(1e-3)
    step = train.make_train_step(method, optimizers, loss_reduction=settings.loss_reduction)
    return Step(model, method, optimizers, step)


def total_steps(training: Training, num_examples: int) -> int:
    """Steps of a whole run."""
    places = [Leg((), share, own.batch_size) for own, share in legs_of(training)]
    stretches, _ = place(places, settings_of(training), num_examples)
    return stretches[-1].end


def recipes_of(training: Training, model: Model) -> dict[str, Any]:
    """How the model and the method were built, as config.json has it."""
    return program.describe(build_method(training, model), model)
