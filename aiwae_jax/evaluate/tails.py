"""The tail index of the work: whether log p(x) rests on places that hardly any chain visits.

AIS weighs chains by the work log f_n - log f_0 that they meet. Where the target's tails are heavier
than the start's, that work has a power tail: 20 Cauchy densities from a normal, or the mouth of a
funnel. Chains reach such tails late or never, all alike, so that their weights agree with each
other and are too small; neither a standard error nor an effective sample size sees it. Two can:
the pilots, where they happened to meet the tail, and the densities themselves, far out.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, paths
from aiwae_jax.evaluate import chunks, compiling
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_SHARE = 0.2  # of a datum's values, that are its tail
_LEAST = 100  # values of all tails together that say anything
_LEAST_OF_ONE = 5  # values of one datum's tail, by whose mean it is measured
_PRIOR = 10.0  # values that a prior of index 0, an exponential tail, counts for
_FAR = 2.0 ** np.arange(18, 21)  # times the distance of two draws of the start; each twice the last
_MOST_DATA, _MOST_COORDINATES = 8, 64  # that are looked at far out
_LEAST_POWER = 0.1  # of a start that falls off faster than a power of the distance


def index(work: np.ndarray) -> float:
    """The index k of the upper tail of the work, P(work > u) ~ u^(-1/k); NaN of too few.

    0 or less of tails that fall off exponentially or faster, as those of normals; from 1 on the
    mean of the work, the Kullback-Leibler divergence from target to start, is infinite.

    Args:
      work: `[B, ...]` of B data, each of which has a tail of its own, measured by its own mean:
        tails of one index and of many lengths would seem heavier together than each of them is.
        What is not finite is left out.
    """
    tails = [_excesses(row[np.isfinite(row)]) for row in work.reshape(len(work), -1)]
    excesses = np.sort(np.concatenate(tails))
    return _pareto_index(excesses) if len(excesses) >= _LEAST else float("nan")


def _excesses(values: np.ndarray) -> np.ndarray:
    """By how much the largest values exceed the others, in units of the mean; none of too few."""
    num = int(_SHARE * len(values))
    if num < _LEAST_OF_ONE:
        return values[:0]
    values = np.sort(values)
    excesses = values[-num:] - values[-num - 1]
    return excesses[excesses > 0.0] / max(excesses.mean(), np.finfo(np.float64).tiny)


def _pareto_index(excesses: np.ndarray) -> float:
    """Of a generalized Pareto distribution, from sorted `[n]` (Zhang & Stephens 2009)."""
    num = len(excesses)
    num_points = 30 + int(np.sqrt(num))
    places = 1.0 - np.sqrt(num_points / (np.arange(num_points) + 0.5))
    points = places / (3.0 * excesses[int(num / 4 + 0.5) - 1]) + 1.0 / excesses[-1]
    indices = np.log1p(-points[:, None] * excesses).mean(axis=1)
    with np.errstate(over="ignore"):
        profile = num * (np.log(-points / indices) - indices - 1.0)
        shares = 1.0 / np.exp(profile - profile[:, None]).sum(axis=1)
    found = np.log1p(-np.sum(points * shares) * excesses).mean()
    return float(num * found / (num + _PRIOR))


def far_index(key: chex.PRNGKey, functions: PyTree, x: PyTree, chain_space: str) -> float:
    """The index k that the densities have far out, along coordinates and away from the middle.

    Where the target falls off as |z|^-(ν + d) along d dimensions, and the start as exp(-|z|^a), the
    work grows as |z|^a and P(work > u) ~ u^(-ν/a): k = a/ν. A target that falls off exponentially
    or faster has k = 0 in the end. NaN where nothing can be told: of a start that falls off as a
    power does itself, or where densities are not finite. A heavy tail in some direction that is no
    coordinate (of the chain's space), beside lighter ones in others, is not seen.

    Args:
      key: of the draws of the start, from which lines go out.
      functions: of the target.
      x: data `[N, ...]`, of which eight are looked at.
      chain_space: where the chains move.
    """
    num_data = checks.num_rows("x", x)
    indices = np.linspace(0, num_data - 1, min(num_data, _MOST_DATA)).round().astype(np.int32)
    place = chunks.Placement(len(indices))
    key, functions = place.replicate((key, functions))
    numbers, rows = place.split((indices, chunks.select(x, indices)))
    with jax.debug_nans(False):  # so far out NaN is no fault
        found = processes.fetch(_far_out(key, numbers, rows, functions, chain_space=chain_space))
    logs, num_dimensions = (np.asarray(a, np.float64) for a in found)

    # How each falls when the distance doubles twice: the start's power, and the target's order.
    with np.errstate(invalid="ignore", divide="ignore"):
        falls = -np.diff(logs, axis=2)
        power = np.log2(falls[..., 1, 0] / falls[..., 0, 0])
        order = falls[..., 1, 1] / np.log(2.0) - num_dimensions
        index = np.where(order > 0.0, power / order, np.inf)
    is_known = np.isfinite(order) & np.isfinite(power) & (power > _LEAST_POWER)
    is_known &= falls[..., 1, 1] != 0.0  # of a floor under the density nothing can be told
    return float(np.max(index[is_known], initial=0.0)) if is_known.any() else float("nan")


@compiling.jit(static_argnames="chain_space")
def _far_out(key, numbers, x, functions, *, chain_space):
    """Log f_0 and log f_n `[N, L, 3, 2]` on L lines at `_FAR`; along how many dimensions, `[N, L]`.

    Lines begin at a draw of the start, and are as long as the distance from another.
    """

    def of_datum(number, x):
        path = paths.SPACES[chain_space](*functions, x)
        middle, other = jax.vmap(path.sample)(jax.random.split(jax.random.fold_in(key, number)))
        some = np.linspace(0, middle.size - 1, min(middle.size, _MOST_COORDINATES)).round()
        away = other - middle
        ahead = jnp.concatenate([jnp.diag(away)[some.astype(int)], away[None]])
        lines = jnp.concatenate([ahead, -ahead])
        num_dimensions = jnp.tile(jnp.append(jnp.ones(len(some)), middle.size), 2)

        def logs_at(line, distance):
            z = middle + distance * line
            return jnp.stack([path.log_initial(z), path.log_target(z)])

        distances = jnp.asarray(_FAR, middle.dtype)
        # Line by line: a model may need much memory for each place.
        logs = jax.lax.map(lambda line: jax.vmap(lambda far: logs_at(line, far))(distances), lines)
        return logs, num_dimensions

    return jax.vmap(of_datum)(numbers, x)
