"""Pictures of all test data together: how likely they are, and where they lie among the latents."""

import pathlib
from typing import NamedTuple

import numpy as np

from aiwae_jax.report import plots_of_data
from aiwae_jax.report.shown import Shown

_MOST_POINTS = 2_000


def histogram(shown: Shown, path: pathlib.Path) -> bool:
    """Draws the NLL of single data, of test and training data; False where none is known."""
    values, means = {}, {}
    for part, label in (("test", f"test {shown.noun}"), ("train", f"training {shown.noun}")):
        nll = shown.arrays.get(f"nll_{part}")
        if nll is not None and (is_finite := np.isfinite(nll)).any():
            weights = shown.arrays.get(f"weight_{part}", np.ones(len(nll)))
            values[label] = nll[is_finite]
            means[label] = np.average(nll[is_finite], weights=weights[is_finite])
    if not values:
        return False
    title = f"{shown.dataset.title}: NLL of single {shown.noun}"
    plots_of_data.histogram(
        path, values, title, means=means, unit=f"NLL of one {shown.noun[:-1]}, nats"
    )
    return True


class Plane(NamedTuple):
    """Latent means in two dimensions.

    Attributes:
      points: `[N, 2]`.
      index: `[N]` the test data that they are of.
      axis_labels: of both.
      share: of the means' variance that lies in this plane, where it is one of several.
    """

    points: np.ndarray
    index: np.ndarray
    axis_labels: tuple[str, str]
    share: float | None


def plane(shown: Shown) -> Plane | None:
    """The two latents, or of more the plane of their means' two principal components.

    None where latents are one or unused, or q was not trained: its means say nothing.
    """
    means = shown.latent_means
    if means is None or means.shape[1] < 2 or not len(shown.most_active):
        return None
    index = np.flatnonzero(np.isfinite(means).all(axis=1))
    places = index[:: max(1, -(-len(index) // _MOST_POINTS))]
    means, index = means[places], shown.images.all_index[places]
    if means.shape[1] == 2:
        return Plane(means, index, ("first latent", "second latent"), None)
    centred = means - means.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    if len(scales) < 2:
        return None
    shares = scales**2 / (scales**2).sum()
    labels = tuple(
        f"{name} principal component ({share:.0%} of the variance)"
        for name, share in zip(("first", "second"), shares, strict=False)
    )
    return Plane(centred @ axes[:2].T, index, labels, float(shares[:2].sum()))


def latents(shown: Shown, path: pathlib.Path) -> bool:
    """Draws them, coloured by their labels where there are some; False where there is no plane."""
    found = shown.once(plane)
    if found is None:
        return False
    plots_of_data.scatter(
        path,
        found.points,
        f"{shown.dataset.title}: latent means of test {shown.noun}",
        axis_labels=found.axis_labels,
        labels=None if shown.labels is None else shown.labels[found.index],
        names=shown.dataset.label_names,
    )
    return True
