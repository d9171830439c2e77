"""Data of which a plan's step sizes are too long: they get factors of their own, before any report.

One step size per temperature serves most data. A datum whose posterior is much narrower rejects
every move, and nothing but its effective sample size says so. A few pilots of each datum find it.
"""

import chex
import jax
import numpy as np

from aiwae_jax import fingerprint, moves
from aiwae_jax.evaluate import chunks, pilots
from aiwae_jax.evaluate.programs import NUM_KNOTS
from aiwae_jax.evaluate.settings import Plan, Settings
from aiwae_jax.types import PyTree

_SCAN_MOVES = (10, 50)  # of each datum's pilots, at least and at most
_SCAN_SHARE = 1 / 20  # of the plan's temperatures
_OWN_MOVES = 300  # of the pilots that find a factor, at most
_NUM_WINDOWS = 4  # of the path at most, in which acceptance is looked at
_LOW = 0.5  # of the wanted acceptance
_HIGH = 0.1  # of the share of rejections that is usual
_NUM_CHECKS = 2
_NUM_WARM_UP_MOVES = 10


def num_scan_moves(settings: Settings, num_data: int) -> int:
    """Counts the moves of one pilot of each datum."""
    return num_data * _num_scanned(settings) if _has_step_sizes(settings) else 0


def _num_scanned(settings: Settings) -> int:
    wanted = int(np.clip(_SCAN_SHARE * settings.num_temperatures, *_SCAN_MOVES))
    return wanted if settings.num_temperatures - 2 >= wanted else 0


def _has_step_sizes(settings: Settings) -> bool:
    return settings.adapt == "pilot" and moves.MOVES[settings.move].step_sizes is not None


def find_odd(key: chex.PRNGKey, team: pilots.Team, plan: Plan) -> np.ndarray:
    """The indices of data that accept less than half of what they should, or nearly everything.

    Too little somewhere on the path is enough. Nearly everything is where, over all of it, the
    share that they reject is a tenth of what is usual, so that their steps are too short.
    """
    settings = team.work.settings
    num_moves = min(_num_scanned(settings), len(plan.step_sizes))
    if not (_has_step_sizes(settings) and num_moves):
        return np.zeros(0, np.int32)
    places = np.linspace(0, len(plan.step_sizes) - 1, num_moves).round().astype(int)
    course = pilots.Course(
        plan.betas[1:-1][places],
        team.in_shape(plan.step_sizes[places]),
        pilots.CHECK,
        persistences=_of_moves(plan, places),
    )
    found = [
        team.send(key, indices, course, num_counted=num_kept).acceptance
        for indices, num_kept in chunks.of(team.num_data, team.num_pilot_data)
    ]
    acceptance = np.concatenate(found)
    num_windows = max(1, min(_NUM_WINDOWS, num_moves // _SCAN_MOVES[0]))
    least = np.nan_to_num(_in_windows(acceptance, num_windows), nan=1.0).min(axis=1)
    whole = _in_windows(acceptance, 1)[:, 0]
    is_low = least < _LOW * settings.target_acceptance
    usual = np.median(whole[np.isfinite(whole)]) if np.isfinite(whole).any() else 1.0
    is_high = 1.0 - whole < _HIGH * (1.0 - usual)
    return np.flatnonzero(is_low | is_high).astype(np.int32)


def _of_moves(plan: Plan, places: np.ndarray) -> np.ndarray | None:
    """The momenta's persistences of these moves of a plan; None where it has none of its own."""
    return plan.persistences[places] if len(plan.persistences) else None


def _in_windows(values: np.ndarray, num_windows: int) -> np.ndarray:
    """Means `[B, W]` of `[B, S]` over stretches of the path, of what is a number."""
    parts = np.array_split(values, num_windows, axis=1)
    sums = [np.where(np.isfinite(part), part, 0.0).sum(axis=1) for part in parts]
    counts = [np.isfinite(part).sum(axis=1) for part in parts]
    with np.errstate(invalid="ignore"):
        return np.stack(sums, axis=1) / np.stack(counts, axis=1)


def fit(key: chex.PRNGKey, team: pilots.Team, plan: Plan, odd: np.ndarray) -> Plan:
    """The plan with factors on the step sizes of odd data, by pilots that follow each alone.

    Args:
      key: consumed.
      team: the pilots.
      plan: without these data, or with others.
      odd: indices of the data that need them.
    """
    if not len(odd):
        return plan
    settings = team.work.settings
    last = len(plan.step_sizes) - 1
    num_moves = min(_OWN_MOVES, last + 1)
    places = np.linspace(0, last, num_moves).round().astype(int)
    warm_up = np.zeros(_NUM_WARM_UP_MOVES)
    betas = np.concatenate([warm_up, plan.betas[1:-1][places]])
    places = np.concatenate([np.zeros(_NUM_WARM_UP_MOVES, int), places])
    knots = places / max(last, 1) * (NUM_KNOTS - 1)
    course = pilots.Course(
        betas,
        team.in_shape(plan.step_sizes[places]),
        pilots.OWN,
        persistences=_of_moves(plan, places),
    )
    kept = slice(_NUM_WARM_UP_MOVES, None)
    factors = []
    for chosen, num_kept in chunks.of(len(odd), team.num_pilot_data):
        search_key, check_key = jax.random.split(jax.random.fold_in(key, int(chosen[0])))
        indices = odd[chosen]
        found = team.send(search_key, indices, course)
        own = _at_knots(found.log_step_sizes[:, kept], knots[kept])
        for number in range(_NUM_CHECKS):
            log_factors = np.stack([np.interp(knots, np.arange(NUM_KNOTS), row) for row in own])
            found = team.send(
                jax.random.fold_in(check_key, number),
                indices,
                course._replace(rule=pilots.CHECK, log_factors=log_factors),
            )
            missed = np.minimum(found.acceptance - settings.target_acceptance, 0.0)
            own = own + _at_knots(np.nan_to_num(missed[:, kept]), knots[kept])
        factors.append(own[:num_kept])
    rows = row_names(chunks.select(team.x, odd))
    return plan._replace(
        rows=np.concatenate([plan.rows, rows]),
        log_factors=np.concatenate([plan.log_factors, *factors]),
    )


def _at_knots(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Means `[B, NUM_KNOTS]` of `[B, S]` around each knot, interpolated where there is none."""
    nearest = np.round(knots).astype(int)
    there = np.unique(nearest)
    means = np.stack([values[:, nearest == knot].mean(axis=1) for knot in there], axis=1)
    return np.stack([np.interp(np.arange(NUM_KNOTS), there, row) for row in means])


def row_names(x: PyTree) -> np.ndarray:
    """`[N]` digests of data, by which a plan knows them again."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    return np.array(
        [fingerprint.digest([leaf[i] for leaf in leaves]) for i in range(len(leaves[0]))]
    )


def log_factors_of(plan: Plan, x: PyTree) -> np.ndarray | None:
    """`[N, NUM_KNOTS]` on the step sizes of each datum; None where the plan has none for any."""
    if not len(plan.rows):
        return None
    own = dict(zip(plan.rows.tolist(), plan.log_factors, strict=True))
    names = row_names(x).tolist()
    if not any(name in own for name in names):
        return None
    return np.stack([own.get(name, np.zeros(NUM_KNOTS)) for name in names])
