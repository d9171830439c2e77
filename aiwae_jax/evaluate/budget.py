"""An evaluation that takes a stated time: as many temperatures as fit into it."""

import dataclasses
import math
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import calls, cost, doors, tuning, verdicts
from aiwae_jax.evaluate.calls import ProgressFn, Work
from aiwae_jax.evaluate.likelihood import Likelihood, anneal
from aiwae_jax.evaluate.settings import DEFAULT_SETTINGS, Plan, Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import PyTree

_SEED = 0  # of the chains where no key is given
_FEWEST_TEMPERATURES, _MOST_TEMPERATURES = 10, 10_000
_FEW_TEMPERATURES = 100  # below it chains are better spent on temperatures
_FEWEST_CHAINS = 8  # that tell their own error


class Pace(NamedTuple):
    """How fast chains move on this machine.

    Attributes:
      num_data: N.
      num_chains: of each datum.
      chunk_size: data at once.
      per_move: seconds of one move of a chunk's chains.
      per_pilot_move: likewise, of all pilots.
    """

    num_data: int
    num_chains: int
    chunk_size: int
    per_move: float
    per_pilot_move: float

    @classmethod
    def of(cls, work: Work, x: PyTree) -> "Pace":
        """Compiles the programs of chains and pilots, and times a few moves of each."""
        settings, num_data = work.settings, checks.num_rows("x", x)
        per_pilot_move = 0.0
        if tuning.num_pilot_moves(settings, num_data):
            num_pilots = min(settings.num_pilot_data, num_data)
            per_pilot_move = cost.seconds_per_move(
                *(work.target, x, settings), num_pilots, settings.num_pilot_chains
            )
        return cls(num_data, 0, 0, 0.0, per_pilot_move).with_chains(work, x, settings.num_chains)

    def with_chains(self, work: Work, x: PyTree, num_chains: int) -> "Pace":
        """That of another number of chains, timed anew."""
        settings = dataclasses.replace(work.settings, num_chains=num_chains)
        fitting = work.chunk_size or cost.choose_chunk_size(work.target, x, settings)
        chunk_size = min(fitting, self.num_data)
        per_move = cost.seconds_per_move(work.target, x, settings, chunk_size)
        return self._replace(num_chains=num_chains, chunk_size=chunk_size, per_move=per_move)

    def guess(self, num_chains: int) -> "Pace":
        """That of another number of chains, if moves take a time for each."""
        per_move = self.per_move * num_chains / self.num_chains
        return self._replace(num_chains=num_chains, per_move=per_move)

    def seconds(self, settings: Settings) -> float:
        """Of an evaluation by these settings, its pilots included."""
        pilots = self.of_pilots(tuning.num_pilot_moves(settings, self.num_data), settings)
        return self.per_temperature * (settings.num_temperatures - 2) + pilots

    @property
    def per_temperature(self) -> float:
        """Seconds of one move of all data's chains."""
        return -(-self.num_data // self.chunk_size) * self.per_move

    def of_pilots(self, num_moves: int, settings: Settings) -> float:
        """Seconds of as many moves of single pilots."""
        pilots = min(settings.num_pilot_data, self.num_data) * settings.num_pilot_chains
        return self.per_pilot_move * num_moves / pilots


@calls.of_target
def within(
    target: Target,
    x: PyTree,
    seconds: float,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    key: chex.PRNGKey | None = None,
    chunk_size: int | None = None,
    progress_fn: ProgressFn | None = None,
) -> Likelihood:
    """Estimates log p(x) of each datum, with as many temperatures as fit into a stated time.

    It is `log_likelihood` with the settings of `settings_within`, and with fewer temperatures of
    its plan where pilots had to climb, or took further rounds. Its pilots are part of the time;
    compiling and timing a few moves come before it. The same `seconds` give other temperatures on
    another machine, or beside other work: `len(found.plan.betas)` says how many there were.

    Args:
      target: see `log_likelihood`.
      x: pytree of data with leading axis N.
      seconds: for all of them together.
      settings: see `settings_within`.
      key: by default one and the same.
      chunk_size: see `log_likelihood`.
      progress_fn: likewise.

    Raises:
      ValueError: if not even the smallest evaluation fits, before it begins; as `log_likelihood`.
      TypeError: as `log_likelihood`.
    """
    key = jax.random.key(_SEED) if key is None else key
    seconds = checks.positive("seconds", seconds)
    work = doors.enter(
        *(target, x, settings),
        key=key,
        is_first=True,
        chunk_size=chunk_size,
        progress_fn=progress_fn,
    )
    settings, pace = _choose(work, x, seconds)
    work = dataclasses.replace(work, settings=settings)
    pilot_key, run_key = jax.random.split(key)
    plan = tuning.find_plan(pilot_key, work, x)

    # What the pilots took beyond the fewest of their rounds.
    counted = tuning.num_pilot_moves(settings, pace.num_data)
    more = plan.num_gradients / settings.num_leapfrog_steps - counted
    if more > 0 and (per_temperature := pace.per_temperature) > 0.0:
        num_fewer = math.ceil(pace.of_pilots(more, settings) / per_temperature)
        num = max(settings.num_temperatures - num_fewer, _FEWEST_TEMPERATURES)
        work = dataclasses.replace(
            work, settings=dataclasses.replace(settings, num_temperatures=num)
        )
        plan = _thinned(plan, num)
    found = anneal(run_key, work, plan, x)
    verdicts.warn_of_broken([found], work.settings)
    verdicts.warn_of_rounding([found], work.settings)
    verdicts.warn_of_unreliable(found, work.settings)
    return found


def _thinned(plan: Plan, num_temperatures: int) -> Plan:
    """The plan with no more than so many of its temperatures, evenly chosen."""
    num_known = len(plan.betas)
    places = np.linspace(0, num_known - 1, min(num_temperatures, num_known)).round().astype(int)
    of_moves = places[1:-1] - 1
    persistences = plan.persistences[of_moves] if len(plan.persistences) else plan.persistences
    return plan._replace(
        betas=plan.betas[places],
        step_sizes=plan.step_sizes[of_moves],
        persistences=persistences,
    )


@calls.of_target
def settings_within(
    target: Target,
    x: PyTree,
    seconds: float,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    chunk_size: int | None = None,
) -> Settings:
    """Finds the settings of an evaluation that takes `seconds`, by timing a few moves of it.

    Chains are those asked for, and of temperatures there are as many as fit, from 10 to 10,000.
    Where fewer than 100 would fit, chains are halved, to no less than 8, for below that a
    temperature does more than a chain (populations that resample keep theirs); where 10,000 leave
    time, there are more chains.

    Args:
      target: see `log_likelihood`.
      x: pytree of data with leading axis N.
      seconds: for all of them together, pilots included, compilation not.
      settings: of the chains; their number of temperatures is replaced.
      chunk_size: see `log_likelihood`.

    Raises:
      ValueError: if not even the smallest evaluation fits; as `log_likelihood`.
      TypeError: as `log_likelihood`.
    """
    seconds = checks.positive("seconds", seconds)
    return _choose(doors.enter(target, x, settings, chunk_size=chunk_size), x, seconds)[0]


def _choose(work: Work, x: PyTree, seconds: float) -> tuple[Settings, Pace]:
    """`settings_within` behind its door, and the pace that it was found by."""
    doors.check_free(work.settings)
    settings, pace = work.settings, Pace.of(work, x)
    fewest_chains = pace.num_chains if settings.resampling else _FEWEST_CHAINS
    num_temperatures = _most_temperatures(pace, settings, seconds)

    # Fewer chains for more temperatures; each number of chains that is timed is also compiled.
    while num_temperatures < _FEW_TEMPERATURES and pace.num_chains > fewest_chains:
        num_chains, num_guessed = pace.num_chains, 0
        while num_guessed < _FEW_TEMPERATURES and num_chains > fewest_chains:
            num_chains = max(num_chains // 2, fewest_chains)
            num_guessed = _most_temperatures(pace.guess(num_chains), settings, seconds)
        pace = pace.with_chains(work, x, num_chains)
        num_temperatures = _most_temperatures(pace, settings, seconds)
    if not num_temperatures:
        smallest = dataclasses.replace(settings, num_temperatures=_FEWEST_TEMPERATURES)
        raise ValueError(
            f"`seconds`={seconds:g} are too few for {pace.num_data} data: {pace.num_chains} "
            f"chains x {_FEWEST_TEMPERATURES} temperatures, the smallest evaluation, take about "
            f"{pace.seconds(smallest):.3g} with their pilots. Give more, or fewer data, or lower "
            "`num_pilot_data` of the settings."
        )

    # More chains for what time is left.
    if num_temperatures == _MOST_TEMPERATURES:
        most = dataclasses.replace(settings, num_temperatures=_MOST_TEMPERATURES)
        times = int(seconds / max(pace.seconds(most), 1e-9))
        if times > 1:
            pace = pace.with_chains(work, x, times * pace.num_chains)
            num_temperatures = max(_most_temperatures(pace, settings, seconds), _FEW_TEMPERATURES)
    chosen = dataclasses.replace(
        settings, num_chains=pace.num_chains, num_temperatures=num_temperatures
    )
    return chosen, pace


def _most_temperatures(pace: Pace, settings: Settings, seconds: float) -> int:
    """The largest number that fits; 0 where none does."""
    low, high = _FEWEST_TEMPERATURES - 1, _MOST_TEMPERATURES
    while low < high:
        middle = (low + high + 1) // 2
        if pace.seconds(dataclasses.replace(settings, num_temperatures=middle)) <= seconds:
            low = middle
        else:
            high = middle - 1
    return low if low >= _FEWEST_TEMPERATURES else 0
