"""Early stopping: the best weights so far by validation, and when to look for no better ones.

All that decides is in the checkpoints: the best weights among their arrays, beside the training's
own, and what they are worth among their facts. So a run that is killed and continued stops at the
same step, with the same weights.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.train.loop import LoopState
from aiwae_jax.train.program import Program
from aiwae_jax.train.state import TrainState
from aiwae_jax.train.watch import TrainInfo
from aiwae_jax.types import Params, PyTree


@dataclasses.dataclass(frozen=True)
class Stopping:
    """How far one run's early stopping is.

    Attributes:
      value: the best validation so far, higher is better, nats; None before there is a finite one.
      step: of the best weights; None before the first validation.
      epoch: likewise.
      num_waited: validations since then.
      stopped_at: the epoch where patience ended; None before.
    """

    value: float | None = None
    step: int | None = None
    epoch: float | None = None
    num_waited: int = 0
    stopped_at: float | None = None

    def after(
        self, value: float, step: int, epoch: float, *, patience: int, is_warming_up: bool = False
    ) -> "Stopping":
        """After one more validation; nothing changes once it has stopped.

        Args:
          value: of it; one that is not finite is no better than any other.
          step: of the weights that were validated.
          epoch: likewise.
          patience: how many validations may be no better than the best one.
          is_warming_up: whether the objective still changes, so that nothing is waited for yet.
        """
        if self.stopped_at is not None:
            return self
        is_finite = math.isfinite(value)
        is_better = is_finite and (self.value is None or value > self.value)
        if is_better or self.step is None:
            return Stopping(value if is_finite else None, step, epoch)
        num_waited = 0 if is_warming_up else self.num_waited + 1
        stopped_at = epoch if num_waited >= patience else None
        return dataclasses.replace(self, num_waited=num_waited, stopped_at=stopped_at)


class WithBest(NamedTuple):
    """Contents of a checkpoint of a run with patience: a `LoopState`, and the best weights."""

    train: TrainState
    totals: TrainInfo
    best: Params

    @property
    def num_steps(self) -> int:
        """As of a `LoopState`."""
        return LoopState(self.train, self.totals).num_steps


def template(program: Program) -> LoopState | WithBest:
    """A run's state at its beginning, as its checkpoints have it."""
    state = program.init()
    if not program.settings.patience:
        return state
    return WithBest(*state, best=jax.tree.map(jnp.copy, state.train.weights))


@jax.jit
def take(is_better: chex.Array, weights: Params, best: Params) -> Params:
    """The `weights` where they are better, of one run `[]` or of each of several repeats `[R]`."""

    def choose(new: chex.Array, old: chex.Array) -> chex.Array:
        ones = (1,) * (new.ndim - is_better.ndim)
        return jnp.where(is_better.reshape(is_better.shape + ones), new, old)

    return jax.tree.map(choose, weights, best)


def of_facts(facts: Mapping[str, Any]) -> list[Stopping]:
    """Of each repeat, from a checkpoint's facts; none of a run without patience."""
    return [Stopping(**each) for each in facts.get("stopping", [])]


def shown(tree: LoopState | WithBest, stopping: list[Stopping]) -> Params:
    """The weights that are measured and shown: the best ones, or the newest before there are any.

    Args:
      tree: contents of a checkpoint.
      stopping: of its repeats, which are validated together.
    """
    has_best = isinstance(tree, WithBest) and stopping[0].step is not None
    return tree.best if has_best else tree.train.weights


def with_best(state: LoopState, best: PyTree | None) -> LoopState | WithBest:
    """What a checkpoint is to hold."""
    return state if best is None else WithBest(*state, best=best)


def are_better(new: list[Stopping], old: list[Stopping]) -> np.ndarray:
    """Which repeats have new best weights; `[]` of a run without others."""
    found = np.array([a.step != b.step for a, b in zip(new, old, strict=True)])
    return found if len(found) > 1 else found[0]
