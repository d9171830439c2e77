"""Data sets: rows of numbers, checked whole before anything is trained on them."""

import functools
import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import row_weights, support
from aiwae_jax.data import kinds, on_disk
from aiwae_jax.data.errors import DataError


class Dataset(NamedTuple):
    """Training and test data, a row each; `from_arrays` makes one.

    Attributes:
      name: a word for it, for folders; of the named sets one of `NAMES`.
      title: what to call it beside a number; a stand-in is named here.
      train: `[N, X]`, uint8 levels or float32 row by row; an array, or `on_disk.Rows`.
      test: `[M, X]` likewise.
      train_labels: `[N]` numbers, or codes of `label_names`; or None.
      test_labels: `[M]` likewise.
      max_level: the level that stands for a probability of 1: data are grey levels, and drawn as
        bits anew at every use. None for data that a model sees as they are.
      image_shape: (height, width), with a 3 after them of colours; None for what is no image.
      source: where it came from, for the report.
      is_stand_in: whether its numbers are not comparable with the papers' on the same name.
      columns: X names of the columns, or None for what has none (pixels).
      categories: column -> the names of its codes 0, 1, ..., of columns that held words.
      origin: what `reload` needs to load it again, or None.
      train_index: `[N]` the rows of the file that training rows are, where it was split here; or of
        the arrays, where some of their rows have weight 0.
      test_index: `[M]` likewise.
      label_names: the names of the labels' codes 0, 1, ..., where labels are codes.
      missing: what NaN is, one of `finite.MISSING`: "at_random", a value that was not observed;
        None of data that are all there.
      train_weights: `[N]` positive, what each training row counts for in objectives and means; or
        None, where all count alike.
      test_weights: `[M]` likewise, in means.
      condition: names of the last columns, which a model is given and does not model; codes, where
        `categories` has their names. `conditions.condition_on` puts them there.
    """

    name: str
    title: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    max_level: float | None = None
    image_shape: tuple[int, ...] | None = None
    source: str = ""
    is_stand_in: bool = False
    columns: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[str, ...]] | None = None
    origin: Mapping[str, Any] | None = None
    train_index: np.ndarray | None = None
    test_index: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    missing: str | None = None
    train_weights: np.ndarray | None = None
    test_weights: np.ndarray | None = None
    condition: tuple[str, ...] = ()

    @property
    def num_given(self) -> int:
        """How many of the last columns are the condition."""
        return len(self.condition)

    @property
    def classes_given(self) -> dict[str, tuple[str, ...] | None]:
        """The columns of the condition -> the names of their classes, None of numbers."""
        return classes_of(self._asdict())

    @property
    def num_modelled(self) -> int:
        """How many columns are modelled: all but those."""
        return self.train.shape[1] - self.num_given

    @property
    def modelled(self) -> "Dataset":
        """The columns that are modelled, by themselves."""
        if not self.condition:
            return self
        num = self.num_modelled
        categories = {n: c for n, c in (self.categories or {}).items() if n not in self.condition}
        return self._replace(
            train=self.train[:, :num],
            test=self.test[:, :num],
            columns=self.columns and self.columns[:num],
            categories=categories or None,
            condition=(),
        )

    def mean_image(self) -> np.ndarray:
        """Mean training row `[X]`, of what is there; in [0, 1], of bits and grey levels."""
        if isinstance(self.train, on_disk.Rows):
            return (self.train.moments[0] / (self.max_level or 1.0)).astype(np.float32)
        rows = np.asarray(self.train)
        if self.train_weights is not None:
            is_there = ~np.isnan(rows)
            weights = row_weights.relative(self.train_weights)[:, None] * is_there
            mean = np.sum(weights * np.where(is_there, rows, 0.0), axis=0) / weights.sum(axis=0)
        elif self.missing and np.isnan(rows).any():
            mean = np.nanmean(rows, axis=0, dtype=np.float64)
        else:
            mean = self.train.mean(axis=0, dtype=np.float64)
        mean[: self.num_modelled] /= self.max_level or 1.0
        return mean.astype(np.float32)

    @property
    def values(self) -> kinds.Values:
        """What the numbers of all rows are, column by column, of those that are modelled."""
        if self.condition:
            return self.modelled.values
        train, test = (
            rows.values if isinstance(rows, on_disk.Rows) else kinds.look(rows)
            for rows in (self.train, self.test)
        )
        return train.join(test)

    @property
    def kind(self) -> str:
        """One of `kinds.KINDS`: "bits", "grey", "counts", "real", "categories" or "mixed".

        "mixed" is of categories beside numbers; `kinds_of_columns` says which is which.
        """
        return self._kind(self.values)

    def _kind(self, values: kinds.Values) -> str:
        if self.condition:
            return self.modelled._kind(values)
        if self.categories:
            return "categories" if len(self.categories) == self.train.shape[1] else "mixed"
        is_image = self.image_shape is not None
        has_names = self.columns is not None
        return kinds.kind_of(
            values, max_level=self.max_level, has_names=has_names, is_image=is_image
        )

    @property
    def kinds_of_columns(self) -> tuple[str, ...]:
        """The kind of every column by itself, of those that are modelled."""
        if self.condition:
            return self.modelled.kinds_of_columns
        named = self.categories or {}
        columns = self.columns or [""] * self.train.shape[1]
        return kinds.kinds_of_columns(self.values, [name in named for name in columns])

    def as_bits(self) -> "Dataset":
        """The same, where a model is to see bits: grey levels are drawn as bits at every use.

        Raises:
          DataError: for values that are neither.
        """
        if self.max_level is not None:
            return self
        values = self.values
        kind = self._kind(values)
        if kind == "bits":
            return self
        if kind != "grey":
            raise DataError(
                f"{self.title} must be bits, or grey levels that are drawn as bits, for Bernoulli "
                f"pixels; it is {kinds.sentence(kind, values)}."
            )
        return self._replace(max_level=kinds.white(values))

    def in_words(self) -> str:
        """Says what the values are taken for, and which likelihood fits."""
        values = self.values
        return kinds.sentence(self._kind(values), values)

    @property
    def batch_fn(self) -> Callable[[chex.PRNGKey, chex.Array], chex.Array]:
        """`batch_fn(key, rows)`, what a model sees of them: levels as bits, all else as floats."""
        options = {"num_given": self.num_given} if self.condition else {}
        return functools.partial(_draw, max_level=self.max_level, **options)

    def describe(self) -> dict[str, Any]:
        """Describes the data for the files of a run; the checksum is of the arrays themselves."""
        digest = hashlib.sha256()
        for rows in (self.train, self.test):
            for _, chunk in on_disk.chunks_of(rows):
                digest.update(np.ascontiguousarray(chunk).tobytes())
        found = {
            "name": self.name,
            "kind": self.kind,
            "max_level": self.max_level,
            "title": self.title,
            "source": self.source,
            "is_stand_in": self.is_stand_in,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "image_shape": None if self.image_shape is None else list(self.image_shape),
            "sha256": digest.hexdigest(),
        }
        names = ("columns", "categories", "origin", "missing")
        more = {name: getattr(self, name) for name in names} | {"weights": self._describe_weights()}
        if self.condition:
            more["condition"] = list(self.condition)
        return found | {name: value for name, value in more.items() if value is not None}

    def _describe_weights(self) -> dict[str, Any] | None:
        """The checksum of all weights, and how many rows of one weight would say as much."""
        of_parts = {"train": self.train_weights, "test": self.test_weights}
        there = {part: weights for part, weights in of_parts.items() if weights is not None}
        if not there:
            return None
        digest = hashlib.sha256()
        for part, weights in there.items():
            digest.update(part.encode() + np.ascontiguousarray(weights, np.float64).tobytes())
        numbers = {part: row_weights.effective_number(weights) for part, weights in there.items()}
        return {"sha256": digest.hexdigest(), "effective_rows": numbers}

    def differences(self, described: Mapping[str, Any]) -> list[str]:
        """How the data differ from what an earlier `describe` said of them, in words."""
        here = self.describe()
        title = described["title"]
        found = []
        if here["sha256"] != described["sha256"]:
            found.append(f"data: {title} of another content")
        there, own = (each.get("weights") or {} for each in (described, here))
        if there.get("sha256") != own.get("sha256"):
            words = ["other" if each else "no" for each in (there, own)]
            found.append("data: {} weights of rows there, {} here".format(*words))
        for name in ("train_images", "test_images", "max_level"):
            if name in described and described[name] != here[name]:
                found.append(f"data: {name} {described[name]} there, {here[name]} here")
        given = [classes_of(each) for each in (described, here)]
        if list(given[0]) != list(given[1]):
            words = [", ".join(each) or "none" for each in given]
            found.append("data: condition {} there, {} here".format(*words))
        elif given[0] != given[1]:
            name = next(name for name in given[0] if given[0][name] != given[1][name])
            words = [", ".join(each[name] or ()) or "none" for each in given]
            found.append("data: classes of {!r} {} there, {} here".format(name, *words))
        return found


