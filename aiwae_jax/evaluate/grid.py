"""The posterior of a two-dimensional latent on a grid: exact, but for the grid's spacing."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks

_FIRST_RADIUS = 6.0  # of the prior N(0, I), in which all but 1e-8 of it lies
_MOST_GRIDS = 12
_MARGIN = 2  # cells around what holds mass
_NEGLIGIBLE = 12.0  # nats below the mode


class GridPosterior(NamedTuple):
    """p(z|x) of one datum at the centres of the cells of a grid.

    Attributes:
      axes: two vectors `[N]`, the grid's coordinates z_1 and z_2.
      density: `[N, N]`, density[i, j] at (axes[0][i], axes[1][j]); sums to 1 / area of a cell.
      log_evidence: log p(x), nats, by the same sum.
    """

    axes: tuple[np.ndarray, np.ndarray]
    density: np.ndarray
    log_evidence: float

    @property
    def cell_area(self) -> float:
        """Of each cell."""
        return float(np.prod([axis[1] - axis[0] for axis in self.axes]))

    def points(self) -> np.ndarray:
        """Centres `[N, N, 2]`."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `[2]` and covariance `[2, 2]`."""
        mass = self.density * self.cell_area
        points = self.points()
        mean = np.einsum("ij,ijd->d", mass, points)
        centred = points - mean
        return mean, np.einsum("ij,ijd,ije->de", mass, centred, centred)

    def divergence_from_gaussian(self) -> float:
        """KL(p(z|x) || N(mean, covariance)) in nats: 0 for a Gaussian posterior.

        The Gaussian with the posterior's own moments is the nearest one in this direction.
        """
        mean, covariance = self.moments()
        centred = self.points() - mean
        mahalanobis = np.einsum("ijd,de,ije->ij", centred, np.linalg.inv(covariance), centred)
        log_normal = -0.5 * mahalanobis - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
        log_ratio = np.log(np.maximum(self.density, np.finfo(np.float64).tiny)) - log_normal
        return float(np.sum(self.density * self.cell_area * log_ratio))


def _axes(lowest: np.ndarray, highest: np.ndarray, num_cells: int) -> list[np.ndarray]:
    """Centres of `num_cells` cells between two corners, along each axis."""
    shares = (np.arange(num_cells) + 0.5) / num_cells
    return [low + (high - low) * shares for low, high in zip(lowest, highest, strict=True)]


@jax.jit
def _evaluate(log_joint_fn: Partial, points: chex.Array) -> chex.Array:
    return jax.vmap(jax.vmap(log_joint_fn))(points)


def posterior_on_grid(
    log_joint_fn: Callable[[chex.Array], chex.Array], *, num_cells: int = 200
) -> GridPosterior:
    """Evaluates p(x, z) on a grid that is laid around the posterior's mass.

    The grid begins around the prior, grows where the mass lies at its edge, and shrinks to where
    the mass is.

    Args:
      log_joint_fn: `[2] -> []`, log p(x, z) of one datum, nats, with a prior near N(0, I). As a
        `Partial` with its parameters it is compiled once for all data.
      num_cells: N along each axis.

    Raises:
      ValueError: if no grid could be laid around the mass; for a function of another shape, or one
        that is NaN or +inf.
      TypeError: for no function, or a count that is no integer.
    """
    num_cells = checks.integer("num_cells", num_cells, least=2)
    checks.log_density("log_joint_fn", log_joint_fn, jnp.zeros(2))
    log_joint_fn = log_joint_fn if isinstance(log_joint_fn, Partial) else Partial(log_joint_fn)
    low, high = np.full(2, -_FIRST_RADIUS), np.full(2, _FIRST_RADIUS)
    for _ in range(_MOST_GRIDS):
        axes = _axes(low, high, num_cells)
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        values = np.asarray(_evaluate(log_joint_fn, jnp.asarray(points, float)), np.float64)
        if np.isnan(values).any() or not np.isfinite(values.max()):
            raise ValueError(
                f"`log_joint_fn` is NaN or infinite at {np.sum(~np.isfinite(values))} of "
                f"{values.size} points of a grid from {low.tolist()} to {high.tolist()}; is there "
                "a NaN in its datum or in its parameters?"
            )
        holds_mass = np.argwhere(values > values.max() - _NEGLIGIBLE)
        first, last = holds_mass.min(axis=0), holds_mass.max(axis=0)
        spacing = (high - low) / num_cells
        if np.any(first == 0) or np.any(last == num_cells - 1):
            low, high = low - (high - low) / 2, high + (high - low) / 2
        elif np.any(last - first < num_cells / 2):
            low, high = low + (first - _MARGIN) * spacing, low + (last + 1 + _MARGIN) * spacing
        else:
            break
    else:
        raise ValueError(
            f"`log_joint_fn` has no posterior that a grid of {num_cells} x {num_cells} cells can "
            "hold: its mass reaches the edge of every grid, or is too narrow."
        )
    weights = np.exp(values - values.max())
    area = float(np.prod(spacing))
    return GridPosterior(
        axes=tuple(axes),
        density=weights / (weights.sum() * area),
        log_evidence=float(values.max() + np.log(weights.sum() * area)),
    )
