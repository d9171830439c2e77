"""The posterior of a two-dimensional latent on a grid: exact, but for the grid's spacing."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

_COARSE_RADIUS = 6.0  # of the prior N(0, I), in which all but 1e-8 of it lies
_MARGIN = 2  # coarse cells around what holds mass
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


def posterior_on_grid(
    log_joint_fn: Callable[[chex.Array], chex.Array], *, num_cells: int = 200
) -> GridPosterior:
    """Evaluates p(x, z) on a grid that is laid around the posterior's mass.

    A coarse grid over the prior finds where the mass is, a fine one is laid there.

    Args:
      log_joint_fn: `[2] -> []`, log p(x, z) of one datum, nats, with the prior N(0, I).
      num_cells: N along each axis.
    """
    evaluate = jax.jit(jax.vmap(jax.vmap(log_joint_fn)))

    def log_joint_on(axes):
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return np.asarray(evaluate(jnp.asarray(points, jnp.float32)), np.float64)

    corner = np.full(2, _COARSE_RADIUS)
    coarse = _axes(-corner, corner, num_cells)
    values = log_joint_on(coarse)
    holds_mass = np.argwhere(values > values.max() - _NEGLIGIBLE)
    spacing = 2 * _COARSE_RADIUS / num_cells
    margin = (_MARGIN + 0.5) * spacing
    ends = [
        np.array([axis[i] for axis, i in zip(coarse, end(holds_mass, axis=0), strict=True)])
        for end in (np.min, np.max)
    ]
    axes = _axes(ends[0] - margin, ends[1] + margin, num_cells)
    values = log_joint_on(axes)
    weights = np.exp(values - values.max())
    area = float(np.prod([axis[1] - axis[0] for axis in axes]))
    return GridPosterior(
        axes=tuple(axes),
        density=weights / (weights.sum() * area),
        log_evidence=float(values.max() + np.log(weights.sum() * area)),
    )
