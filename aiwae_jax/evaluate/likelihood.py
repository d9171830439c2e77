"""Estimates of log p(x) by annealed importance sampling, for any differentiable log p(x, z)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks, fingerprint, row_weights
from aiwae_jax.evaluate import calls, chunks, cost, doors, own_steps, population, programs, verdicts
from aiwae_jax.evaluate.calls import ProgressFn, Store, Work
from aiwae_jax.evaluate.check import warn_of_faults
from aiwae_jax.evaluate.population import Annealed, Chunk, Course
from aiwae_jax.evaluate.settings import ADAPT, DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.evaluate.tuning import find_plan
from aiwae_jax.types import PyTree

_PIECES = 6  # version of what is stored


class Likelihood(NamedTuple):
    """Annealed importance sampling estimates for N data.

    Attributes:
      log_likelihood: `[N]` nats. Forward: log mean weight of each datum's chains; exp of it is
        unbiased for p(x), itself it is a stochastic lower bound. Reverse: minus the log mean
        weight, a stochastic upper bound.
      standard_errors: `[N]` of these, over a datum's chains, each left out once (the jackknife),
        nats; the bias of an estimate is about half its square. NaN of a single chain.
      effective_sample_size: `[N]` of the chains' weights, in [0, num_chains].
      log_weight_variance: `[N]` variance over chains of the log weights that are finite, nats²; the
        lowest twentieth of them counts as the next one does.
      plan: schedule and step sizes.
      acceptance: `[T-2]` mean acceptance probability at betas[1:-1], over data and chains.
      path_sample_size: `[T-2]` effective sample size of a datum's chains at betas[1:-1], mean over
        the data.
      num_nonfinite: moves rejected for a non-finite energy.
      num_zero_weight: chains that ended with weight zero.
      num_gradients: gradient evaluations of log p(x, z), those of the plan's pilots not included.
      is_unbiased: False if the step sizes were adapted on these very chains.
      is_broken: `[N]` data whose estimates say nothing: more than half of the moves were rejected
        for a non-finite energy, or more than 9 of 10 chains ended with weight zero.
      rounding: `[N]` by how much neighbouring numbers differ where a datum's log densities lie, or
        log densities at neighbouring points, nats: no estimate is more exact.
      is_reliable: `[N]` whether an estimate can be relied on, as far as its chains can tell: by
        their standard error, effective sample size, spread, dead chains and rounding, and the
        thresholds of `Settings`; none can where chains hardly move on a part of the path. No
        verdict sees a mode that no chain found.
      is_upper_bound: whether the chains ran in reverse, from exact latents.
    """

    log_likelihood: np.ndarray
    standard_errors: np.ndarray
    effective_sample_size: np.ndarray
    log_weight_variance: np.ndarray
    plan: Plan
    acceptance: np.ndarray
    path_sample_size: np.ndarray
    num_nonfinite: int
    num_zero_weight: int
    num_gradients: int
    is_unbiased: bool
    is_broken: np.ndarray
    rounding: np.ndarray
    is_reliable: np.ndarray
    is_upper_bound: bool = False

    def of_first(self, num: int) -> "Likelihood":
        """The estimates of the first `num` data; what is of all of them stays as it is."""
        own = ("log_likelihood", "standard_errors", "effective_sample_size", "log_weight_variance")
        own += ("is_broken", "rounding", "is_reliable")
        return self._replace(**{name: getattr(self, name)[:num] for name in own})

    @property
    def mean(self) -> float:
        """Over the data, nats."""
        return mean_and_standard_error(self.log_likelihood)[0]

    @property
    def standard_error(self) -> float:
        """Of `mean`, over the data; what single estimates err by is in it."""
        return mean_and_standard_error(self.log_likelihood)[1]


def mean_and_standard_error(
    values: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Mean over data `[N]`, and its standard error (NaN for fewer than two).

    Args:
      values: `[N]`.
      weights: `[N]`, at least 0, of which only ratios matter: the mean is Σ w v / Σ w, the error
        that of `row_weights.mean_and_standard_error`. By default all data count alike.
    """
    checks.numbers("values", values)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`values` must be a vector of at least one, got {list(values.shape)}.")
    if weights is not None:
        weights = row_weights.checked("weights", weights, len(values))
        return row_weights.mean_and_standard_error(values, weights)
    with np.errstate(invalid="ignore"):  # an infinite value has no spread
        standard_error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(standard_error)


