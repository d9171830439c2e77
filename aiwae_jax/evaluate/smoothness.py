"""Whether a log density is smooth on all of R^D, as far as some of its draws can tell."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_NUM_PATHS = 16
_NUM_POINTS = 256  # of each path
_OUTWARD = np.array([-3.0, -1.0, 1.0, 3.0])  # interquartile ranges
_SHARP = 0.1  # interquartile ranges that the outermost 2% of draws take, at an edge
_LEAST_FALL = 0.3  # nats, of a smooth density over as much again
_LEAST_JUMP = 0.2  # nats
_SHARE = 0.1  # of all that a gradient sums up to along a path


class Witnesses(NamedTuple):
    """Some draws of a density.

    Attributes:
      density: `(x, z) -> []`, its logarithm; a `Partial`.
      x: what each of them is given, leading axis W.
      z: `[W, D]`.
    """

    density: Partial
    x: PyTree
    z: np.ndarray


@jax.jit
def _moved(density, x, z, coordinate, steps):
    """Log densities `[W, K]` after steps `[W, K]` along a coordinate."""

    def one(x, z, steps):
        return jax.vmap(lambda step: density(x, z.at[coordinate].add(step)))(steps)

    return jax.vmap(one)(x, z, steps)


@jax.jit
def _paths(density, x, z):
    """Differences of the log density along paths between draws, and what its gradients sum to.

    Returns:
      `[P, 3]` difference, integral of the gradient, and of its absolute value; and the same of the
      slope and the second derivative.
    """

    def one(x, start, end):
        direction = end - start

        def slope(t):
            z = start + t * direction
            return jnp.vdot(jax.grad(lambda z: density(x, z))(z), direction)

        times = (jnp.arange(_NUM_POINTS, dtype=z.dtype) + 0.5) / _NUM_POINTS
        slopes, bends = jax.lax.map(
            lambda t: jax.jvp(slope, (t,), (jnp.ones_like(t),)), times, batch_size=32
        )
        first = jnp.stack(
            [density(x, end) - density(x, start), slopes.mean(), jnp.abs(slopes).mean()]
        )
        # From the first midpoint to the last.
        inner = 0.5 * (bends[1:] + bends[:-1]) / _NUM_POINTS
        second = jnp.stack([slopes[-1] - slopes[0], inner.sum(), jnp.abs(inner).sum()])
        return first, second

    return jax.vmap(one)(x, z, jnp.roll(z, 1, axis=0))


def roughness(witnesses: Witnesses, coordinates: Sequence[int], *, with_kinks: bool) -> str | None:
    """Says why identities of smooth densities need not hold; None where nothing was found.

    Args:
      witnesses: draws of the density.
      coordinates: along which edges are looked for.
      with_kinks: whether its second derivatives matter, too.
    """
    for coordinate in coordinates:
        if _has_edge(witnesses, coordinate):
            return f"its density ends at an edge along z[{coordinate}]"
    few: Any = jax.tree.map(lambda a: a[:_NUM_PATHS], (witnesses.x, witnesses.z))
    first, second = (
        np.asarray(a, np.float64)
        for a in processes.fetch(_paths(witnesses.density, few[0], jnp.asarray(few[1])))
    )
    if _is_broken(first, _LEAST_JUMP):
        return "its density jumps between two of its draws, or is infinite there"
    if with_kinks and _is_broken(second, _LEAST_JUMP):
        return "its gradient jumps between two of its draws"
    return None


def _is_broken(found: np.ndarray, least: float) -> bool:
    difference, integral, total = found.T
    most = least + _SHARE * np.maximum(total, np.abs(difference))
    is_off = ~(np.abs(difference - integral) <= most)  # and where it is NaN
    return bool(is_off.any())


def _has_edge(witnesses: Witnesses, coordinate: int) -> bool:
    """Whether the density vanishes beyond its draws, or they end where it does not fall."""
    z = np.asarray(witnesses.z, np.float64)
    along = z[:, coordinate]
    low, high = np.quantile(along, [0.25, 0.75])
    steps = np.broadcast_to(_OUTWARD * (high - low), (len(z), len(_OUTWARD)))
    if not np.isfinite(_values(witnesses, coordinate, steps)).all():
        return True
    for end, quantile in ((along.argmin(), 0.02), (along.argmax(), 0.98)):
        spread = along[end] - np.quantile(along, quantile)
        if abs(spread) > _SHARP * (high - low):
            continue
        steps = np.broadcast_to(np.array([0.0, spread]), (len(z), 2))
        here, beyond = _values(witnesses, coordinate, steps)[end]
        if not beyond < here - _LEAST_FALL:
            return True
    return False


def _values(witnesses: Witnesses, coordinate: int, steps: np.ndarray) -> np.ndarray:
    dtype = witnesses.z.dtype
    found = _moved(
        witnesses.density,
        witnesses.x,
        jnp.asarray(witnesses.z),
        np.int32(coordinate),
        steps.astype(dtype),
    )
    return np.asarray(processes.fetch(found), np.float64)
