"""Data sets: rows of numbers, checked whole before anything is trained on them."""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import support
from aiwae_jax.data import kinds


class DataError(ValueError):
    """Data that is missing, corrupt or not what its name says; the message is one clear line."""


class Dataset(NamedTuple):
    """Training and test data, a row each; `from_arrays` makes one.

    Attributes:
      name: a word for it, for folders; of the named sets one of `NAMES`.
      title: what to call it beside a number; a stand-in is named here.
      train: `[N, X]`, uint8 levels or float32 row by row.
      test: `[M, X]` likewise.
      train_labels: `[N]` ints, or None.
      test_labels: `[M]` ints, or None.
      max_level: the level that stands for a probability of 1: data are grey levels, and drawn as
        bits anew at every use. None for data that a model sees as they are.
      image_shape: (height, width), or None for what is no image.
      source: where it came from, for the report.
      is_stand_in: whether its numbers are not comparable with the papers' on the same name.
      columns: X names of the columns, or None for what has none (pixels).
      categories: column -> the names of its codes 0, 1, ..., of columns that held words.
      origin: what `reload` needs to load it again, or None.
      train_index: `[N]` the rows of the file that training rows are, where it was split here.
      test_index: `[M]` likewise.
    """

    name: str
    title: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    max_level: float | None = None
    image_shape: tuple[int, int] | None = None
    source: str = ""
    is_stand_in: bool = False
    columns: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[str, ...]] | None = None
    origin: Mapping[str, Any] | None = None
    train_index: np.ndarray | None = None
    test_index: np.ndarray | None = None

    def mean_image(self) -> np.ndarray:
        """Mean training row `[X]`; in [0, 1], of bits and grey levels."""
        mean = self.train.mean(axis=0, dtype=np.float64)
        return (mean / (self.max_level or 1.0)).astype(np.float32)

    @property
    def values(self) -> kinds.Values:
        """What the numbers of all rows are, column by column."""
        return kinds.look(self.train).join(kinds.look(self.test))

    @property
    def kind(self) -> str:
        """One of `kinds.KINDS`: "bits", "grey", "counts", "real", "categories" or "mixed".

        "mixed" is of categories beside numbers; `kinds_of_columns` says which is which.
        """
        return self._kind(self.values)

    def _kind(self, values: kinds.Values) -> str:
        if self.categories:
            return "categories" if len(self.categories) == self.train.shape[1] else "mixed"
        is_image = self.image_shape is not None
        has_names = self.columns is not None
        return kinds.kind_of(
            values, max_level=self.max_level, has_names=has_names, is_image=is_image
        )

    @property
    def kinds_of_columns(self) -> tuple[str, ...]:
        """The kind of every column by itself."""
        named = self.categories or {}
        columns = self.columns or [""] * self.train.shape[1]
        return kinds.kinds_of_columns(self.values, [name in named for name in columns])

    def as_bits(self) -> "Dataset":
        """The same, where a model is to see bits: grey levels are drawn as bits at every use.

        Raises:
          DataError: for values that are neither.
        """
        kind, values = self.kind, self.values
        if kind == "bits" or self.max_level is not None:
            return self
        if kind != "grey":
            raise DataError(
                f"`dataset` must hold bits or grey levels to be drawn as bits; {self.title} has "
                f"{kinds.sentence(kind, values)}."
            )
        return self._replace(max_level=kinds.white(values))

    def in_words(self) -> str:
        """Says what the values are taken for, and which likelihood fits."""
        values = self.values
        return kinds.sentence(self._kind(values), values)

    @property
    def batch_fn(self) -> Callable[[chex.PRNGKey, chex.Array], chex.Array]:
        """`batch_fn(key, rows)`, what a model sees of them: levels as bits, all else as floats."""
        return functools.partial(_draw, max_level=self.max_level)

    def describe(self) -> dict[str, Any]:
        """Describes the data for the files of a run; the checksum is of the arrays themselves."""
        digest = hashlib.sha256()
        for rows in (self.train, self.test):
            digest.update(np.ascontiguousarray(rows).tobytes())
        found = {
            "name": self.name,
            "kind": self.kind,
            "max_level": self.max_level,
            "title": self.title,
            "source": self.source,
            "is_stand_in": self.is_stand_in,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "sha256": digest.hexdigest(),
        }
        more = {"columns": self.columns, "categories": self.categories, "origin": self.origin}
        return found | {name: value for name, value in more.items() if value is not None}

    def differences(self, described: Mapping[str, Any]) -> list[str]:
        """How the data differ from what an earlier `describe` said of them, in words."""
        here = self.describe()
        title = described["title"]
        found = []
        if here["sha256"] != described["sha256"]:
            found.append(f"data: {title} of another content")
        for name in ("train_images", "test_images", "max_level"):
            if name in described and described[name] != here[name]:
                found.append(f"data: {name} {described[name]} there, {here[name]} here")
        return found


def _draw(key: chex.PRNGKey, rows: chex.Array, *, max_level: float | None) -> chex.Array:
    return as_floats(rows) if max_level is None else binarize(key, rows, max_level)


def as_floats(rows: chex.Array) -> chex.Array:
    """The same numbers in JAX's floating-point type."""
    return jnp.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float))


