"""The paper's optimizer, learning rates and stages."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from aiwae_jax.types import Params

Optimizers = Params  # of optax.GradientTransformation


def paper_epochs(num_stages: int) -> int:
    """Passes over the data in stages 0 .. num_stages-1 of 3^i epochs each: (3^n - 1) / 2."""
    return (3**num_stages - 1) // 2


def stage_ends(
    steps_per_epoch: int, num_stages: int = 8, *, epochs: float | None = None
) -> list[int]:
    """Steps done at the end of each stage.

    Args:
      steps_per_epoch: full batches in the data.
      num_stages: stages 0 .. num_stages-1 of 3^i epochs each.
      epochs: what all stages together are stretched or shortened to; by default nothing.

    Raises:
      ValueError: for no steps, no stages, or epochs that are not a positive number.
    """
    for name, value in (("steps_per_epoch", steps_per_epoch), ("num_stages", num_stages)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if epochs is not None and not 0.0 < epochs < math.inf:
        raise ValueError(f"`epochs` must be positive and finite, got {epochs}.")
    stretch = 1.0 if epochs is None else epochs / paper_epochs(num_stages)
    ends = [paper_epochs(i) * stretch * steps_per_epoch for i in range(1, num_stages + 1)]
    return [max(round(end), 1) for end in ends]


def paper_learning_rate(ends: Sequence[int]) -> optax.Schedule:
    """Learning rate 0.001 * 10^(-i/7) during stage i (supplement A).

    A stage's rate does not depend on the number of stages, so that a run can be extended.

    Args:
      ends: of the stages, in steps; from `stage_ends`.
    """
    rates = [0.001 * 10 ** (-i / 7) for i in range(len(ends))]
    return optax.join_schedules([optax.constant_schedule(rate) for rate in rates], ends[:-1])


def adam(learning_rate: optax.ScalarOrSchedule, *, eps: float = 1e-4) -> Optimizers:
    """The paper's optimizer, Adam(0.9, 0.999, eps 1e-4), separately for θ, φ and ψ.

    Args:
      learning_rate: positive and finite, or a schedule, whose values nothing looks at.
      eps: what is added to the root of the second moment, at least 0.

    Raises:
      ValueError: for another learning rate or `eps`.
      TypeError: for a learning rate that is neither a number nor a function.
    """
    if not callable(learning_rate):
        rate = _known_number(learning_rate, "learning_rate", "a number or a schedule")
        if rate is not None and not 0.0 < rate < math.inf:
            raise ValueError(
                f"`learning_rate` must be positive and finite, got {rate}; parameters that shall "
                "not move are left out of the `updates` of a phase."
            )
    least = _known_number(eps, "eps", "a number")
    if least is not None and not 0.0 <= least < math.inf:
        raise ValueError(f"`eps` must be at least 0 and finite, got {least}.")
    return Params(*(optax.adam(learning_rate, b1=0.9, b2=0.999, eps=eps) for _ in Params._fields))


def _known_number(value: Any, name: str, what: str) -> float | None:
    """A Python, NumPy or JAX scalar as a float; None inside a trace, where it is not known."""
    if isinstance(value, jax.core.Tracer):
        return None
    is_scalar = isinstance(value, numbers.Real | np.ndarray | jax.Array) and np.ndim(value) == 0
    if not is_scalar:
        raise TypeError(f"`{name}` must be {what}, got {value!r}.")
    return float(value)
