"""Says in words what went wrong in training steps: once, when the device has finished them.

A compiled step counts and cannot speak, and a callback inside it could not be lowered for other
platforms. So the host reads the counts, without waiting for them.
"""

import collections
import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from aiwae_jax.types import Info

TrainInfo = dict[str, Info]  # by the phases' names

_COUNTS = ("num_nonfinite_objective", "num_skipped_updates", "num_zero_weight")
_MOST_PENDING = 64
_NUM_REJECTED = 100  # moves in a row; fewer may all be rejected by chance


def _acceptances(diagnostics: Info) -> list[chex.Array]:
    """Acceptances of moves, also of several samplers that were joined, where there are any."""
    found = [chain.acceptance for chain in diagnostics.chains().values()]
    return [acceptance for acceptance in found if np.size(acceptance)]


def is_troubled(info: TrainInfo) -> chex.Array:
    """Whether an info asks for a look at it, `[]` bool; to be called inside the compiled step."""
    signs = []
    for diagnostics in info.values():
        signs += [diagnostics.counts[name] > 0 for name in _COUNTS if name in diagnostics.counts]
        signs += [jnp.all(acceptance <= 0) for acceptance in _acceptances(diagnostics)]
    return functools.reduce(jnp.logical_or, signs, jnp.zeros((), bool))


class Trouble(NamedTuple):
    """Something that went wrong in one phase.

    Attributes:
      kind: "data", "updates", "weights" or "moves".
      phase: the phase's name.
      sentence: what happened, and what to look at.
    """

    kind: str
    phase: str
    sentence: str


def troubles(info: TrainInfo, num_steps: int = 1) -> Iterator[Trouble]:
    """Tells what went wrong in training steps.

    Args:
      info: of a train step, or `LoopState.totals`, summed over steps; under a leading axis of
        repeats, the worst of them is told.
      num_steps: how many steps it is of.
    """
    during = f" in {num_steps} steps" if num_steps > 1 else ""
    for phase, diagnostics in info.items():
        counts = {
            name: int(np.max(diagnostics.counts[name]))
            for name in _COUNTS
            if name in diagnostics.counts
        }
        if num := counts.get("num_nonfinite_objective"):
            yield Trouble(
                "data",
                phase,
                f"{num} data were left out of the updates of {phase}{during}: they hold NaN or "
                "infinity (as `data.binarize` makes of what is no level), or their objective "
                "does. Look for them with `jnp.isfinite` in the data, "
                "then in `log_joint` and the posterior of each. Missing values are best given as "
                "a mask beside the data; `with_nonfinite_data=True` hands NaN to the model.",
            )
        if num := counts.get("num_skipped_updates"):
            yield Trouble(
                "updates",
                phase,
                f"{num} updates of {phase} were skipped{during}, because their gradient was not "
                "finite, or no datum was left. A `jnp.where` hides a NaN or infinity, but not its "
                "derivative: let it choose a harmless argument of the function, not among its "
                "results.",
            )
        if num := counts.get("num_zero_weight"):
            yield Trouble(
                "weights",
                phase,
                f"{num} particles of {phase} had a weight of zero{during}: log p(x, z) is -inf or "
                "NaN where the posterior or a move put them.",
            )
        if any(np.all(np.asarray(acceptance) <= 0) for acceptance in _acceptances(diagnostics)):
            yield Trouble(
                "moves",
                phase,
                f"All moves of {phase} were rejected{during}: particles stay where they started. "
                "Look for NaN in the gradient of `log_joint` in z, and at the step sizes.",
            )


class Watch:
    """Warns once of each kind of trouble in the steps that it is shown."""

    def __init__(self):
        self._said: set[str] = set()
        self._pending = collections.deque()
        self._num_rejected = collections.Counter()  # moves in a row, by phase
        self._is_new = True

    def look(
        self, info: TrainInfo, num_steps: int = 1, *, num_data: int = 1, stacklevel: int = 2
    ) -> None:
        """Reads an info, waiting for it, and warns of what has not been said yet.

        Args:
          info: as in `troubles`.
          num_steps: as in `troubles`.
          num_data: of a step, each with a move at least.
          stacklevel: as in `warnings.warn`, of the caller.
        """
        found = list(troubles(info, num_steps))
        still = {trouble.phase for trouble in found if trouble.kind == "moves"}
        for phase, diagnostics in info.items():
            num_moves = sum(np.size(acceptance) for acceptance in _acceptances(diagnostics))
            so_far = self._num_rejected[phase] + num_moves * num_steps * num_data
            self._num_rejected[phase] = so_far if phase in still else 0
        for kind, phase, sentence in found:
            is_chance = kind == "moves" and self._num_rejected[phase] < _NUM_REJECTED
            if not is_chance and kind not in self._said:
                self._said.add(kind)
                warnings.warn(f"{sentence} This is said once.", stacklevel=stacklevel + 1)

    def look_at_bounds(self, bounds: Iterable[float]) -> None:
        """Warns once of validation bounds that are not finite."""
        if not np.isfinite(list(bounds)).all() and "validation" not in self._said:
            self._said.add("validation")
            warnings.warn(
                "The validation bound is not finite: log p(x, z) is -inf or NaN at all samples of "
                "a row that is held out. Such a validation is no better than any other. This is "
                "said once.",
                stacklevel=2,
            )

    def follow(
        self,
        has_trouble: chex.Array,
        info: TrainInfo,
        num_steps: int | chex.Array = 1,
        *,
        num_data: int = 1,
        stacklevel: int = 2,
    ) -> None:
        """Notes steps that may still be running, and looks at earlier ones that have finished.

        Args:
          has_trouble: `is_troubled(info)`, of the compiled step.
          info: as in `look`.
          num_steps: as in `look`.
          num_data: as in `look`.
          stacklevel: as in `look`.
        """
        self._pending.append((has_trouble, info, num_steps))
        # The first call has just compiled, and to wait for it is nothing beside that.
        must_wait, self._is_new = self._is_new, False
        while self._pending and (
            must_wait or len(self._pending) > _MOST_PENDING or self._pending[0][0].is_ready()
        ):
            has_trouble, info, num_steps = self._pending.popleft()
            if np.asarray(has_trouble):
                self.look(info, int(num_steps), num_data=num_data, stacklevel=stacklevel + 1)
            else:
                self._num_rejected.clear()
