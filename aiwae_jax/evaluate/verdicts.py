"""Tells results that can be trusted from those that cannot, and says what broke, and where."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_BROKEN_MOVES = 0.5  # share of a datum's moves that may be rejected for a non-finite energy
MOST_DEAD_CHAINS = 0.9  # share of a datum's chains that may end with weight zero
LARGEST_ERROR = 0.5  # nats, standard error of an estimate that can be relied on
# Of the work, from which on chains hardly see what p(x) rests on. Where tails are exponential,
# pilots find indices of up to 0.19 (docs/sure.md).
LARGEST_TAIL_INDEX = 0.2
_SMALL_SHARE = 0.1  # of the largest error, up to which even then an estimate can be relied on
LARGEST_ROUNDING = 0.05  # nats between neighbouring numbers where a log density lies
_LEAST_ACCEPTANCE = 0.5  # of the wanted one, over any twentieth of the path
_STRETCH = 20
_SHORTEST_STRETCH = 10  # moves
_FEWEST_CHAINS = 4  # that an estimate rests on in effect, and an eighth of all at least
_NUM_NAMED = 5
_WHAT_TO_LOOK_AT = (
    "Look for NaN in `x`, in what `start` returns and in `log_joint`, and in its gradient: "
    "`jnp.where` needs safe values inside both branches, for the gradient of the branch that is "
    "not taken is NaN where that branch is; `jnp.where(is_known, x, 0.0)` comes first."
)


def rows(is_bad: np.ndarray) -> str:
    """Says in words which rows of `[N]` are meant."""
    found = np.flatnonzero(is_bad)
    named = ", ".join(map(str, found[:_NUM_NAMED]))
    more = ", ..." if len(found) > _NUM_NAMED else ""
    return f"{len(found)} of {len(is_bad)} data (row{'s' if len(found) > 1 else ''} {named}{more})"


def is_broken(
    num_nonfinite: np.ndarray, num_zero_weight: np.ndarray, num_chains: int, num_moves: int
) -> np.ndarray:
    """Tells `[N]` whether a datum's chains broke, by the two shares above.

    Args:
      num_nonfinite: `[N]` moves rejected for a non-finite energy.
      num_zero_weight: `[N]` chains that ended with weight zero.
      num_chains: of each datum.
      num_moves: of each chain.
    """
    most_moves = MOST_BROKEN_MOVES * num_chains * num_moves
    return (num_nonfinite > most_moves) | (num_zero_weight > MOST_DEAD_CHAINS * num_chains)


def is_reliable(
    standard_errors: np.ndarray,
    effective_sample_size: np.ndarray,
    log_weight_variance: np.ndarray,
    num_zero_weight: np.ndarray,
    rounding: np.ndarray,
    tail_index: float,
    settings: Any,
) -> np.ndarray:
    """Tells `[N]` whether estimates can be relied on, as far as their chains can tell.

    Few chains underrate the spread of weights of which the largest is yet to come; if logarithms of
    weights are normal, of variance σ², an estimate's squared error is (exp σ² - 1) / K, and that
    must be small too (twice as large an error is allowed, for σ² is itself rough); populations
    that resample count as one draw each. Where the plan's tail index says that weights come from
    places which hardly any chain visits, they agree although they are too small, and only a tenth
    of the error is allowed. No verdict sees a mode that no chain found. The first five arguments
    are `[N]`, as in `Likelihood`; of a single chain, whose standard error is NaN, nothing can be
    told.
    """
    num_chains, least = settings.num_chains, settings.least_sample_size
    least = max(_FEWEST_CHAINS, num_chains / 8) if least is None else least
    largest_error = settings.largest_error
    if is_heavy(tail_index, settings):
        largest_error = _SMALL_SHARE * largest_error
    return (
        (standard_errors <= largest_error)
        & (log_weight_variance <= np.log1p(settings.num_draws * (2 * settings.largest_error) ** 2))
        & (effective_sample_size >= least)
        & (num_zero_weight <= settings.most_dead_chains * num_chains)
        & (rounding <= settings.largest_rounding)
    )


def is_heavy(tail_index: float, settings: Any) -> bool:
    """Tells whether there is a tail that chains hardly reach; not where nobody measured it."""
    return tail_index > settings.largest_tail_index


def slowest(acceptance: np.ndarray) -> float:
    """The smallest mean of `[T-2]` acceptances over a twentieth of the path; 1 of a few moves.

    Chains that hardly move lag behind the temperatures, all alike, and agree with each other.
    """
    length = max(_SHORTEST_STRETCH, len(acceptance) // _STRETCH)
    if len(acceptance) < 2 * length:
        return 1.0
    return float(np.convolve(acceptance, np.full(length, 1.0 / length), mode="valid").min())


def is_moving(acceptance: np.ndarray, settings: Any) -> bool:
    """Tells whether chains accept half of what is wanted on every stretch of the path."""
    return slowest(acceptance) >= _LEAST_ACCEPTANCE * settings.target_acceptance


def warn_of_unreliable(found: Any, settings: Any) -> None:
    """Warns, once, of data whose estimates are unreliable for no worse reason than their chains."""
    is_coarse = found.rounding > settings.largest_rounding
    is_bad = ~(found.is_reliable | found.is_broken | is_coarse)
    if is_bad.any() and settings.num_chains < 2 * _FEWEST_CHAINS:
        warnings.warn(
            f"The estimates of {rows(is_bad)} are unreliable, and so is their mean: an estimate "
            f"that can be relied on rests on {_FEWEST_CHAINS} chains in effect, and "
            f"{settings.num_chains} are too few to tell. Raise `num_chains`, to 16 say.",
            stacklevel=4,
        )
    elif is_bad.any():
        plan, why = found.plan, ""
        if is_heavy(plan.tail_index, settings):
            why += (
                " Log p(x, z) rises above that of the start on tails that chains hardly reach "
                f"(tail index {plan.tail_index:.2f}): start from a distribution with heavier ones."
            )
        if not plan.is_level:
            why += (
                " The plan is not level yet, and some stretch of the path too coarse or too stiff: "
                f"raise `num_pilot_rounds`, now {settings.num_pilot_rounds}."
            )
        warnings.warn(
            f"The estimates of {rows(is_bad)} are unreliable, and so is their mean: standard "
            f"errors up to {np.nanmax(found.standard_errors[is_bad]):.2g} nats, effective sample "
            f"sizes down to {found.effective_sample_size[is_bad].min():.1f} of "
            f"{settings.num_chains} chains, acceptance down to {slowest(found.acceptance):.2f}. "
            f"Raise `num_temperatures`, now {settings.num_temperatures:,}, or start from a closer "
            f"distribution.{why}",
            stacklevel=4,
        )


def warn_of_broken(found: Sequence[Any], settings: Any) -> None:
    """Warns, once, of data whose estimates say nothing.

    Args:
      found: `Likelihood`s of the same data.
      settings: of their chains.
    """
    bad = np.any([each.is_broken for each in found], axis=0)
    if not bad.any():
        return
    num_chains = len(found) * len(bad) * settings.num_chains
    num_moves = num_chains * (settings.num_temperatures - 2)
    warnings.warn(
        f"The estimates of {rows(bad)} say nothing: "
        f"{sum(each.num_nonfinite for each in found):,} of all {num_moves:,} moves were rejected "
        "because an energy was not finite, and "
        f"{sum(each.num_zero_weight for each in found):,} of all {num_chains:,} chains ended with "
        f"weight zero. {_WHAT_TO_LOOK_AT}",
        stacklevel=4,
    )


def warn_of_rounding(found: Sequence[Any], settings: Any) -> None:
    """Warns of data whose log densities are too large for their dtype, whatever sums them up."""
    rounding = np.max([each.rounding for each in found], axis=0)
    is_coarse = rounding > settings.largest_rounding
    if is_coarse.any():
        warnings.warn(
            f"The log densities of {rows(is_coarse)} are so large, or sums of terms so large, that "
            "neighbouring numbers differ "
            f"by up to {rounding.max():.2g} nats, which their estimates inherit. Leave constants "
            "out of `log_joint` and add them afterwards, or set JAX_ENABLE_X64=1.",
            stacklevel=4,
        )


def warn_of_broken_pilots(num_nonfinite: int, num_moves: int) -> None:
    """Warns of a plan that was tuned on chains that could not move."""
    if num_nonfinite > MOST_BROKEN_MOVES * num_moves:
        warnings.warn(
            f"{num_nonfinite:,} of {num_moves:,} moves of the pilot chains were rejected because "
            f"an energy was not finite, so that this plan says nothing. {_WHAT_TO_LOOK_AT}",
            stacklevel=6,
        )


def warn_of_zero_weights(is_zero: np.ndarray, name: str) -> None:
    """Warns of data all of whose importance samples weigh nothing, whose bound is -inf."""
    if is_zero.any():
        warnings.warn(
            f"All samples of {rows(is_zero)} have weight zero, so that `{name}` is -inf there, and "
            f"so is its mean. {_WHAT_TO_LOOK_AT}",
            stacklevel=4,
        )


def warn_of_means(is_broken: np.ndarray) -> None:
    """Warns of data whose posterior mean is not finite, which are left out."""
    if is_broken.any():
        warnings.warn(
            f"The posterior mean of {rows(is_broken)} is not finite; they are left out of the "
            "activity. Look for NaN or infinity in `x`.",
            stacklevel=4,
        )
