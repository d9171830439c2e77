"""What a method costs, counted from its traced program: multiplications and gradient evaluations.

Wall time depends on the machine, the number of images on nothing that methods share. Their common
currency is the evaluation of ∇_z log p(x, z): here the matrix products of a whole train step,
whatever they serve, in units of those of one such gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from aiwae_jax import data, train
from experiments import build
from experiments.flags import Training

_BATCH_SIZE = 2  # of the step that is counted


def operations(fn: Callable, *args: Any) -> float:
    """Floating-point operations of all matrix products in `fn(*args)`; nothing is computed.

    Loops count with their trip count, branches with the dearest.

    Args:
      fn: traceable.
      *args: arrays, or their shapes.

    Raises:
      ValueError: for products inside a loop whose length is known at run time only.
    """
    return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inner = [_count(sub) for sub in core.jaxprs_in_params(params)]
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            size = np.prod([left[axis] for axis in contracted])
            total += 2.0 * size * np.prod(equation.outvars[0].aval.shape)
        elif name == "scan":
            total += params["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        elif name == "while" and sum(inner):
            raise ValueError("A loop of unknown length has matrix products in it.")
        else:
            total += sum(inner)
    return float(total)


class Cost(NamedTuple):
    """Operations for one training image.

    Attributes:
      step: of a train step.
      gradient: of log p(x, z) and its gradient in z, for one z.
    """

    step: float
    gradient: float

    @property
    def num_gradients(self) -> float:
        """A train step's products, as so many gradients of log p(x, z)."""
        return self.step / self.gradient


def of(training: Training, dataset: data.Dataset) -> Cost:
    """Counts a configured run's cost per training image."""
    model = build.build_model(training, dataset)
    method, optimizers = build.build_method(training, model), train.adam(1e-3)
    key, size = jax.random.key(0), dataset.train.shape[1]
    state = jax.eval_shape(lambda key: train.init_state(key, model, method, optimizers), key)
    z = jax.eval_shape(lambda theta: model.prior(theta).sample(key), state.params.theta)
    x = jax.ShapeDtypeStruct((size,), jnp.float32)
    batch = jax.ShapeDtypeStruct((_BATCH_SIZE, size), jnp.float32)
    step = operations(train.make_train_step(method, optimizers), key, state, batch)
    log_joint_and_gradient = jax.value_and_grad(model.log_joint, argnums=2)
    return Cost(step / _BATCH_SIZE, operations(log_joint_and_gradient, state.params.theta, x, z))
