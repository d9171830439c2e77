"""What a side returns: estimates of log p(x), image by image, from below and perhaps from above."""

from typing import NamedTuple

import numpy as np


class Bounds(NamedTuple):
    """Of N images.

    Attributes:
      lower: `[N]` nats; estimates whose exp is meant to be unbiased for p(x).
      upper: `[N]` nats, from chains in reverse; None of a side that has none.
    """

    lower: np.ndarray
    upper: np.ndarray | None = None
