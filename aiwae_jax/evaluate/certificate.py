"""A bound of the NLL that holds with a stated probability, on the very data that were measured.

exp of an estimate has the mean p(x), and data have keys of their own, so that the product over the
data of p̂(x) / p(x) has the mean 1. By Markov's inequality it reaches 1 / δ with a probability of at
most δ, and else

    mean log p(x) >= mean log p̂(x) - log(1/δ) / N.

Of a weighted mean the exponents a_i = w_i / max w stand in the product: a power of at most 1 is
concave, so that (p̂/p)^a has a mean of at most 1 by Jensen's inequality, and N becomes Σ a_i. The
product of powers is no more than the average, over t from 0 to 1, of the products over the data
whose a_i is above t (the logarithm of the former is the average of the logarithms of the latter).
So what is said below of looking again holds of it as of the plain product.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax import checks, row_weights
from aiwae_jax.evaluate import verdicts
from aiwae_jax.evaluate.likelihood import Likelihood, mean_and_standard_error

_FAULTS_NAMED = 3


class Certificate(NamedTuple):
    """A bound of the mean NLL of N data, from above.

    Attributes:
      nll_at_most: nats: with a probability of at least 1 - `delta` the NLL is at most this. None
        where nothing can be said, and `inf` where a datum has the estimate 0; `reason` says why.
      delta: largest probability that any look at these data fails, all looks together.
      spent: the part of it that this look may fail with.
      slack: log(1 / `spent`) / N, or with weights times max w / Σ w, nats: by how much the bound is
        above the estimate.
      num_data: N.
      num_unreliable: of them, whose estimates cannot be relied on; the bound holds all the same,
        and is the looser for them.
      reason: why there is no bound, or none of use; None where there is one.
    """

    nll_at_most: float | None
    delta: float
    spent: float
    slack: float
    num_data: int
    num_unreliable: int
    reason: str | None


def certificate(
    likelihood: Likelihood,
    *,
    delta: float = 0.05,
    look: int | None = 1,
    check: Any = None,
    weights: np.ndarray | None = None,
) -> Certificate:
    """Bounds the mean NLL of the data that were measured, from above.

    The probability is over the sampler's randomness: the bound speaks of these N data, not of the
    distribution that they came from. It assumes that `start` samples what its normalized `log_prob`
    says, that moves leave their densities invariant, and exact arithmetic.

    The plan must have been frozen before the estimates were made, by `tune` or by `log_likelihood`
    itself, their key be chosen before they were seen, and no two data share a number. With one
    plan, looking again is free while data are added (their product is a martingale, and Ville's
    inequality bounds it at all N together: `certificate(found.of_first(n))`), or while chains are
    added to the same data (a mean of weights is a reversed martingale). A plan that was tuned again
    is another look. Rows' weights must have been chosen before, too, and those of data that are
    added be none above the largest one before.

    Args:
      likelihood: from `log_likelihood`.
      delta: the probability of a miss, of all looks together.
      look: which look at these data at these parameters it is, from 1 on: the k-th one spends
        `delta` / (k (k + 1)), which is `delta` in all. None for the only one there will ever be,
        of settings chosen elsewhere (by `reach_gap` on simulated data, say), which spends it whole.
      check: what `evaluate.check` found, or its `describe()`; where it failed there is no bound.
      weights: `[N]`, at least 0, of which only ratios matter: the bound is of Σ w log p / Σ w, and
        data of weight 0 are none of it. By default all count alike.

    Raises:
      TypeError: for what is no `Likelihood`, or a `look` that is no integer.
      ValueError: for a `delta` outside (0, 1), a `look` below 1, or weights that cannot be.
    """
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            "`likelihood` must be what `evaluate.log_likelihood` returns, got "
            f"{checks.describe(likelihood)}."
        )
    delta = checks.positive("delta", delta)
    if delta >= 1.0:
        raise ValueError(f"`delta` must be a probability below 1, got {delta}.")
    spent = delta
    if look is not None:
        look = checks.integer("look", look, least=1)
        spent = spent_by(look, delta)
    estimates = np.asarray(likelihood.log_likelihood, np.float64)
    if weights is not None:
        weights = row_weights.checked("weights", weights, len(estimates))
    counts = np.ones(len(estimates), bool) if weights is None else weights > 0.0
    at_most, slack = bound_of(-estimates, spent, weights)
    reason = _reason(likelihood, counts, check)
    bound = None
    if reason is None:
        bound = at_most
        if bound == math.inf:
            reason = (
                f"no chain of {verdicts.rows(np.isneginf(estimates) & counts)} has a positive "
                "weight, so that the bound is infinite"
            )
    return Certificate(
        bound, delta, spent, slack, *numbers_of(likelihood.is_reliable, weights), reason
    )


def numbers_of(is_reliable: np.ndarray, weights: np.ndarray | None = None) -> tuple[int, int]:
    """How many data a bound is of, and of how many of them the estimate cannot be relied on.

    Args:
      is_reliable: `[N]`.
      weights: `[N]`, data of weight 0 being none of it; or None.
    """
    counts = np.ones(len(is_reliable), bool) if weights is None else weights > 0.0
    return int(counts.sum()), int((~is_reliable & counts).sum())


def bound_of(
    nll: np.ndarray, spent: float, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """The bound that estimates `[N]` of the NLL give, nats, and by how much it is above them.

    Args:
      nll: `[N]`.
      spent: the probability that it fails with.
      weights: `[N]`, or None.
    """
    mean, _ = mean_and_standard_error(nll, weights)
    num = len(nll) if weights is None else float((weights / weights.max()).sum())
    slack = math.log(1.0 / spent) / num
    return mean + slack, slack


def spent_by(look: int, delta: float) -> float:
    """What the `look`-th look may fail with; over all looks these are `delta`."""
    return delta / (look * (look + 1))


def _reason(likelihood: Likelihood, counts: np.ndarray, check: Any) -> str | None:
    """Why nothing can be certified of the data that count `[N]`, if nothing can."""
    if likelihood.is_upper_bound:
        return "these chains ran in reverse: their estimates bound log p(x) from above"
    if not likelihood.is_unbiased:
        return "the step sizes were adapted on the reported chains, whose weights are biased"
    if check is not None:
        found = check if isinstance(check, Mapping) else check.describe()
        if not found["passed"]:
            faults = "; ".join(str(fault).rstrip(".") for fault in found["faults"][:_FAULTS_NAMED])
            return f"the check of the start failed{': ' if faults else ''}{faults}"
    is_coarse = ~(likelihood.rounding <= verdicts.LARGEST_ROUNDING) & counts
    if is_coarse.any():
        return (
            f"the log densities of {verdicts.rows(is_coarse)} are so large, or sums of terms so "
            f"large, that neighbouring numbers differ by more than {verdicts.LARGEST_ROUNDING:g} "
            "nats"
        )
    is_none = ~(likelihood.log_likelihood < math.inf) & counts
    if is_none.any():
        return f"the estimates of {verdicts.rows(is_none)} are no numbers"
    return None
