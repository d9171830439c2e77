"""Tune, then freeze: temperatures and step sizes found on pilot chains whose weights nobody sees.

Adapting on the very chains that are reported makes their step sizes depend on their noise, and
E[w] = p(x) holds no longer. Pilots have keys of their own; what they found is a `Plan`, and any
number of unbiased estimates can be made with it.

A plan is found in rounds, for no pilot can place temperatures that it has not seen: pilots search
on even temperatures, or climb where these are too coarse for the path; then pilots with frozen step
sizes check what was found, and what is not level yet is mended and checked again.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks, fingerprint, schedules
from aiwae_jax.evaluate import calls, doors, own_steps, pilots, profiles, tails, verdicts
from aiwae_jax.evaluate.calls import ProgressFn, Store, Work
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import PyTree

_PILOT_TEMPERATURES = (100, 500)  # at least, at most
_MOST_MOVES = 2000  # of a climb
_MOST_OF_FEW = 250  # pilot temperatures where a share of the chains is all that there is
_FEWEST_CHAINS = 32  # of all pilot data together
_MANY_CHAINS = 64  # likewise, whose means tell what happens between more temperatures
_INITIAL_STEP_SIZE = 0.1
_LINEAR_SHARE = 0.2  # of an adaptive schedule, so that no stretch of the path is left bare
_MOST_INCREMENT = 1.0  # nats², variance between two pilot temperatures that still show the path
_LEVEL = 6.0  # times the mean, variance of an increment that is level with the others
_NEGLIGIBLE = 0.1  # nats², variance of all increments together that needs no levelling
_LAST_SHARE = 0.2  # of the path, whose work tells the target's tails from the start's
_ACCEPTANCE_MISSED = 0.2  # of the wanted one, that a further round mends
_VERSION = 4  # of what is stored


def equal_variance_schedule(
    betas: np.ndarray, work_variance: np.ndarray, num_temperatures: int
) -> np.ndarray:
    """Places temperatures so that every log weight increment has about the same variance, `[T]`.

    The increment's variance is (Δβ)² times the variance of log f_n - log f_0 at β, so their density
    is made proportional to the standard deviation; a fifth of them stays linear.

    Args:
      betas: `[S]` where the variance was measured, increasing within [0, 1].
      work_variance: `[S]` of log f_n - log f_0 under f_β, nats².
      num_temperatures: T.
    """
    grid = np.union1d(np.linspace(0.0, 1.0, 1001), betas)
    widths = np.diff(grid)
    density = np.sqrt(np.interp(grid, betas, work_variance))
    total = np.sum(widths * 0.5 * (density[1:] + density[:-1]))
    if not (np.isfinite(total) and total > 0.0):
        return np.linspace(0.0, 1.0, num_temperatures)
    density = (1.0 - _LINEAR_SHARE) * density / total + _LINEAR_SHARE
    cumulative = np.concatenate([[0.0], np.cumsum(widths * 0.5 * (density[1:] + density[:-1]))])
    cumulative /= cumulative[-1]
    schedule = np.interp(np.linspace(0.0, 1.0, num_temperatures), cumulative, grid)
    schedule[0], schedule[-1] = 0.0, 1.0
    return schedule


def num_pilot_moves(settings: Settings, num_data: int) -> int:
    """Counts the moves of all pilot chains, if no further round is needed."""
    if settings.adapt == "paper":
        return 0
    num_pilot_data, num_chains = pilot_sizes(settings, num_data)
    num_moves = profiles.NUM_WARM_UP_MOVES + _num_pilot_temperatures(settings, num_data) - 2
    scan = own_steps.num_scan_moves(settings, num_data)
    return num_chains * (2 * num_pilot_data * num_moves + scan)


def pilot_sizes(settings: Settings, num_data: int) -> tuple[int, int]:
    """Counts the data that pilots use, and the chains of each: more where data are few."""
    num_pilot_data = min(settings.num_pilot_data, num_data)
    return num_pilot_data, max(settings.num_pilot_chains, _FEWEST_CHAINS // num_pilot_data)


def _num_pilot_temperatures(settings: Settings, num_data: int) -> int:
    """As many as are asked for, within limits: pilots of few data are not to cost the most."""
    least, most = _PILOT_TEMPERATURES
    if math.prod(pilot_sizes(settings, num_data)) < _MANY_CHAINS:
        most = _MOST_OF_FEW
    return int(np.clip(settings.num_temperatures, least, most))


@calls.of_target
def tune(
    key: chex.PRNGKey,
    target: Target,
    x: PyTree,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    store: Store | None = None,
    progress_fn: ProgressFn | None = None,
) -> Plan:
    """Tunes schedule and step sizes on pilot chains, for any number of estimates to come.

    Args:
      key: consumed; the chains that are reported need another one.
      target: what is to be measured.
      x: pytree of data with leading axis N, of which `settings.num_pilot_data` are used; the rest
        is only looked at for data that need step sizes of their own.
      settings: the chains to tune for.
      store: where the plan is kept, and found again.
      progress_fn: called about every second with (gradient evaluations done, in all).

    Raises:
      TypeError, ValueError: as `log_likelihood`.
    """
    work = doors.enter(
        target, x, settings, key=key, is_first=True, store=store, progress_fn=progress_fn
    )
    return find_plan(key, work, x, with_warning=True)


def find_plan(key: chex.PRNGKey, work: Work, x: PyTree, *, with_warning: bool = False) -> Plan:
    """`tune` behind its door: the plan that the store has, or a new one."""
    asked = (_VERSION, key, work.settings.of_chains, x, work.target.functions)
    name = f"plan-{fingerprint.digest(*asked)}"
    if name not in work.store:
        with jax.default_matmul_precision("highest"):
            plan = _new_plan(key, work, x, with_warning=with_warning)
        work.store[name] = {field: np.asarray(a) for field, a in plan._asdict().items()}
    return _stored(work.store[name])


def _new_plan(key: chex.PRNGKey, work: Work, x: PyTree, *, with_warning: bool) -> Plan:
    """Runs the pilots, if there are any; once more where the data that they saw were not all."""
    settings, num_data = work.settings, checks.num_rows("x", x)
    if settings.adapt == "paper":
        step_sizes = np.full(settings.num_temperatures - 2, _INITIAL_STEP_SIZE)
        return Plan(np.asarray(_fixed_schedule(settings, settings.num_temperatures)), step_sizes, 0)

    num_pilot_data, num_chains = pilot_sizes(settings, num_data)
    team = pilots.Team(work, x, num_pilot_data, num_chains)
    team.expects(num_pilot_moves(settings, num_data))
    first_key, scan_key, second_key, own_key = jax.random.split(key, 4)
    indices = np.linspace(0, num_data - 1, num_pilot_data).round().astype(np.int32)
    plan = _tuned(first_key, team, indices, with_warning=with_warning)

    # Data that the plan does not suit, and that no pilot saw, take the place of half of these.
    odd = own_steps.find_odd(scan_key, team, plan)
    unseen = np.setdiff1d(odd, indices)[: max(num_pilot_data // 2, 1)]
    if len(unseen) and settings.schedule == "adaptive":
        places = np.linspace(0, num_pilot_data - 1, num_pilot_data - len(unseen)).astype(int)
        seen = np.sort(np.concatenate([indices[places], unseen])).astype(np.int32)
        plan = _tuned(second_key, team, seen, with_warning=False)
        odd = own_steps.find_odd(scan_key, team, plan)
    plan = own_steps.fit(own_key, team, plan, odd)
    if team.is_continuous:
        far_key = jax.random.fold_in(key, 1)
        far = tails.far_index(far_key, work.target.functions, x, team.program.chain_space)
        plan = plan._replace(tail_index=float(np.fmax(plan.tail_index, far)))
    return plan._replace(num_gradients=team.num_gradients)


def suited(key: chex.PRNGKey, work: Work, plan: Plan, x: PyTree) -> Plan:
    """A plan of other data with factors for those of `x` that it does not suit."""
    settings, num_data = work.settings, checks.num_rows("x", x)
    asked = (_VERSION, key, settings.of_chains, plan, x, work.target.functions)
    name = f"suited-{fingerprint.digest(*asked)}"
    if name not in work.store:
        team = pilots.Team(work, x, *pilot_sizes(settings, num_data))
        team.expects(team.program.num_chains * own_steps.num_scan_moves(settings, num_data))
        odd_key, fit_key = jax.random.split(key)
        with jax.default_matmul_precision("highest"):
            odd = own_steps.find_odd(odd_key, team, plan)
            found = own_steps.fit(fit_key, team, plan, odd)
        found = found._replace(num_gradients=plan.num_gradients + team.num_gradients)
        work.store[name] = {field: np.asarray(a) for field, a in found._asdict().items()}
    return _stored(work.store[name])


def _stored(arrays: Mapping[str, np.ndarray]) -> Plan:
    kinds = {"num_gradients": int, "tail_index": float, "is_level": bool}
    return Plan(**dict(arrays) | {name: kind(arrays[name]) for name, kind in kinds.items()})


def _fixed_schedule(settings: Settings, num_temperatures: int) -> np.ndarray:
    schedule = schedules.SCHEDULES.get(settings.schedule, schedules.linear_schedule)
    return np.asarray(schedule(num_temperatures), np.float64)


def _tuned(
    key: chex.PRNGKey, team: pilots.Team, indices: np.ndarray, *, with_warning: bool
) -> Plan:
    """A plan by pilots of these data: a search, and checks until it is level."""
    settings = team.work.settings
    search_key, climb_key, check_key = jax.random.split(key, 3)
    is_adaptive = settings.schedule == "adaptive"
    num_temperatures = _num_pilot_temperatures(settings, team.num_data)

    # The first pass searches. Where its temperatures are too coarse for the path, pilots climb.
    schedule = _fixed_schedule(settings, num_temperatures)
    profile = _searched(team, search_key, indices, schedule[1:-1], pilots.SEARCH)
    if is_adaptive and not (profile.increments() <= _MOST_INCREMENT).all():
        profile = _searched(team, climb_key, indices, schedule[:0], pilots.CLIMB)
    elif profile.least_factor == pilots.LEAST_FACTOR:
        again_key = jax.random.fold_in(search_key, 1)
        again = schedule[1:-1]
        profile = _searched(team, again_key, indices, again, pilots.SEARCH, is_varied=True)

    # Further ones check, with frozen step sizes: near the integrator's stability limit the
    # acceptance falls off a cliff, and a step size that is right on average is wrong for good.
    for number in range(settings.num_pilot_rounds):
        if is_adaptive:
            at = equal_variance_schedule(profile.betas, profile.work_variance, num_temperatures)
        else:
            at = schedule
        checked = _checked(team, jax.random.fold_in(check_key, number), indices, profile, at)
        profile = checked.profile
        if checked.is_level:
            break
    if with_warning:
        verdicts.warn_of_broken_pilots(checked.num_nonfinite, checked.num_moves)

    # What lies between the temperatures of the pilots is interpolated.
    if is_adaptive:
        betas = equal_variance_schedule(
            profile.betas, profile.work_variance, _num_wanted(profile, settings)
        )
    else:
        betas = _fixed_schedule(settings, settings.num_temperatures)
    persistences = profile.persistences_at(betas[1:-1])
    return Plan(
        betas,
        pilots.vary(profile.step_sizes(betas[1:-1]), profile.least_factor),
        0,
        persistences=np.zeros(0) if persistences is None else persistences,
        tail_index=checked.tail_index,
        is_level=checked.is_level,
    )


def _num_wanted(profile: profiles.Profile, settings: Settings) -> int:
    """As many temperatures as the settings say, or as their conditional sample size needs.

    Of increments that are normal, of variance σ², the conditional effective sample size (Zhou,
    Johansen & Aston 2016) is the share exp(-σ²); deviations fall as 1 / (T - 1).
    """
    most = settings.num_temperatures
    if settings.conditional_sample_size is None:
        return most
    betas = equal_variance_schedule(profile.betas, profile.work_variance, most)
    deviations = np.sqrt(np.interp(betas, profile.betas, profile.work_variance))
    largest = np.max(np.diff(betas) * 0.5 * (deviations[1:] + deviations[:-1]))
    wanted = np.sqrt(-np.log(settings.conditional_sample_size))
    return int(np.clip(np.ceil((most - 1) * largest / wanted) + 1, 2, most))


def _searched(
    team: pilots.Team,
    key: chex.PRNGKey,
    indices: np.ndarray,
    betas: np.ndarray,
    rule: pilots.Rule,
    *,
    is_varied: bool = False,
) -> profiles.Profile:
    """The profile at given temperatures, or of a climb, whose step sizes follow the acceptance."""
    betas = np.concatenate([np.zeros(profiles.NUM_WARM_UP_MOVES), betas])
    course = pilots.Course(
        betas,
        team.ones(len(betas)),
        rule,
        least_factor=pilots.LEAST_FACTOR if is_varied or rule.is_climbing else 1.0,
        log_step_size=np.log(_INITIAL_STEP_SIZE),
        most_moves=profiles.NUM_WARM_UP_MOVES + _MOST_MOVES if rule.is_climbing else 0,
    )
    return profiles.profile_of(team.send(key, indices, course), course, team)


class _Checked(NamedTuple):
    """What frozen pilots found on a schedule.

    Attributes:
      profile: with smaller step sizes where they accepted too little.
      is_level: whether nothing needs to be mended.
      tail_index: of the work on the last fifth of it, see `tails.index`.
      num_nonfinite: moves rejected for a non-finite energy.
      num_moves: of all chains.
    """

    profile: profiles.Profile
    is_level: bool
    tail_index: float
    num_nonfinite: int
    num_moves: int


def _checked(
    team: pilots.Team,
    key: chex.PRNGKey,
    indices: np.ndarray,
    profile: profiles.Profile,
    schedule: np.ndarray,
) -> _Checked:
    """Sends frozen pilots along a schedule. Where they accept too little, steps become smaller."""
    settings = team.work.settings
    betas = np.concatenate([np.zeros(profiles.NUM_WARM_UP_MOVES), schedule[1:-1]])
    scales = profile.step_sizes(betas)
    own = np.stack([np.interp(betas, profile.betas, row) for row in profile.log_factors])
    course = pilots.Course(
        betas,
        team.in_shape(scales),
        pilots.CHECK,
        least_factor=profile.least_factor,
        persistences=profile.persistences_at(betas),
        log_factors=own,
    )
    found = team.send(key, indices, course)
    kept = slice(profiles.NUM_WARM_UP_MOVES - 1, None)
    is_odd = (own != 0.0).any(axis=1)
    acceptance = found.acceptance[:, kept]
    of_most = profiles.smooth_mean(profiles.mean(acceptance[~is_odd]))
    missed = np.minimum(of_most - settings.target_acceptance, 0.0)
    log_step_sizes = np.log(scales)[kept]
    log_step_sizes = log_step_sizes + missed.reshape(-1, *[1] * (log_step_sizes.ndim - 1))
    own_missed = np.minimum(profiles.smooth_mean(acceptance.T).T - settings.target_acceptance, 0.0)
    own = np.where(is_odd[:, None], own[:, kept] + np.nan_to_num(own_missed) - missed, 0.0)
    new = profile._replace(
        betas=betas[kept],
        log_step_sizes=log_step_sizes,
        work_variance=profiles.mean(found.work_variance)[kept],
        log_factors=own,
        persistences=profile.persistences_at(betas[kept]),
    )

    # Level: no stretch of the path is coarser than the others by much, or all are fine.
    share = len(schedule) / settings.num_temperatures
    increments = np.square(np.diff(schedule)) * new.work_variance
    is_level = share * increments.sum() <= _NEGLIGIBLE
    is_level |= settings.schedule != "adaptive"
    is_level |= increments.max() <= _LEVEL * increments.mean()
    is_level &= missed.min() >= -_ACCEPTANCE_MISSED
    num_moves = len(indices) * team.program.num_chains * len(betas)
    last = -max(round(_LAST_SHARE * len(schedule)), 1)
    tail_index = tails.index(found.work[:, last:])
    return _Checked(new, bool(is_level), tail_index, found.num_nonfinite, num_moves)
