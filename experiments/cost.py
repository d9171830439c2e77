"""Costs of a method, counted from its traced program: products, and gradient evaluations.

Wall time depends on the machine, the number of images on nothing that methods share. Their common
currency is the evaluation of ∇_z log p(x, z): here the matrix products of a whole train step,
whatever they serve, in units of those of one such gradient.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aiwae_jax import data
from aiwae_jax.cli.curriculum import legs_of
from aiwae_jax.operations import operations
from experiments import build
from experiments.settings import Training

_BATCH_SIZE = 2  # of the step that is counted


class Cost(NamedTuple):
    """Operations for one training image.

    Attributes:
      step: of a train step, the optimizers' own products among them: the image's share of those.
      gradient: of log p(x, z) and its gradient in z, for one z.
    """

    step: float
    gradient: float

    @property
    def num_gradients(self) -> float:
        """A train step's products, as so many gradients of log p(x, z)."""
        return self.step / self.gradient


def of(training: Training, dataset: data.Dataset) -> Cost:
    """Counts a configured run's cost per training image, of several legs their mean."""
    legs = [(_of_leg(own, dataset), share) for own, share in legs_of(training)]
    return Cost(sum(share * cost.step for cost, share in legs), legs[0][0].gradient)


def _of_leg(training: Training, dataset: data.Dataset) -> Cost:
    built = build.build_step(training, dataset)
    model, key, size = built.model, jax.random.key(0), dataset.train.shape[1]
    batch = jax.ShapeDtypeStruct((_BATCH_SIZE, size), jnp.float32)
    state = jax.eval_shape(built.init, key, batch)
    x = jax.ShapeDtypeStruct((size,), jnp.float32)
    z = jax.eval_shape(lambda phi, x: model.posterior(phi, x).sample(key), state.params.phi, x)
    step = operations(built.step, key, state, batch)
    updates = sum(
        _of_update(getattr(built.optimizers, name), getattr(state.params, name))
        for phase in built.method
        for name in phase.updates
    )
    log_joint_and_gradient = jax.value_and_grad(model.log_joint, argnums=2)
    return Cost(
        (step - updates) / _BATCH_SIZE + updates / training.batch_size,
        operations(log_joint_and_gradient, state.params.theta, x, z),
    )


def _of_update(optimizer: optax.GradientTransformation, params: Any) -> float:
    """Operations of one update, whatever the batch: Muon's Newton-Schulz products, say."""

    def update(params):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(params, optimizer.init(params), params)

    return operations(update, params)


def describe(
    training: Training, dataset: data.Dataset, epochs: float | None = None
) -> dict[str, Any] | None:
    """Describes a run's cost for its report, in gradients of log p(x, z) for each image.

    None where a model of one's own cannot be counted: it has no products, or in a loop of unknown
    length.

    Args:
      training: of the run.
      dataset: its data.
      epochs: that were done, of a run that stopped early; by default all.
    """
    left = training.total_epochs if epochs is None else epochs
    legs = []
    try:
        for own, share in legs_of(training):
            done = min(share * training.total_epochs, left)
            left -= done
            leg = {
                "method": own.method,
                "epochs": done,
                "batch_size": own.batch_size,
                "gradients_per_epoch": _of_leg(own, dataset).num_gradients,
            }
            legs.append(leg)
    except (ValueError, ZeroDivisionError):
        return None
    total = sum(leg["epochs"] * leg["gradients_per_epoch"] for leg in legs)
    return {"gradients_per_image": total, "legs": legs}


def line(found: dict[str, Any] | None) -> str:
    """The same in a line."""
    if found is None:
        return "cost: not counted, for this model has no products to count, or in a loop"
    legs = [
        f"{leg['method']} {leg['epochs']:g} x {leg['gradients_per_epoch']:.1f}"
        for leg in found["legs"]
    ]
    total = found["gradients_per_image"]
    return f"cost: {total:,.0f} gradients an image (epochs x gradients: {' + '.join(legs)})"
