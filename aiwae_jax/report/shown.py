"""What pictures are made of: a model, its data, and what was measured; computed once for all."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import data
from aiwae_jax.evaluate import posterior
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.images import Images
from aiwae_jax.train import of_rows
from aiwae_jax.types import Model, PyTree

ACTIVE = 0.01  # variance of a unit's posterior mean from which on it is active, the paper's

_Made = TypeVar("_Made")


@dataclass(frozen=True, eq=False)
class Shown:
    """Material of the pictures.

    Attributes:
      folder: of the pictures.
      dataset: its data.
      model: its model.
      theta: of one model.
      start: x -> what its evaluation started from.
      images: those that were evaluated, binarized; None where nothing of single data is shown.
      records: of the training's metrics.
      arrays: of evaluation.npz; without them what was measured is left out.
      move: how its training moved chains.
      evaluation: its settings.
      best_epoch: of the weights that validation chose, or None.
      parts: what the parts of a curriculum are called, in their order.
    """

    folder: pathlib.Path
    dataset: data.Dataset
    model: Model
    theta: PyTree
    start: Partial
    images: Images | None
    records: Sequence[dict[str, Any]]
    arrays: dict[str, np.ndarray]
    move: str
    evaluation: Evaluation
    best_epoch: float | None = None
    parts: Sequence[str] = ()
    _kept: dict[Callable, Any] = field(default_factory=dict, repr=False)

    def once(self, make: Callable[["Shown"], _Made]) -> _Made:
        """What `make` makes of this, made at the first call: several pictures are of it."""
        if make not in self._kept:
            self._kept[make] = make(self)
        return self._kept[make]

    @property
    def noun(self) -> str:
        """What several data are called."""
        return noun_of(self.dataset)

    @property
    def has_images(self) -> bool:
        """Whether a datum is an image."""
        return self.images is not None and self.dataset.image_shape is not None

    @property
    def has_means(self) -> bool:
        """Whether the model's mean of a datum can be drawn as an image."""
        return self.has_images and self.model.likelihood is not None

    @property
    def is_binary(self) -> bool:
        """Whether latents are bits."""
        return self.model.latents == "binary"

    def shades(self, images: Any) -> np.ndarray:
        """Shades in [0, 1]: of levels that a model sees as they are, the share of white."""
        images = np.asarray(images)[..., : self.dataset.num_modelled]
        if self.dataset.max_level is not None:
            return images
        low, high = self._range
        return np.clip((images - low) / (high - low), 0.0, 1.0)

    @functools.cached_property
    def _range(self) -> tuple[float, float]:
        train = self.dataset.modelled.train
        return min(float(train.min()), 0.0), max(float(train.max()), 1.0)

    @property
    def is_ink(self) -> bool:
        """Whether 1 is ink on paper, as in the named sets; in images of one's own it is light."""
        return self.dataset.name in data.NAMES

    @functools.cached_property
    def latent_means(self) -> np.ndarray | None:
        """Means `[N, D]` of q(z|x) for all test data, as the report's active units are of."""
        if self.images is None:
            return None
        return np.asarray(posterior.posterior_means(self.start, self.images.all_test), np.float64)

    @property
    def latent_size(self) -> int | None:
        """D; None where nothing of single data is shown."""
        if self.images is None:
            return None
        return jax.eval_shape(lambda x: self.start(x).mean(), self.images.test[0]).shape[0]

    @functools.cached_property
    def most_active(self) -> np.ndarray:
        """Numbers of the active units, those whose mean varies most among the data first."""
        if self.latent_means is None:
            return np.arange(0)
        finite = self.latent_means[np.isfinite(self.latent_means).all(axis=1)]
        activity = finite.var(axis=0) if len(finite) else np.zeros(self.latent_means.shape[1])
        order = np.argsort(-activity, kind="stable")
        return order[activity[order] > ACTIVE]

    @property
    def test_images(self) -> np.ndarray:
        """Those of the test set that were evaluated, `[N, X]`."""
        return self.images.test

    def mean_image(self, z: jax.Array, x: jax.Array) -> jax.Array:
        """The mean of what is modelled of x `[X]`, beside the part of x that is given."""
        return of_rows.beside_what_is_given(self.model.likelihood(self.theta, z), x)

    def means_of(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Mean images `[N, X]` of p(x|z) at `z` `[N, D]`, beside what is given of `x` `[N, X]`."""
        function = Partial(self.model.likelihood, self.theta)
        return of_rows.in_pieces("pictures", _means, function, (np.asarray(z), np.asarray(x)))

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """Labels of all test data."""
        labels = self.dataset.test_labels
        return None if labels is None else np.asarray(labels)

    def label_of(self, index: int) -> str:
        """The label of one of the test data, in words."""
        if self.labels is None:
            return ""
        label, names = self.labels[index], self.dataset.label_names
        return str(label if names is None else names[int(label)])


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def _means(likelihood, rows):
    z, x = rows
    return of_rows.beside_what_is_given(likelihood(z), x)


def noun_of(dataset: data.Dataset) -> str:
    """What several data of a data set are called."""
    return "rows" if dataset.image_shape is None else "images"


def draw_latents(start: Partial, key: jax.Array, x: np.ndarray) -> np.ndarray:
    """One draw of q(z|x) `[N, D]` for each of rows `x` `[N, X]`."""
    keys = jax.random.split(key, (len(x), 1))
    return of_rows.in_pieces("pictures", of_rows.draws, start, (x, keys))[:, 0]
