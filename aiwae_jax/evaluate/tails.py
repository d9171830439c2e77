"""The tail index of the work: whether log p(x) rests on places that hardly any chain visits.

AIS weighs chains by the work log f_n - log f_0 that they meet. Where the target's tails are heavier
than the start's, that work has a power tail: 20 Cauchy densities from a normal, or the mouth of a
funnel. Chains reach such tails late or never, all alike, so that their weights agree with each
other and are too small; neither a standard error nor an effective sample size sees it.
"""

import numpy as np

_SHARE = 0.2  # of the values, that are its tail
_LEAST = 100  # values of a tail that says anything
_PRIOR = 10.0  # values that a prior of index 0, an exponential tail, counts for


def index(work: np.ndarray) -> float:
    """The index k of the upper tail of the work, P(work > u) ~ u^(-1/k); NaN of too few.

    0 or less of tails that fall off exponentially or faster; from 1 on the mean of the work, the
    Kullback-Leibler divergence from target to start, is infinite.

    Args:
      work: `[B, ...]` of B data, each of which is measured from its own median and by its own
        quartiles; what is not finite is left out.
    """
    own = [_standardized(row[np.isfinite(row)]) for row in work.reshape(len(work), -1)]
    values = np.sort(np.concatenate(own))
    num = int(_SHARE * len(values))
    if num < _LEAST:
        return float("nan")
    excesses = values[-num:] - values[-num - 1]
    excesses = excesses[excesses > 0.0]
    return _pareto_index(excesses) if len(excesses) >= _LEAST else float("nan")


def _standardized(values: np.ndarray) -> np.ndarray:
    """From the median, in distances of the upper quartile from it; nothing of a constant."""
    if not len(values):
        return values
    median, upper = np.quantile(values, [0.5, 0.75])
    return (values - median) / (upper - median) if upper > median else values[:0]


def _pareto_index(excesses: np.ndarray) -> float:
    """Of a generalized Pareto distribution, from sorted `[n]` (Zhang & Stephens 2009)."""
    num = len(excesses)
    num_points = 30 + int(np.sqrt(num))
    places = 1.0 - np.sqrt(num_points / (np.arange(num_points) + 0.5))
    points = places / (3.0 * excesses[int(num / 4 + 0.5) - 1]) + 1.0 / excesses[-1]
    indices = np.log1p(-points[:, None] * excesses).mean(axis=1)
    with np.errstate(over="ignore"):
        profile = num * (np.log(-points / indices) - indices - 1.0)
        shares = 1.0 / np.exp(profile - profile[:, None]).sum(axis=1)
    found = np.log1p(-np.sum(points * shares) * excesses).mean()
    return float(num * found / (num + _PRIOR))
