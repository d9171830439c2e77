"""Tune, then freeze: temperatures and step sizes found on pilot chains whose weights nobody sees.

Adapting on the very chains that are reported makes their step sizes depend on their noise, and
E[w] = p(x) holds no longer. Pilots have keys of their own; what they found is a `Plan`, and any
number of unbiased estimates can be made with it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks, moves, paths, schedules
from aiwae_jax.evaluate import population, verdicts
from aiwae_jax.moves import hamiltonian as hmc
from aiwae_jax.types import PyTree

SCHEDULES = (*schedules.SCHEDULES, "adaptive")
ADAPT = {"pilot": population.FROZEN, "paper": population.PAPER}

_NUM_WARM_UP_MOVES = 30  # pilot moves at β=0, while the step size finds its scale
_PILOT_TEMPERATURES = (100, 500)  # at least, at most
_INITIAL_STEP_SIZE = 0.1
_COUNTS = (
    *("num_temperatures", "num_chains", "num_leapfrog_steps"),
    *("num_pilot_data", "num_pilot_chains"),
)
_SMOOTHING_WINDOW = 5  # temperatures
_LINEAR_SHARE = 0.2  # of an adaptive schedule, so that no stretch of the path is left bare


@dataclasses.dataclass(frozen=True)
class Settings:
    """How chains are annealed. Everything here can change an estimate's spread, and its cost.

    The defaults gave the smallest spread for their cost on an AIWAE-trained MNIST model: short
    moves that keep most of their momentum do the work of long trajectories at more temperatures,
    and since a rejection turns them back, they want a high acceptance. The paper's own setting is
    `PAPER_SETTINGS`; binary latents have `BINARY_SETTINGS`.

    Attributes:
      num_temperatures: T, counting 0 and 1.
      num_chains: K chains per datum.
      num_leapfrog_steps: L; of other moves than HMC the proposals (a gradient each) or sweeps of
        one move.
      schedule: "linear", "sigmoid" (Wu et al. 2016), or "adaptive": placed on the pilot chains so
        that every increment of the log weight has the same variance.
      chain_space: "base" anneals the noise that q's `transport` maps to z, so that the chain sees
        q's scales; "latent" anneals z itself, with identity mass matrix, as the paper does. None
        is "base" where what chains start from has a `transport`, and "latent" elsewhere.
      momentum_persistence: α in [0, 1), see `ais.run_chain`; 0 for moves without a momentum.
      move: "hmc", or for binary latents "langevin", "informed" or "gibbs", see `moves`.
      adapt: "pilot" tunes one step size per temperature on pilot chains and freezes them. "paper"
        is the authors' rule, one step size adapted on the very chains that are reported: biased.
      target_acceptance: what either steers to.
      num_pilot_data: data that the pilots use, spread evenly over the set.
      num_pilot_chains: their chains per datum.
    """

    num_temperatures: int = 1000
    num_chains: int = 16
    num_leapfrog_steps: int = 3
    schedule: str = "adaptive"
    chain_space: str | None = None
    momentum_persistence: float = 0.8
    adapt: str = "pilot"
    target_acceptance: float = 0.8
    num_pilot_data: int = 32
    num_pilot_chains: int = 4
    move: str = "hmc"

    def __post_init__(self):
        """Raises ValueError for what cannot be run, TypeError for numbers of another kind."""
        for name in _COUNTS:
            object.__setattr__(self, name, checks.integer(name, getattr(self, name)))
        for name in ("momentum_persistence", "target_acceptance"):
            object.__setattr__(self, name, checks.real(name, getattr(self, name)))
        schedules.check_num_temperatures(self.num_temperatures)
        hmc.check_num_leapfrog_steps(self.num_leapfrog_steps)
        hmc.check_momentum_persistence(self.momentum_persistence)
        for name in ("num_chains", "num_pilot_data"):
            checks.integer(name, getattr(self, name), least=1)
        if self.num_pilot_chains < 2:
            raise ValueError(
                "`num_pilot_chains` must be at least 2, for their variance places the "
                f"temperatures; got {self.num_pilot_chains}."
            )
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(
                f"`target_acceptance` must lie between 0 and 1, got {self.target_acceptance}."
            )
        for name, known in (
            ("schedule", SCHEDULES),
            ("chain_space", (*paths.SPACES, None)),
            ("adapt", ADAPT),
            ("move", moves.MOVES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(filter(None, known))}; got "
                    f"{getattr(self, name)!r}."
                )
        is_still = self.momentum_persistence == 0.0 and self.chain_space != "base"
        if moves.MOVES[self.move].latents == "binary" and not is_still:
            raise ValueError(
                f"`move`={self.move!r} flips bits of z: it needs `chain_space='latent'` and "
                f"`momentum_persistence=0.0`, got {self.chain_space!r} and "
                f"{self.momentum_persistence}; start from `BINARY_SETTINGS`."
            )
        if self.adapt == "paper" and self.schedule == "adaptive":
            raise ValueError(
                "`adapt='paper'` runs no pilot chains that could place the temperatures; use "
                "`schedule='linear'`, as the paper does."
            )

    def program(self, **changes) -> population.Program:
        """The compiled program of these chains; without a space to live in, that of base space."""
        return population.Program(
            **{
                "num_chains": self.num_chains,
                "num_leapfrog_steps": self.num_leapfrog_steps,
                "chain_space": self.chain_space or "base",
                "momentum_persistence": self.momentum_persistence,
                "move": self.move,
                **changes,
            }
        )


DEFAULT_SETTINGS = Settings()
PAPER_SETTINGS = Settings(
    num_temperatures=10_000,
    num_chains=16,
    num_leapfrog_steps=10,
    schedule="linear",
    chain_space="latent",
    momentum_persistence=0.0,
    target_acceptance=0.6,
)


BINARY_SETTINGS = Settings(
    num_leapfrog_steps=1,
    chain_space="latent",
    momentum_persistence=0.0,
    target_acceptance=0.6,
    move="langevin",
)


class Plan(NamedTuple):
    """Temperatures and step sizes, fixed before the chains that are reported begin.

    Attributes:
      betas: `[T]` schedule.
      step_sizes: `[T-2]` of the moves at betas[1:-1] (`adapt="paper"` starts from the first).
      num_gradients: gradient evaluations of log p(x, z) that the pilots took.
    """

    betas: np.ndarray
    step_sizes: np.ndarray
    num_gradients: int


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
    """How many data the pilots use, and the temperatures of their own grid, of bounded size."""
    num_temperatures = int(np.clip(settings.num_temperatures, *_PILOT_TEMPERATURES))
    return min(settings.num_pilot_data, num_data), num_temperatures


def num_pilot_moves(settings: Settings, num_data: int) -> int:
    """Moves of all pilot chains in both passes."""
    if settings.adapt == "paper":
        return 0
    num_pilot_data, num_temperatures = _pilot_sizes(settings, num_data)
    num_chains = num_pilot_data * settings.num_pilot_chains
    return 2 * num_chains * (_NUM_WARM_UP_MOVES + num_temperatures - 2)


def tune(
    key: chex.PRNGKey,
    functions: tuple[Partial, Partial],
    x: PyTree,
    settings: Settings,
    *,
    gradients_fn: Callable[[int], None] = lambda num_gradients: None,
    with_warning: bool = False,
) -> Plan:
    """Finds a `Plan` on pilot chains of some of the data.

    A first pass steers its step size along the path and measures where the work varies. A second
    one runs with frozen step sizes on the schedule that follows from it: near the integrator's
    stability limit the acceptance falls off a cliff, and a step size that is right on average is
    wrong for good.

    Args:
      key: consumed.
      functions: log_joint_fn and initial_fn, as `Partial`s.
      x: pytree of data with leading axis N.
      settings: the chains to tune for.
      gradients_fn: called with the number of gradient evaluations after each segment.
      with_warning: whether to warn of pilots that broke.
    """
    num_temperatures = settings.num_temperatures
    fixed_schedule = schedules.SCHEDULES.get(settings.schedule, schedules.linear_schedule)
    if settings.adapt == "paper":
        step_sizes = np.full(num_temperatures - 2, _INITIAL_STEP_SIZE)
        return Plan(np.asarray(fixed_schedule(num_temperatures)), step_sizes, 0)

    num_data = jax.tree.leaves(x)[0].shape[0]
    # What lies between the temperatures of the pilots' grid is interpolated.
    num_pilot_data, num_pilot_temperatures = _pilot_sizes(settings, num_data)
    indices = np.linspace(0, num_data - 1, num_pilot_data).round().astype(np.int32)
    program = settings.program(num_chains=settings.num_pilot_chains)
    gradients_per_move = len(indices) * program.num_chains * program.num_leapfrog_steps
    warm_up = np.zeros(_NUM_WARM_UP_MOVES)

    def run(pass_key, schedule, step_sizes, rule):
        return population.run(
            pass_key,
            indices,
            population.select(x, indices),
            functions,
            np.concatenate([warm_up, schedule]),
            step_sizes,
            program,
            rule=rule,
            target_acceptance=settings.target_acceptance,
            moves_fn=lambda num_moves: gradients_fn(num_moves * gradients_per_move),
        )

    search_key, check_key = jax.random.split(key)
    schedule = np.asarray(fixed_schedule(num_pilot_temperatures), np.float64)
    start = np.full(_NUM_WARM_UP_MOVES + num_pilot_temperatures - 2, _INITIAL_STEP_SIZE)
    found = run(search_key, schedule, start, population.PILOT)
    at, kept = _measured_at(schedule)
    log_step_sizes = np.log(_smooth(found.step_sizes)[kept])
    if settings.schedule == "adaptive":
        schedule = equal_variance_schedule(at, found.work_variance[kept], num_pilot_temperatures)
    frozen = np.exp(np.interp(np.concatenate([warm_up, schedule])[1:-1], at, log_step_sizes))
    found = run(check_key, schedule, frozen, population.FROZEN)
    if with_warning:
        num_moves = found.num_nonfinite.size * program.num_chains * len(frozen)
        verdicts.warn_of_broken_pilots(int(found.num_nonfinite.sum()), num_moves)
    at, kept = _measured_at(schedule)
    too_large = np.minimum(found.acceptance - settings.target_acceptance, 0.0)
    log_step_sizes = (np.log(frozen) + too_large)[kept]
    if settings.schedule == "adaptive":
        betas = equal_variance_schedule(at, found.work_variance[kept], num_temperatures)
    else:
        betas = np.asarray(fixed_schedule(num_temperatures), np.float64)
    return Plan(
        betas=betas,
        step_sizes=np.exp(np.interp(betas[1:-1], at, log_step_sizes)),
        num_gradients=num_pilot_moves(settings, num_data) * settings.num_leapfrog_steps,
    )


def _measured_at(schedule: np.ndarray) -> tuple[np.ndarray, slice]:
    """The pilots' temperatures that count, from the last warm-up move at β=0 on, and their slots.

    A pilot moves at everything but the first and the last entry of warm-up and schedule.
    """
    return schedule[:-1], slice(_NUM_WARM_UP_MOVES - 1, None)
