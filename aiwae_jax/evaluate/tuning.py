"""Tune, then freeze: temperatures and step sizes found on pilot chains whose weights nobody sees.

Adapting on the very chains that are reported makes their step sizes depend on their noise, and
E[w] = p(x) holds no longer. Pilots have keys of their own; what they found is a `Plan`, and any
number of unbiased estimates can be made with it.
"""

import chex
import jax
import numpy as np

from aiwae_jax import checks, fingerprint, schedules
from aiwae_jax.evaluate import calls, chunks, doors, population, verdicts
from aiwae_jax.evaluate.calls import ProgressFn, Store, Work
from aiwae_jax.evaluate.population import Chunk, Course
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import PyTree

_NUM_WARM_UP_MOVES = 30  # pilot moves at β=0, while the step size finds its scale
_PILOT_TEMPERATURES = (100, 500)  # at least, at most
_INITIAL_STEP_SIZE = 0.1
_SMOOTHING_WINDOW = 5  # temperatures
_LINEAR_SHARE = 0.2  # of an adaptive schedule, so that no stretch of the path is left bare


def _smooth(values: np.ndarray) -> np.ndarray:
    """Moving geometric mean over temperatures, with a shorter window at the two ends."""
    ones = np.ones(_SMOOTHING_WINDOW)
    counts = np.convolve(np.ones_like(values), ones, mode="same")
    return np.exp(np.convolve(np.log(values), ones, mode="same") / counts)


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
    grid = np.linspace(0.0, 1.0, 1001)
    density = np.sqrt(np.interp(grid, betas, work_variance))
    total = density.mean()
    if not (np.isfinite(total) and total > 0.0):
        return np.linspace(0.0, 1.0, num_temperatures)
    density = (1.0 - _LINEAR_SHARE) * density / total + _LINEAR_SHARE
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    cumulative /= cumulative[-1]
    schedule = np.interp(np.linspace(0.0, 1.0, num_temperatures), cumulative, grid)
    schedule[0], schedule[-1] = 0.0, 1.0
    return schedule


def _pilot_sizes(settings: Settings, num_data: int) -> tuple[int, int]:
    """Counts the data that pilots use, and the temperatures of their own grid, of bounded size."""
    num_temperatures = int(np.clip(settings.num_temperatures, *_PILOT_TEMPERATURES))
    return min(settings.num_pilot_data, num_data), num_temperatures


def num_pilot_moves(settings: Settings, num_data: int) -> int:
    """Counts the moves of all pilot chains in both passes."""
    if settings.adapt == "paper":
        return 0
    num_pilot_data, num_temperatures = _pilot_sizes(settings, num_data)
    num_chains = num_pilot_data * settings.num_pilot_chains
    return 2 * num_chains * (_NUM_WARM_UP_MOVES + num_temperatures - 2)


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
      x: pytree of data with leading axis N, of which `settings.num_pilot_data` are used.
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
    name = f"plan-{fingerprint.digest(key, work.settings, x, work.target.functions)}"
    if name not in work.store:
        with jax.default_matmul_precision("highest"):
            plan = _new_plan(key, work, x, with_warning=with_warning)
        work.store[name] = {field: np.asarray(a) for field, a in plan._asdict().items()}
    found = work.store[name]
    return Plan(found["betas"], found["step_sizes"], int(found["num_gradients"]))


def _new_plan(key: chex.PRNGKey, work: Work, x: PyTree, *, with_warning: bool) -> Plan:
    """Runs the pilots, if there are any.

    A first pass steers its step size along the path and measures where the work varies. A second
    one runs with frozen step sizes on the schedule that follows from it: near the integrator's
    stability limit the acceptance falls off a cliff, and a step size that is right on average is
    wrong for good.
    """
    settings = work.settings
    num_temperatures, is_adaptive = settings.num_temperatures, settings.schedule == "adaptive"
    fixed_schedule = schedules.SCHEDULES.get(settings.schedule, schedules.linear_schedule)
    if settings.adapt == "paper":
        step_sizes = np.full(num_temperatures - 2, _INITIAL_STEP_SIZE)
        return Plan(np.asarray(fixed_schedule(num_temperatures)), step_sizes, 0)

    # Some of the data, and chains that are like those to come but for their number.
    num_data = checks.num_rows("x", x)
    num_pilot_data, num_pilot_temperatures = _pilot_sizes(settings, num_data)
    indices = np.linspace(0, num_data - 1, num_pilot_data).round().astype(np.int32)
    chunk = Chunk(indices, chunks.select(x, indices), num_pilot_data)
    program = settings.program(settings.num_pilot_chains)
    gradients_per_move = num_pilot_data * program.num_chains * program.num_leapfrog_steps
    num_gradients = num_pilot_moves(settings, num_data) * settings.num_leapfrog_steps
    count = work.counter(num_gradients)
    warm_up = np.zeros(_NUM_WARM_UP_MOVES)

    def run(pass_key, schedule, step_sizes, rule):
        betas = np.concatenate([warm_up, schedule])
        return population.run(
            pass_key,
            work.target.functions,
            chunk,
            Course(betas, step_sizes, rule, settings.target_acceptance),
            program,
            moves_fn=lambda num_moves: count(num_moves * gradients_per_move),
        )

    # The first pass searches; its step sizes, smoothed, are those of the second one's schedule.
    search_key, check_key = jax.random.split(key)
    schedule = np.asarray(fixed_schedule(num_pilot_temperatures), np.float64)
    start = np.full(_NUM_WARM_UP_MOVES + num_pilot_temperatures - 2, _INITIAL_STEP_SIZE)
    found = run(search_key, schedule, start, population.PILOT)
    at, kept = _measured_at(schedule)
    log_step_sizes = np.log(_smooth(found.step_sizes)[kept])
    if is_adaptive:
        schedule = equal_variance_schedule(at, found.work_variance[kept], num_pilot_temperatures)
    frozen = np.exp(np.interp(np.concatenate([warm_up, schedule])[1:-1], at, log_step_sizes))

    # The second one checks: where it accepts too little, steps become smaller.
    found = run(check_key, schedule, frozen, population.FROZEN)
    if with_warning:
        num_moves = found.num_nonfinite.size * program.num_chains * len(frozen)
        verdicts.warn_of_broken_pilots(int(found.num_nonfinite.sum()), num_moves)
    at, kept = _measured_at(schedule)
    too_large = np.minimum(found.acceptance - settings.target_acceptance, 0.0)
    log_step_sizes = (np.log(frozen) + too_large)[kept]

    # What lies between the temperatures of the pilots' grid is interpolated.
    if is_adaptive:
        betas = equal_variance_schedule(at, found.work_variance[kept], num_temperatures)
    else:
        betas = np.asarray(fixed_schedule(num_temperatures), np.float64)
    step_sizes = np.exp(np.interp(betas[1:-1], at, log_step_sizes))
    return Plan(betas, step_sizes, num_gradients)


def _measured_at(schedule: np.ndarray) -> tuple[np.ndarray, slice]:
    """The pilots' temperatures that count, from the last warm-up move at β=0 on, and their slots.

    A pilot moves at everything but the first and the last entry of warm-up and schedule.
    """
    return schedule[:-1], slice(_NUM_WARM_UP_MOVES - 1, None)