def classes_of(described: Mapping[str, Any]) -> dict[str, tuple[str, ...] | None]:
    """The columns of a condition -> the names of their classes, by `Dataset.describe`.

    None of a column of numbers; a folder of before there were conditions says nothing of one.
    """
    categories = described.get("categories") or {}
    found = {name: categories.get(name) for name in described.get("condition") or ()}
    return {name: tuple(words) if words else None for name, words in found.items()}


def _draw(
    key: chex.PRNGKey, rows: chex.Array, *, max_level: float | None, num_given: int = 0
) -> chex.Array:
    if max_level is None:
        return as_floats(rows)
    if not num_given:
        return binarize(key, rows, max_level)
    bits = binarize(key, rows[..., :-num_given], max_level)
    return jnp.concatenate([bits, as_floats(rows[..., -num_given:])], axis=-1)


def as_floats(rows: chex.Array) -> chex.Array:
    """The same numbers in JAX's floating-point type."""
    return jnp.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float))


def check_scale(x: np.ndarray, max_level: float) -> None:
    """Refuses fractions, and warns of bits, where levels go beyond 1: they would be blank.

    Raises:
      DataError: for the former.
    """
    known = x[np.isfinite(x)]
    if max_level <= 1.0 or not known.any() or known.min() < 0.0 or known.max() > 1.0:
        return
    if ((known > 0.0) & (known < 1.0)).any():
        raise DataError(
            f"`x` holds fractions up to 1, and the model was trained on levels up to "
            f"{max_level:g}: multiply them by {max_level:g}."
        )
    warnings.warn(
        f"`x` holds levels 0 and 1 of {max_level:g} alone, which are nearly black; if they are "
        "bits, pass floats or booleans.",
        stacklevel=4,
    )


def binarize(key: chex.PRNGKey, levels: chex.Array, max_level: float) -> chex.Array:
    """Draws each pixel as 1 with probability level / max_level, as floats of the same shape.

    What is no level, NaN or outside [0, max_level], gives NaN: training leaves such a datum out and
    says so, or where the model takes missing values such a pixel.

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