def anneal(
    key: chex.PRNGKey,
    work: Work,
    plan: Plan,
    x: PyTree,
    latents: np.ndarray | None = None,
    numbers: np.ndarray | None = None,
    last_fn: Callable[..., None] | None = None,
) -> Likelihood:
    """Forward chains, or reverse ones from `latents`, with a given plan.

    Chunks that the store has are not repeated, and so not shown to `last_fn`, which is called with
    what that of `population.run` is, and how many of the data count.

    A reverse chain visits the same intermediate distributions in the opposite order, with the step
    sizes that each of them has.
    """
    settings, store = doors.settings_of_plan(plan, work.settings), work.store
    functions, program = work.target.functions, settings.program()
    factors = own_steps.log_factors_of(plan, x)
    direction = 1 if latents is None else -1
    course = Course(
        plan.betas[::direction],
        plan.step_sizes[::direction],
        ADAPT[settings.adapt],
        settings.target_acceptance,
        plan.persistences[::direction] if len(plan.persistences) else None,
    )

    # How much is to be done, and at once.
    num_data = checks.num_rows("x", x)
    chunk_size = work.chunk_size or cost.choose_chunk_size(work.target, x, settings)
    count = work.counter(cost.num_gradients(settings, num_data))
    per_datum_move = settings.num_chains * settings.num_leapfrog_steps

    # Chunk after chunk; parameters are hashed once.
    of_course = course.betas, course.step_sizes, course.persistences
    shared = fingerprint.digest(_PIECES, key, settings.of_chains, *of_course, functions)
    pace, results, counts = chunks.Pace(), [], []
    for number, (indices, num_kept) in enumerate(chunks.of(num_data, min(chunk_size, num_data))):
        chunk_latents = None if latents is None else latents[indices]
        own = indices if numbers is None else numbers[indices]
        chunk_factors = None if factors is None else factors[indices]
        chunk = Chunk(own, chunks.select(x, indices), num_kept, chunk_latents, chunk_factors)
        digest = fingerprint.digest(shared, *chunk)
        name = f"chunk-{number:05d}-{digest}"
        if name in store:
            count(num_kept * per_datum_move * (len(course.betas) - 2))
        else:
            with jax.default_matmul_precision("highest"):
                annealed = population.run(
                    key,
                    functions,
                    chunk,
                    course,
                    program,
                    moves_fn=lambda num, kept=num_kept: count(num * kept * per_datum_move),
                    pace=pace,
                    last_fn=last_fn and (lambda *ends, kept=num_kept: last_fn(*ends, kept)),
                )
            store[name] = annealed._asdict()
        results.append(Annealed(**store[name]))
        counts.append(num_kept)
    return _joined(results, counts, direction, settings, plan)


