"""Optimizers by their names, the stages of a training, and the average of its weights."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aiwae_jax import checks
from aiwae_jax.types import Params, PyTree

Optimizers = Params  # of optax.GradientTransformation


def _adamw(learning_rate: optax.ScalarOrSchedule, eps: float) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1=0.9, b2=0.999, eps=eps)


def _muon(learning_rate: optax.ScalarOrSchedule, eps: float) -> optax.GradientTransformation:
    """Momentum made orthogonal for matrices (Jordan et al. 2024), Adam for all else."""
    del eps  # Adam's; this one's own eps keeps a vanishing matrix from a division by zero
    return optax.contrib.muon(learning_rate)


def _adam(learning_rate: optax.ScalarOrSchedule, eps: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate, b1=0.9, b2=0.999, eps=eps)


class Optimizer(NamedTuple):
    """An optimizer by its name.

    Attributes:
      build: `build(learning_rate, eps) -> optax.GradientTransformation`.
      learning_rate: its usual one.
    """

    build: Callable[[optax.ScalarOrSchedule, float], optax.GradientTransformation]
    learning_rate: float


OPTIMIZERS = {
    "adam": Optimizer(_adam, 1e-3),  # the paper's
    "adamw": Optimizer(_adamw, 1e-3),
    "muon": Optimizer(_muon, 2e-2),
}


def make_optimizers(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    eps: float = 1e-4,
    clip_norm: float | None = None,
    ema: float = 0.0,
) -> Optimizers:
    """The same optimizer for θ, φ and ψ, each with a state of its own.

    Args:
      name: a key of `OPTIMIZERS`.
      learning_rate: positive and finite, or a schedule.
      eps: of Adam and AdamW.
      clip_norm: a gradient of θ, of φ or of ψ that is longer than this is shortened to it.
      ema: above 0 an average of the weights is kept beside them, see `average_weights`.

    Raises:
      ValueError: for an unknown name, or a number that cannot be.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"`name` must be one of {', '.join(OPTIMIZERS)}; got {name!r}.")
    if not callable(learning_rate):
        _check_rate(learning_rate)
    before = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    after = [average_weights(ema)] if ema else []

    def build() -> optax.GradientTransformation:
        optimizer = OPTIMIZERS[name].build(learning_rate, eps)
        return optax.chain(*before, optimizer, *after) if before or after else optimizer

    return Params(*(build() for _ in Params._fields))


class AverageState(NamedTuple):
    """The state of `average_weights`.

    Attributes:
      num_steps: `[]` int.
      average: like the parameters.
    """

    num_steps: chex.Array
    average: PyTree


def average_weights(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential average of the weights that the updates lead to; the last in a chain.

    m_t = d_t m_{t-1} + (1 - d_t) w_t with d_t = min(decay, t / (t + 9)), t from 0 on, so that the
    start is soon forgotten. The updates themselves are left alone.

    Args:
      decay: in [0, 1).

    Raises:
      ValueError: for another decay.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"`decay` must be at least 0 and below 1, got {decay}.")

    def init(params: PyTree) -> AverageState:
        return AverageState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, params))

    def update(updates: PyTree, state: AverageState, params: PyTree):
        step = state.num_steps.astype(jnp.float32)
        rate = 1.0 - jnp.minimum(decay, step / (step + 9.0))
        moved = optax.apply_updates(params, updates)
        average = optax.incremental_update(moved, state.average, rate)
        return updates, AverageState(state.num_steps + 1, average)

    return optax.GradientTransformation(init, update)


def averaged(params: Params, opt_states: Params) -> Params:
    """The averages of `average_weights` in the place of the parameters, where there are some."""

    def of_one(own: PyTree, opt_state: PyTree) -> PyTree:
        is_average = lambda node: isinstance(node, AverageState)  # noqa: E731
        leaves = jax.tree.leaves(opt_state, is_leaf=is_average)
        return next((leaf.average for leaf in leaves if is_average(leaf)), own)

    return Params(*map(of_one, params, opt_states))


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
        checks.integer(name, value, least=1)
    if epochs is not None and not 0.0 < epochs < math.inf:
        raise ValueError(f"`epochs` must be positive and finite, got {epochs}.")
    stretch = 1.0 if epochs is None else epochs / paper_epochs(num_stages)
    ends = [paper_epochs(i) * stretch * steps_per_epoch for i in range(1, num_stages + 1)]
    return [max(round(end), 1) for end in ends]


def adam(learning_rate: optax.ScalarOrSchedule, *, eps: float = 1e-4) -> Optimizers:
    """The paper's optimizer, Adam(0.9, 0.999, eps 1e-4), separately for θ, φ and ψ.

    Args:
      learning_rate: positive and finite, or a schedule, whose values nothing looks at.
      eps: what is added to the root of the second moment, at least 0.

    Raises:
      ValueError: for another learning rate or `eps`.
      TypeError: for a learning rate that is neither a number nor a function.
    """
    least = _known_number(eps, "eps", "a number")
    if least is not None and not 0.0 <= least < math.inf:
        raise ValueError(f"`eps` must be at least 0 and finite, got {least}.")
    return make_optimizers("adam", learning_rate, eps=eps)


def _check_rate(learning_rate: Any) -> None:
    """Refuses what is no positive and finite number, where it is known."""
    rate = _known_number(learning_rate, "learning_rate", "a number or a schedule")
    if rate is not None and not 0.0 < rate < math.inf:
        raise ValueError(
            f"`learning_rate` must be positive and finite, got {rate}; parameters that shall not "
            "move are left out of the `updates` of a phase."
        )


def _known_number(value: Any, name: str, what: str) -> float | None:
    """A Python, NumPy or JAX scalar as a float; None inside a trace, where it is not known."""
    if isinstance(value, jax.core.Tracer):
        return None
    is_scalar = isinstance(value, numbers.Real | np.ndarray | jax.Array) and np.ndim(value) == 0
    if not is_scalar:
        raise TypeError(f"`{name}` must be {what}, got {value!r}.")
    return float(value)