def from_arrays(
    train: np.ndarray,
    test: np.ndarray,
    *,
    train_labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    max_level: float | None = None,
    image_shape: tuple[int, int] | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    name: str = "data",
    title: str | None = None,
    source: str = "arrays",
) -> Dataset:
    """Makes a data set of your own arrays, and looks at it.

    Args:
      train: `[N, X]`, or `[N, ...]`, whose rows are made flat.
      test: `[M, X]` likewise; what a report measures, and no model is trained on.
      train_labels: `[N]`, or None.
      test_labels: `[M]`, or None.
      max_level: for grey levels, the one that stands for a probability of 1 (255 of 8 bits): rows
        are drawn as bits anew at every use. By default a model sees the rows as they are.
      image_shape: (height, width), by default the trailing axes of `train` where there are two.
      columns: X names of the columns, no two alike; None for pixels, say.
      categories: of columns that are codes 0, 1, ...: column -> the names of the codes.
      name: a word for it.
      title: what to call it in a report; by default the name.
      source: where it came from.

    Raises:
      DataError: for arrays that could not be trained on or measured.
    """
    arrays = {}
    for part, rows in (("train", train), ("test", test)):
        try:
            array = np.asarray(rows)
        except (TypeError, ValueError) as error:
            raise DataError(f"`{part}` must be an array of rows; got {error}.") from None
        if array.ndim < 2:
            raise DataError(f"`{part}` must have shape [rows, columns], got {list(array.shape)}.")
        if array.dtype.kind not in "biuf":
            raise DataError(f"`{part}` must hold numbers, got {array.dtype}.")
        if not array.size:
            raise DataError(f"`{part}` must hold at least one row, got shape {list(array.shape)}.")
        if array.ndim == 3 and image_shape is None:
            image_shape = array.shape[1:]
        array = array.reshape(len(array), -1)
        is_narrow = array.dtype == np.uint8 or array.dtype == np.float32
        arrays[part] = array if is_narrow else array.astype(np.float32)
    dataset = Dataset(
        name=name,
        title=title or name,
        train=arrays["train"],
        test=arrays["test"],
        train_labels=None if train_labels is None else np.asarray(train_labels),
        test_labels=None if test_labels is None else np.asarray(test_labels),
        max_level=float(max_level) if _is_number(max_level) else max_level,
        image_shape=None if image_shape is None else tuple(image_shape),
        source=source,
        columns=None if columns is None else tuple(map(str, columns)),
        categories=None if categories is None else {n: tuple(c) for n, c in categories.items()},
    )
    check(dataset)
    return dataset


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
    is_positive = _is_number(max_level) and 0.0 < max_level < math.inf
    if max_level is not None and not is_positive:
        raise DataError(
            f"`max_level` must be a positive, finite number, got {max_level!r}; None is for data "
            "that are no grey levels."
        )
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
    if (
        max_level is not None and highest <= 1 < max_level
    ):  # of whole levels; fractions have been refused before
        raise DataError(
            f"`train` must use the levels up to `max_level`={max_level:g}, got none above "
            f"{highest:.4g}; is `max_level` 1?"
        )
    _check_shape(dataset.image_shape, size)
    _check_columns(dataset.columns, size)
    for name in ("train", "test"):
        labels, num_images = getattr(dataset, f"{name}_labels"), len(getattr(dataset, name))
        if labels is not None and np.shape(labels) != (num_images,):
            raise DataError(
                f"`{name}_labels` must have shape [{num_images}], one for each image of `{name}`, "
                f"or be None; got {list(np.shape(labels))}."
            )


def _check_shape(shape: Any, size: int) -> None:
    if shape is None:
        return
    is_shape = isinstance(shape, tuple | list) and len(shape) == 2
    if not is_shape or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise DataError(f"`image_shape` must be (height, width), got {shape!r}.")
    if math.prod(shape) != size:
        raise DataError(
            f"`image_shape` must hold the {size} pixels of an image, got {tuple(shape)}, which "
            f"holds {math.prod(shape)}."
        )


def _check_columns(columns: Any, size: int) -> None:
    if columns is None:
        return
    if len(columns) != size:
        raise DataError(
            f"`columns` must name each of the {size} columns, got {len(columns)} names."
        )
    twice = [name for i, name in enumerate(columns) if name in columns[:i]]
    if twice:
        raise DataError(f"`columns` must differ from each other, got {twice[0]!r} twice.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_images(images: Any, name: str, max_level: float | None) -> None:
    if not isinstance(images, np.ndarray | jax.Array):
        raise DataError(
            f"`{name}` must be an array of images, row by row; got {type(images).__name__}."
        )
    if images.ndim != 2 or 0 in images.shape:
        raise DataError(
            f"`{name}` must have shape [images, pixels], with at least one of each; got "
            f"{list(images.shape)}."
        )
    if max_level is None:
        if not np.isfinite(as_numbers := np.asarray(images)).all():
            row = int(np.flatnonzero(~np.isfinite(as_numbers).all(axis=1))[0])
            raise DataError(f"`{name}` must be finite everywhere, and is not in row {row}.")
        return
    try:
        support.check_levels(images, max_level, name=name)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None