def _joined(
    results: Sequence[Annealed],
    counts: Sequence[int],
    direction: int,
    settings: Settings,
    plan: Plan,
) -> Likelihood:
    """The estimates of all chunks, of which the first `counts` data count.

    Args:
      results: of the chunks.
      counts: of their data.
      direction: 1 for forward chains, -1 for reverse ones.
      settings: of the chains.
      plan: that they had.
    """

    def joined(field: Callable[[Annealed], np.ndarray]) -> np.ndarray:
        return np.concatenate([r[:n] for r, n in zip(map(field, results), counts, strict=True)])

    def averaged(field: Callable[[Annealed], np.ndarray]) -> np.ndarray:
        return np.average([field(r) for r in results], axis=0, weights=counts)[::direction]

    is_frozen = ADAPT[settings.adapt] == programs.FROZEN
    num_moves = settings.num_temperatures - 2
    num_nonfinite, num_zero = joined(lambda r: r.num_nonfinite), joined(lambda r: r.num_zero_weight)
    rounding = joined(lambda r: r.rounding)
    standard_errors = joined(lambda r: r.standard_error)
    effective_sample_size = joined(lambda r: r.effective_sample_size)
    is_broken = verdicts.is_broken(num_nonfinite, num_zero, settings.num_chains, num_moves)
    log_weight_variance = joined(lambda r: r.log_weight_variance)
    acceptance = averaged(lambda r: r.acceptance)
    is_moving = verdicts.is_moving(acceptance, settings)
    is_reliable = verdicts.is_reliable(
        standard_errors,
        effective_sample_size,
        log_weight_variance,
        num_zero,
        rounding,
        plan.tail_index,
        settings,
    )
    return Likelihood(
        log_likelihood=direction * joined(lambda r: r.log_mean_weight),
        standard_errors=standard_errors,
        effective_sample_size=effective_sample_size,
        log_weight_variance=log_weight_variance,
        plan=plan if is_frozen else plan._replace(step_sizes=averaged(lambda r: r.step_sizes)),
        acceptance=acceptance,
        path_sample_size=averaged(lambda r: r.path_sample_size),
        num_nonfinite=int(num_nonfinite.sum()),
        num_zero_weight=int(num_zero.sum()),
        num_gradients=cost.num_gradients(settings, len(num_zero)),
        is_unbiased=is_frozen,
        is_broken=is_broken,
        rounding=rounding,
        is_reliable=is_reliable & ~is_broken & is_moving,
        is_upper_bound=direction < 0,
    )


@calls.of_target
def log_likelihood(
    key: chex.PRNGKey,
    target: Target,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    plan: Plan | None = None,
    numbers: Sequence[int] | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
    check: bool = False,
) -> Likelihood:
    """Estimates log p(x) of each datum by AIS from `start` to the joint (section 5.2; Wu 2016).

    Step sizes and temperatures are tuned on pilot chains with keys of their own and then frozen, so
    that exp of the estimates is unbiased for p(x) (unless `settings.adapt` is "paper").

    Args:
      key: consumed. Estimates depend on a datum's number and not, beyond rounding, on `chunk_size`
        (except with `adapt="paper"`, whose step size follows the chunk).
      target: log p(x, z), and what the chains start from. Without a `transport` there they live in
        latent space, which warns unless the settings ask for it.
      x: pytree of data with leading axis N.
      settings: schedule, chains, moves.
      plan: from `tune` with the same settings; by default tuned here on `x`.
      numbers: `[N]` in 0 .. 2**32 - 1, which choose each datum's keys, by default its index in
        `x`. With numbers that follow from the data themselves and a given `plan` neither order nor
        company of the data matters, beyond rounding; equal numbers share their noise.
      chunk_size: data annealed at once; by default as many as memory suggests.
      store: dict-like; the plan and each finished chunk are put there, under names made of all
        that they depend on (`fingerprint.digest`), and found again, so that an evaluation that was
        killed continues to the very same bits.
      progress_fn: called about every second with (gradient evaluations done, in all), first for
        the pilots and then for the estimate.
      check: whether `evaluate.check` looks at the target first; what it finds is a warning.

    Returns:
      A `Likelihood` of NumPy arrays. Warnings name data that are `is_broken`, or unreliable.

    Raises:
      ValueError: for impossible settings, no data, functions whose shapes do not fit, values that
        no chain can start from, or data outside the support of a Bernoulli likelihood.
      TypeError: for arguments of another kind, or under a caller's jit.
    """
    work = doors.enter(
        *(target, x, settings),
        key=key,
        is_first=True,
        store=store,
        progress_fn=progress_fn,
        chunk_size=chunk_size,
    )
    if numbers is not None:
        numbers = doors.check_numbers(numbers, checks.num_rows("x", x))
    if check:
        warn_of_faults(target, x)
    pilot_key, run_key = jax.random.split(key)
    if plan is None:
        plan = find_plan(pilot_key, work, x)
    found = anneal(run_key, work, plan, x, numbers=numbers)
    verdicts.warn_of_broken([found], work.settings)
    verdicts.warn_of_rounding([found], work.settings)
    verdicts.warn_of_unreliable(found, work.settings)
    return found
