"""What a data set is: grey levels, checked whole before anything is trained on them."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import support


class DataError(ValueError):
    """Data that is missing, corrupt or not what its name says; the message is one clear line."""


class Dataset(NamedTuple):
    """Images as grey levels.

    Attributes:
      name: one of `NAMES`.
      title: what to call it beside a number; a stand-in is named here.
      train: `[N, X]` uint8 levels or float32 in [0, 1], row by row.
      test: `[M, X]` likewise.
      train_labels: `[N]` ints, or None.
      test_labels: `[M]` ints, or None.
      max_level: the level that stands for a probability of 1.
      image_shape: (height, width).
      source: where it came from, for the report.
      is_stand_in: whether its numbers are not comparable with the papers' on the same name.
    """

    name: str
    title: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    max_level: float
    image_shape: tuple[int, int]
    source: str
    is_stand_in: bool = False

    def mean_image(self) -> np.ndarray:
        """Mean training image `[X]` in [0, 1]."""
        return (self.train.mean(axis=0, dtype=np.float64) / self.max_level).astype(np.float32)


def binarize(key: chex.PRNGKey, levels: chex.Array, max_level: float) -> chex.Array:
    """Draws each pixel as 1 with probability level / max_level, as floats of the same shape.

    What is no level, NaN or outside [0, max_level], gives NaN: training leaves such a datum out and
    says so.

    Raises:
      ValueError: for such levels in a NumPy array, or a `max_level` that is not positive.
    """
    if not isinstance(max_level, jax.core.Tracer) and not 0.0 < max_level < math.inf:
        raise ValueError(f"`max_level` must be positive and finite, got {max_level}.")
    if isinstance(levels, np.ndarray):  # which the host can look at without waiting for a device
        support.check_levels(levels, max_level, name="levels")
    noise = jax.random.uniform(key, levels.shape)
    probabilities = levels.astype(noise.dtype) / max_level
    is_level = (probabilities >= 0.0) & (probabilities <= 1.0 + support.ROUNDING)
    return jnp.where(is_level, (noise < probabilities).astype(noise.dtype), jnp.nan)


def check(dataset: Dataset) -> None:
    """Refuses a data set that could not be trained on, measured or drawn.

    Raises:
      DataError: naming the field, what it must be, and what it is.
      TypeError: for what is no `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"`dataset` must be a `data.Dataset`, got {type(dataset).__name__}.")
    max_level = dataset.max_level
    if not _is_number(max_level) or not 0.0 < max_level < math.inf:
        raise DataError(f"`max_level` must be a positive, finite number, got {max_level!r}.")
    for name in ("train", "test"):
        _check_images(getattr(dataset, name), name, max_level)
    size = dataset.train.shape[1]
    if dataset.test.shape[1] != size:
        raise DataError(
            f"`test` must have as many pixels as `train`, got {dataset.test.shape[1]} beside "
            f"{size}."
        )
    highest = dataset.train.max()
    if highest == dataset.train.min():
        raise DataError(f"`train` must not be blank, but each of its pixels is {highest:g}.")
    if highest <= 1 < max_level:  # of whole levels; fractions have been refused before
        raise DataError(
            f"`train` must use the levels up to `max_level`={max_level:g}, got none above "
            f"{highest:.4g}; is `max_level` 1?"
        )
    shape = dataset.image_shape
    is_shape = isinstance(shape, tuple | list) and len(shape) == 2
    if not is_shape or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise DataError(f"`image_shape` must be (height, width), got {shape!r}.")
    if math.prod(shape) != size:
        raise DataError(
            f"`image_shape` must hold the {size} pixels of an image, got {tuple(shape)}, which "
            f"holds {math.prod(shape)}."
        )
    for name in ("train", "test"):
        labels, num_images = getattr(dataset, f"{name}_labels"), len(getattr(dataset, name))
        if labels is not None and np.shape(labels) != (num_images,):
            raise DataError(
                f"`{name}_labels` must have shape [{num_images}], one for each image of `{name}`, "
                f"or be None; got {list(np.shape(labels))}."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_images(images: Any, name: str, max_level: float) -> None:
    if not isinstance(images, np.ndarray | jax.Array):
        raise DataError(
            f"`{name}` must be an array of images, row by row; got {type(images).__name__}."
        )
    if images.ndim != 2 or 0 in images.shape:
        raise DataError(
            f"`{name}` must have shape [images, pixels], with at least one of each; got "
            f"{list(images.shape)}."
        )
    try:
        support.check_levels(images, max_level, name=name)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None
