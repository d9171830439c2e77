"""Likelihoods that come with their own proof: bounds from both sides, and a search by them.

On real data AIS gives a stochastic lower bound of log p(x) and nobody knows how far below. On data
simulated from the model an exact posterior sample comes along, a chain run backwards from it gives
an upper bound (Grosse et al. 2015), and the two enclose log p(x).
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax.likelihood import (
    InitialFn,
    Likelihood,
    LogJointFn,
    ProgressFn,
    Store,
    anneal,
    mean_and_standard_error,
    num_gradients,
    tune,
)
from aiwae_jax.tuning import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.types import PyTree

SampleFn = Callable[[chex.PRNGKey], tuple[PyTree, chex.Array]]

_SEARCH_FACTORS = (1.5, 4.0)  # by which the search raises T, at least and at most


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
        return self.gap + _student_t_95(num_degrees) * self.gap_standard_error

    def _differences(self) -> np.ndarray:
        return self.reverse.log_likelihood - self.forward.log_likelihood


def _student_t_95(num_degrees: int) -> float:
    """The 97.5% quantile of Student's t, from that of the normal (Hill 1970's expansion)."""
    if num_degrees <= 3:
        return (12.7062, 4.3027, 3.1824)[num_degrees - 1]
    z, n = 1.959964, num_degrees
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def simulate(key: chex.PRNGKey, sample_fn: SampleFn, num_data: int) -> tuple[PyTree, np.ndarray]:
    """`num_data` draws of `sample_fn(key) -> (x, z)`, stacked."""
    with jax.default_matmul_precision("highest"):
        x, z = jax.jit(jax.vmap(sample_fn))(jax.random.split(key, num_data))
    return jax.tree.map(np.asarray, x), np.asarray(z)


def bidirectional(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    sample_fn: SampleFn,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    num_data: int = 100,
    plan: Plan | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
) -> Bidirectional:
    """Encloses log p(x) of data simulated from the model (bidirectional Monte Carlo, Grosse 2015).

    Forward chains give a lower bound. A simulated datum comes with the latent that made it, an
    exact posterior sample, and chains from there back to `initial` give an upper bound:
    -log of the mean of their weights. Several reverse chains may share that one latent, for it is
    the mean of their weights that is unbiased for 1/p(x). Both hold for simulated data only; on
    real data the gap is a guide, as far as the model resembles them.

    Args:
      key: consumed.
      log_joint_fn: see `log_likelihood`.
      initial: see `log_likelihood`; for `chain_space="base"` it also needs `inverse_transport`.
      sample_fn: `key -> (x, z)`, one exact draw from p(x, z).
      settings: schedule, chains, moves.
      num_data: data to simulate.
      plan: from `tune`, say that of the estimates whose quality is asked; by default tuned here,
        on further simulated data.
      chunk_size: see `log_likelihood`.
      store: see `log_likelihood`.
      progress_fn: called about every second with (gradient evaluations done, in all).

    Raises:
      ValueError: for impossible settings; for fewer than two data; for `adapt="paper"`, whose
        weights are biased and bound nothing.
      AttributeError: if `initial` lacks what `chain_space` needs.
    """
    if num_data < 2:
        raise ValueError(f"`num_data` must be at least 2 for a standard error, got {num_data}.")
    if settings.adapt != "pilot":
        raise ValueError(
            "`adapt='paper'` biases the weights, so that they bound nothing; use 'pilot'."
        )
    data_key, pilot_data_key, pilot_key, forward_key, reverse_key = jax.random.split(key, 5)
    pilot_gradients = 0
    if plan is None:
        x, _ = simulate(pilot_data_key, sample_fn, settings.num_pilot_data)
        plan = tune(
            pilot_key, log_joint_fn, initial, x, settings, store=store, progress_fn=progress_fn
        )
        pilot_gradients = plan.num_gradients
    x, latents = simulate(data_key, sample_fn, num_data)
    total = 2 * num_gradients(settings, num_data)

    def run(run_key, latents, done_before):
        return anneal(
            run_key,
            log_joint_fn,
            initial,
            x,
            latents,
            settings,
            plan,
            chunk_size,
            store,
            progress_fn and (lambda done, _: progress_fn(done_before + done, total)),
        )

    forward = run(forward_key, None, 0)
    reverse = run(reverse_key, latents, forward.num_gradients)
    return Bidirectional(forward, reverse, pilot_gradients + total)


class Certificate(NamedTuple):
    """A number of temperatures with a proof of its quality.

    Attributes:
      settings: those asked for, with the number of temperatures found.
      plan: tuned for them.
      result: the gap measured with fresh keys on fresh simulated data at those settings.
      is_reached: whether the upper end of its 95% interval is at most the target.
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


def certify(
    key: chex.PRNGKey,
    log_joint_fn: LogJointFn,
    initial: InitialFn,
    sample_fn: SampleFn,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    target_gap: float = 0.1,
    num_data: int = 100,
    max_temperatures: int = 10_000,
    x: PyTree | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: Callable[[int, int, int], None] | None = None,
) -> Certificate:
    """Raises the number of temperatures until the bidirectional gap is below `target_gap`.

    The search stops where the upper end of the gap's 95% interval is at most the target. Stopping
    there is a choice made on noise, so the gap is then measured again, with fresh keys on fresh
    simulated data, and that is the result, whatever it says.

    Args:
      key: consumed.
      log_joint_fn: see `log_likelihood`.
      initial: see `log_likelihood`.
      sample_fn: see `bidirectional`.
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
      ValueError: as `bidirectional`; if the target is not positive.
    """
    if not target_gap > 0.0:
        raise ValueError(f"`target_gap` must be positive, got {target_gap}.")
    total, search = 0, []

    def measure(number, settings, plan=None):
        nonlocal total
        on_progress = progress_fn and partial(progress_fn, settings.num_temperatures)
        pilot_key, data_key, gap_key = jax.random.split(jax.random.fold_in(key, number), 3)
        if plan is None:
            pilot_x = simulate(data_key, sample_fn, settings.num_pilot_data)[0] if x is None else x
            plan = tune(
                pilot_key,
                log_joint_fn,
                initial,
                pilot_x,
                settings,
                store=store,
                progress_fn=on_progress,
            )
            total += plan.num_gradients
        result = bidirectional(
            gap_key,
            log_joint_fn,
            initial,
            sample_fn,
            settings,
            num_data=num_data,
            plan=plan,
            chunk_size=chunk_size,
            store=store,
            progress_fn=on_progress,
        )
        total += result.num_gradients
        return plan, result

    while True:
        plan, result = measure(len(search), settings)
        search.append((settings.num_temperatures, result.gap, result.gap_standard_error))
        is_last = settings.num_temperatures >= max_temperatures
        if result.gap_upper_end <= target_gap or is_last:
            break
        # The gap falls at best as 1/T; its standard error more slowly.
        factor = np.clip(result.gap_upper_end / target_gap, *_SEARCH_FACTORS)
        raised = min(math.ceil(factor * settings.num_temperatures), max_temperatures)
        settings = dataclasses.replace(settings, num_temperatures=raised)
    _, result = measure(len(search), settings, plan)
    return Certificate(
        settings=settings,
        plan=plan,
        result=result,
        is_reached=bool(result.gap_upper_end <= target_gap),
        target_gap=target_gap,
        search=search,
        num_gradients=total,
    )
