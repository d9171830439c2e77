"""Counts the matrix products of a traced program: a cost that does not depend on the machine."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


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
