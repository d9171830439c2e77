"""What sides are given, and what they return."""

from typing import NamedTuple

import numpy as np


class Moves(NamedTuple):
    """HMC moves, as pilots choose them.

    Attributes:
      step_size: of a trajectory's steps.
      num_leapfrog_steps: of each move.
    """

    step_size: float
    num_leapfrog_steps: int

    def __str__(self) -> str:
        return f"step {self.step_size:g}, L={self.num_leapfrog_steps}"


class Bounds(NamedTuple):
    """Estimates of log p(x) of N images.

    Attributes:
      lower: `[N]` nats; exp of them is meant to be unbiased for p(x).
      upper: `[N]` nats, from chains in reverse; None of a side that has none.
    """

    lower: np.ndarray
    upper: np.ndarray | None = None
