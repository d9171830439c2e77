"""Bounds from both sides on data simulated from the model, and a search by the gap between them.

On real data AIS gives a stochastic lower bound of log p(x) and nobody knows how far below. On data
simulated from the model an exact posterior sample comes along, a chain run backwards from it gives
an upper bound (Grosse et al. 2015), and the two enclose log p(x).
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import calls, cost, doors, simulation, verdicts
from aiwae_jax.evaluate.calls import ProgressFn, Store, Work
from aiwae_jax.evaluate.check import warn_of_faults
from aiwae_jax.evaluate.likelihood import Likelihood, anneal, mean_and_standard_error
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.evaluate.tuning import find_plan, suited
from aiwae_jax.types import PyTree

_SEARCH_FACTORS = (1.5, 4.0)  # by which the search raises T, at least and at most
# A gap is impossible where chance gives one like it in fewer than 3 of 100,000 measurements.
_MOST_STANDARD_ERRORS = 4.0
_LEAST_SUM = math.log(3e-5)  # nats
_OF_95_PERCENT = 1.959963984540054  # deviations of a normal variable, 97.5% quantile
_FEWEST_DATA = 10  # whose spread tells of its own error; for fewer only the sum counts
_ROUNDING = 8  # units in the last place of the log densities


class Bidirectional(NamedTuple):
    """Both bounds of log p(x) for N data simulated from the model.

    Attributes:
      forward: lower bounds.
      reverse: upper bounds, from chains that start at the exact latent.
      num_gradients: of both directions, and of pilots where they ran here.
    """

    forward: Likelihood
    reverse: Likelihood
    num_gradients: int

    @property
    def gap(self) -> float:
        """Mean of upper minus lower bound, nats: it encloses the error of either, in the mean."""
        return mean_and_standard_error(self._differences())[0]

    @property
    def gap_standard_error(self) -> float:
        """Of `gap`, over the simulated data."""
        return mean_and_standard_error(self._differences())[1]

    @property
    def gap_upper_end(self) -> float:
        """Upper end of the 95% confidence interval of the gap (Student's t), nats.

        Gaps of single data are skewed to the right, so that with few data the true coverage is
        lower. Infinite where a datum had no chain with a positive weight.
        """
        if not np.isfinite(self._differences()).all():
            return math.inf
        num_degrees = len(self._differences()) - 1
        return self.gap + _student_t(_OF_95_PERCENT, num_degrees) * self.gap_standard_error

    @property
    def is_possible(self) -> bool:
        """Tells whether exact draws can give such a gap; if not, neither bound holds.

        exp of a lower bound has the mean p(x), exp of minus an upper one 1 / p(x), and given x they
        are independent: over N data exp(-sum of gaps) has the mean 1, so that by Markov's
        inequality a sum below log(3e-5) = -10.4 nats has a probability below 3e-5, whatever the
        spread. A mean more than 4 standard errors below zero (by Student's t, of 10 data or more)
        is called impossible too. Rounding is allowed for.
        """
        gaps = self._differences().astype(np.float64)
        if not np.isfinite(gaps).all():
            return True  # a datum without any weight bounds nothing, and says nothing
        gaps += _ROUNDING * (self.forward.rounding + self.reverse.rounding)
        if gaps.sum() < _LEAST_SUM:
            return False
        mean, standard_error = mean_and_standard_error(gaps)
        if len(gaps) < _FEWEST_DATA:
            return True
        most = _student_t(_MOST_STANDARD_ERRORS, len(gaps) - 1)
        return bool(mean >= -most * standard_error)

    def _differences(self) -> np.ndarray:
        return self.reverse.log_likelihood - self.forward.log_likelihood


def _student_t(num_normal: float, num_degrees: int) -> float:
    """Of Student's t the quantile that a normal variable has at `num_normal` deviations."""
    from scipy import special  # here, because loading it takes long and writes to stderr

    return float(special.stdtrit(num_degrees, special.ndtr(num_normal)))


def _warn_of_impossible(result: Bidirectional) -> None:
    """Warns of a gap that exact draws cannot give."""
    if not result.is_possible:
        warnings.warn(
            f"A bidirectional gap of {result.gap:.3g} ± {result.gap_standard_error:.2g} nats is "
            "impossible for exact draws: neither bound holds. Either `sample` does not draw from "
            "`log_joint` (another order of z, another model's weights, a scale, draws that are not "
            "independent), or `log_prob` of what `start` returns is not that of its own `sample` "
            "(or `transport`).",
            stacklevel=4,
        )


@calls.of_target
def bidirectional(
    key: chex.PRNGKey,
    target: Target,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    num_data: int = 100,
    plan: Plan | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
    check: bool = False,
) -> Bidirectional:
    """Encloses log p(x) of data simulated from the model (bidirectional Monte Carlo, Grosse 2015).

    Forward chains give a lower bound. A simulated datum comes with the latent that made it, an
    exact posterior sample, and chains from there back to `start` give an upper bound:
    -log of the mean of their weights. Several reverse chains may share that one latent, for it is
    the mean of their weights that is unbiased for 1/p(x). Both hold for simulated data only; on
    real data the gap is a guide, as far as the model resembles them.

    Args:
      key: consumed.
      target: with a `sample`; for `chain_space="base"` what it starts from needs
        `inverse_transport`.
      settings: schedule, chains, moves.
      num_data: data to simulate.
      plan: from `tune`, say that of the estimates whose quality is asked; by default tuned here,
        on further simulated data.
      chunk_size: see `log_likelihood`.
      store: see `log_likelihood`.
      progress_fn: called about every second with (gradient evaluations done, in all).
      check: whether `evaluate.check` looks at the target first; what it finds is a warning.

    Returns:
      A `Bidirectional`. Warnings name data whose chains broke, and say where the gap is impossible.

    Raises:
      ValueError: as `log_likelihood`; for fewer than two data; for `adapt="paper"`, whose weights
        are biased and bound nothing; for a `sample` whose draws do not fit, or ignore its key;
        if what `start` returns lacks what `chain_space` needs.
      TypeError: as `log_likelihood`.
    """
    work = simulation.enter(
        *(key, target, settings, num_data),
        store=store,
        progress_fn=progress_fn,
        chunk_size=chunk_size,
    )
    if check:
        warn_of_faults(target, simulation.draws(key, target.sample, min(num_data, 4))[0])
    found = _enclose(key, work, num_data, plan)
    verdicts.warn_of_broken([found.forward, found.reverse], work.settings)
    verdicts.warn_of_rounding([found.forward, found.reverse], work.settings)
    _warn_of_impossible(found)
    return found


def _enclose(key: chex.PRNGKey, work: Work, num_data: int, plan: Plan | None) -> Bidirectional:
    """`bidirectional` behind its door."""
    data_key, pilot_data_key, pilot_key, forward_key, reverse_key = jax.random.split(key, 5)
    sample, is_given = work.target.sample, plan is not None
    if plan is None:
        x, _ = simulation.draws(pilot_data_key, sample, work.settings.num_pilot_data)
        plan = find_plan(pilot_key, work, x)

    # Both directions on the same data, by one plan, and one progress of the two.
    x, latents = simulation.draws(data_key, sample, num_data)
    before = plan.num_gradients if is_given else 0
    plan = suited(jax.random.fold_in(pilot_key, 1), work, plan, x)
    each = cost.num_gradients(doors.settings_of_plan(plan, work.settings), num_data)

    def run(run_key, latents, done_before):
        def progress_fn(done, _):
            work.progress_fn(done_before + done, 2 * each)

        ours = dataclasses.replace(work, progress_fn=work.progress_fn and progress_fn)
        return anneal(run_key, ours, plan, x, latents)

    forward = run(forward_key, None, 0)
    reverse = run(reverse_key, latents, each)
    return Bidirectional(forward, reverse, plan.num_gradients - before + 2 * each)


class GapSearch(NamedTuple):
    """A number of temperatures, and the gap that was measured at it.

    Attributes:
      settings: those asked for, with the number of temperatures found.
      plan: tuned for them.
      result: the gap measured with fresh keys on fresh simulated data at those settings.
      is_reached: whether the upper end of its 95% interval is at most the target, of a gap that
        exact draws can give.
      target_gap: nats.
      search: `(num_temperatures, gap, standard error)` of each try.
      num_gradients: of everything: pilots, search, both directions, the last measurement.
    """

    settings: Settings
    plan: Plan
    result: Bidirectional
    is_reached: bool
    target_gap: float
    search: list[tuple[int, float, float]]
    num_gradients: int


@calls.of_target
def reach_gap(
    key: chex.PRNGKey,
    target: Target,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    target_gap: float = 0.1,
    num_data: int = 100,
    max_temperatures: int = 10_000,
    x: PyTree | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: Callable[[int, int, int], None] | None = None,
) -> GapSearch:
    """Raises the number of temperatures until the bidirectional gap is below `target_gap`.

    The search stops where the upper end of the gap's 95% interval is at most the target. Stopping
    there is a choice made on noise, so the gap is then measured again, with fresh keys on fresh
    simulated data, and that is the result, whatever it says. An impossible gap ends the search and
    is never reached, see `Bidirectional.is_possible`.

    The main arguments are the first three and `target_gap`; the others say on what, how far and
    how it is searched.

    Args:
      key: consumed.
      target: see `bidirectional`.
      settings: where the search begins.
      target_gap: nats.
      num_data: data to simulate for each measurement.
      max_temperatures: where the search gives up.
      x: data to tune on, such as those to be evaluated; by default simulated ones.
      chunk_size: see `log_likelihood`.
      store: see `log_likelihood`.
      progress_fn: called about every second with (temperatures of this try, gradient evaluations
        done, in all of this try).

    Raises:
      ValueError: as `bidirectional`; if the target is not positive and finite.
      TypeError: as `bidirectional`.
    """
    target_gap = checks.positive("target_gap", target_gap)
    max_temperatures = checks.integer("max_temperatures", max_temperatures, least=2)
    work = simulation.enter(
        *(key, target, settings, num_data, x),
        store=store,
        progress_fn=progress_fn,
        chunk_size=chunk_size,
    )
    doors.check_free(work.settings)
    settings, search, total = work.settings, [], 0

    def measure(settings: Settings, plan: Plan | None = None) -> tuple[Plan, Bidirectional]:
        """One try, with keys and data of its own."""
        nonlocal total
        try_key = jax.random.fold_in(key, len(search))
        pilot_key, data_key, gap_key = jax.random.split(try_key, 3)
        on_progress = progress_fn and partial(progress_fn, settings.num_temperatures)
        ours = dataclasses.replace(work, settings=settings, progress_fn=on_progress)
        if plan is None:
            pilot_x = x
            if x is None:
                pilot_x, _ = simulation.draws(data_key, target.sample, settings.num_pilot_data)
            plan = find_plan(pilot_key, ours, pilot_x)
            total += plan.num_gradients
        result = _enclose(gap_key, ours, num_data, plan)
        total += result.num_gradients
        return plan, result

    # Raise T until the interval is below the target, or there is no point in going on.
    while True:
        plan, result = measure(settings)
        search.append((settings.num_temperatures, result.gap, result.gap_standard_error))
        is_last = settings.num_temperatures >= max_temperatures
        if result.gap_upper_end <= target_gap or is_last or not result.is_possible:
            break
        # The gap falls at best as 1/T; its standard error more slowly.
        factor = np.clip(result.gap_upper_end / target_gap, *_SEARCH_FACTORS)
        raised = min(math.ceil(factor * settings.num_temperatures), max_temperatures)
        settings = dataclasses.replace(settings, num_temperatures=raised)

    # What was stopped at is measured again.
    _, result = measure(settings, plan)
    verdicts.warn_of_broken([result.forward, result.reverse], settings)
    verdicts.warn_of_rounding([result.forward, result.reverse], settings)
    _warn_of_impossible(result)
    return GapSearch(
        settings=settings,
        plan=plan,
        result=result,
        is_reached=bool(result.gap_upper_end <= target_gap) and result.is_possible,
        target_gap=target_gap,
        search=search,
        num_gradients=total,
    )
