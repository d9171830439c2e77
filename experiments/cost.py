"""Costs of a method, counted from its traced program: products, and gradient evaluations.

Wall time depends on the machine, the number of images on nothing that methods share. Their common
currency is the evaluation of ∇_z log p(x, z): here the matrix products of a whole train step,
whatever they serve, in units of those of one such gradient.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core

from aiwae_jax import data
from aiwae_jax.cli.curriculum import legs_of
from experiments import build
from experiments.settings import Training

_BATCH_SIZE = 2  # of the step that is counted


def operations(fn: Callable, *args: Any) -> float:
    """Floating-point operations of all matrix products in `fn(*args)`; nothing is computed.

    Loops count with their trip count, branches with the most expensive. What is computed twice from
    the same inputs, and what nobody uses, counts as the compiler has it: once, and not at all.

    Args:
      fn: traceable.
      *args: arrays, or their shapes.

    Raises:
      ValueError: for products inside a loop whose length is known at run time only.
    """
    return _Counter().closed(jax.make_jaxpr(fn)(*args))


# Equations that only call another program, by where they keep it.
_CALLS = {
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


_IDENTITIES = ("stop_gradient", "copy", "copy_p")


class _Counter:
    """Counts a program's products in one go through it, its calls included.

    Every value gets a number, the same one for the same equation of the same values.
    """

    def __init__(self):
        self._numbers: dict[Any, int] = {}
        self._costs: list[tuple[tuple[int, ...], tuple[int, ...], float]] = []

    def _number(self, what: Any) -> int:
        return self._numbers.setdefault(what, len(self._numbers))

    def closed(self, program: Any) -> float:
        """Operations of a closed program, of what its outputs need."""
        jaxpr = program.jaxpr
        inputs = [self._number(("input", i)) for i in range(len(jaxpr.invars))]
        outputs = self._run(jaxpr, program.consts, inputs)
        total, needed = 0.0, set(outputs)
        for made, used, cost in reversed(self._costs):
            if needed & set(made):
                total += cost
                needed |= set(used)
        return total

    def _run(self, jaxpr: Any, consts: Any, inputs: list[int]) -> list[int]:
        """Numbers of a program's outputs, from those of its inputs."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers = [self._number(("const", id(c))) for c in consts]
        known |= dict(zip(jaxpr.constvars, numbers, strict=True))

        def number_of(variable):
            if isinstance(variable, core.Literal):
                return self._number(("literal", str(variable.aval), str(variable.val)))
            return known[variable]

        for equation in jaxpr.eqns:
            name, params = equation.primitive.name, equation.params
            used = [number_of(variable) for variable in equation.invars]
            if name in _CALLS:
                inner = params[_CALLS[name]]
                inner, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                made = self._run(inner, inner_consts, used)
            elif name in _IDENTITIES:
                made = used
            else:
                what = (name, tuple(used), _words(params))
                is_new = (*what, 0) not in self._numbers
                made = [self._number((*what, i)) for i in range(len(equation.outvars))]
                if is_new:
                    self._costs.append((tuple(made), tuple(used), _cost(equation)))
            known |= dict(zip(equation.outvars, made, strict=True))
        return [number_of(variable) for variable in jaxpr.outvars]


def _words(params: dict[str, Any]) -> str:
    """Parameters of an equation, the same for the same ones."""
    return ", ".join(f"{name}={value}" for name, value in sorted(params.items()))


def _cost(equation: Any) -> float:
    """Operations of one equation that is no plain call."""
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return float(2.0 * np.prod(kernel) / out_features * np.prod(equation.outvars[0].aval.shape))
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        size = np.prod([left[axis] for axis in contracted])
        return float(2.0 * size * np.prod(equation.outvars[0].aval.shape))
    inner = [_Counter().closed(_closed(sub)) for sub in _programs_in(params)]
    if name == "scan":
        return float(params["length"] * sum(inner))
    if name == "cond":
        return max(inner)
    if name == "while" and sum(inner):
        raise ValueError("A loop of unknown length has matrix products in it.")
    return sum(inner)


def _programs_in(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Bodies and branches among an equation's parameters."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            if isinstance(each, core.Jaxpr | core.ClosedJaxpr):
                yield getattr(each, "jaxpr", each)


def _closed(jaxpr: Any) -> core.ClosedJaxpr:
    return core.ClosedJaxpr(jaxpr, [object()] * len(jaxpr.constvars))


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


def describe(training: Training, dataset: data.Dataset) -> dict[str, Any] | None:
    """Describes a run's cost for its report, in gradients of log p(x, z) for each image.

    None where a model of one's own cannot be counted: it has no products, or in a loop of unknown
    length.
    """
    try:
        legs = [
            {
                "method": own.method,
                "epochs": share * training.total_epochs,
                "batch_size": own.batch_size,
                "gradients_per_epoch": _of_leg(own, dataset).num_gradients,
            }
            for own, share in legs_of(training)
        ]
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
