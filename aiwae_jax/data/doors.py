"""Where arrays become a data set: looked at whole, before anything is trained on them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax import row_weights, support
from aiwae_jax.data import conditions, finite, on_disk, rounding
from aiwae_jax.data.dataset import DataError, Dataset

_NUM_COLOURS = 3


def from_arrays(
    train: np.ndarray,
    test: np.ndarray,
    *,
    train_labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    max_level: float | None = None,
    image_shape: tuple[int, ...] | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    label_names: Sequence[str] | None = None,
    name: str = "data",
    title: str | None = None,
    source: str = "arrays",
    missing: str | None = None,
    train_weights: np.ndarray | None = None,
    test_weights: np.ndarray | None = None,
    condition: str | Sequence[str] | None = None,
) -> Dataset:
    """Makes a data set of your own arrays, and looks at it.

    Args:
      train: `[N, X]`, or `[N, ...]`, whose rows are made flat.
      test: `[M, X]` likewise; what a report measures, and no model is trained on.
      train_labels: `[N]`, or None.
      test_labels: `[M]`, or None.
      max_level: for grey levels, the one that stands for a probability of 1 (255 of 8 bits): rows
        are drawn as bits anew at every use. By default a model sees the rows as they are.
      image_shape: (height, width), or (height, width, 3); by default the trailing axes of `train`
        where there are two, or three of which the last has length 3.
      columns: X names of the columns, no two alike; None for pixels, say.
      categories: of columns that are codes 0, 1, ...: column -> the names of the codes.
      label_names: of labels that are codes 0, 1, ...: the names of the codes.
      name: a word for it.
      title: what to call it in a report; by default the name.
      source: where it came from.
      missing: "at_random", where NaN is a value that was not observed, in arrays of floats of
        whatever kind of data; a model then needs a likelihood that is `likelihoods.masked`. By
        default NaN is refused.
      train_weights: `[N]`, see `with_weights`; or None.
      test_weights: `[M]`, likewise.
      condition: names of columns that a model is given, and does not model, or "label" for the
        labels; see `condition_on`. By default all columns are modelled.

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
        if image_shape is None:
            image_shape = image_shape_of(array)
        array = array.reshape(len(array), -1)
        if array.dtype != np.uint8:
            array = rounding.to_float32(array, f"`{part}`", _names(columns, array))
        arrays[part] = array
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
        label_names=None if label_names is None else tuple(map(str, label_names)),
        missing=missing,
    )
    if condition is not None:
        dataset = conditions.condition_on(dataset, condition)
    check(dataset)
    if train_weights is None and test_weights is None:
        return dataset
    return with_weights(dataset, train=train_weights, test=test_weights)


def with_weights(
    dataset: Dataset, *, train: np.ndarray | None = None, test: np.ndarray | None = None
) -> Dataset:
    """The same data with a weight for each row: what it counts for in objectives and means.

    Only ratios matter. A row of weight 0 is left out, as if it were not there.

    Args:
      dataset: from any door.
      train: `[N]`, at least 0; None, where all rows count alike.
      test: `[M]`, likewise.

    Raises:
      DataError: for weights that are negative or not finite, zeros alone, or of another number.
      TypeError: for what is no `Dataset`.
    """
    check(dataset)
    kept, given = {}, {"train": train, "test": test}
    for part, weights in given.items():
        if weights is None:
            kept[part] = np.arange(len(getattr(dataset, part)))
            continue
        found = _checked_weights(f"{part}_weights", weights, len(getattr(dataset, part)))
        kept[part] = np.flatnonzero(found)
        dataset = dataset._replace(**{f"{part}_weights": found})
    if all(len(rows) == len(getattr(dataset, part)) for part, rows in kept.items()):
        return dataset
    for part, rows in kept.items():
        if getattr(dataset, f"{part}_index") is None:
            whole = np.arange(len(getattr(dataset, part)))
            dataset = dataset._replace(**{f"{part}_index": whole})
        names = (part, f"{part}_labels", f"{part}_index", f"{part}_weights")
        of_rows = {name: getattr(dataset, name) for name in names}
        dataset = dataset._replace(
            **{n: a if a is None else on_disk.some(a, rows) for n, a in of_rows.items()}
        )
    check(dataset)
    return dataset


def _checked_weights(name: str, weights: Any, num_rows: int) -> np.ndarray:
    try:
        return row_weights.checked(name, weights, num_rows)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None


def image_shape_of(rows: np.ndarray) -> tuple[int, ...] | None:
    """(height, width), or (height, width, 3), of rows that are images: `[N, ...]`, not flat."""
    if rows.ndim == 4 and rows.shape[-1] == 1:
        return rows.shape[1:3]
    is_image = rows.ndim == 3 or (rows.ndim == 4 and rows.shape[-1] == _NUM_COLOURS)
    return rows.shape[1:] if is_image else None


def check(dataset: Dataset) -> None:
    """Refuses a data set that could not be trained on, measured or drawn.

    Raises:
      DataError: naming the field, what it must be, and what it is.
      ValueError: for an unknown `missing`.
      TypeError: for what is no `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"`dataset` must be a `data.Dataset`, got {type(dataset).__name__}.")
    finite.check_missing(dataset.missing)
    if dataset.condition:
        conditions.check(dataset)
        dataset = dataset.modelled
    max_level = dataset.max_level
    is_positive = _is_number(max_level) and 0.0 < max_level < math.inf
    if max_level is not None and not is_positive:
        raise DataError(
            f"`max_level` must be a positive, finite number, got {max_level!r}; None is for data "
            "that are no grey levels."
        )
    for name in ("train", "test"):
        _check_rows(dataset, name)
    size = dataset.train.shape[1]
    if dataset.test.shape[1] != size:
        raise DataError(
            f"`test` must have as many columns as `train`, got {dataset.test.shape[1]} beside "
            f"{size}."
        )
    rows = dataset.train
    if isinstance(rows, on_disk.Rows):
        lowest, highest = rows.min(), rows.max()
    else:
        rows = np.asarray(rows)
        lowest, highest = np.nanmin(rows), np.nanmax(rows)
    if dataset.missing:
        _check_known(rows, dataset.columns)
    if highest == lowest:
        raise DataError(f"`train` must not be blank, but each of its values is {highest:g}.")
    if (
        max_level is not None and highest <= 1 < max_level
    ):  # of whole levels; fractions have been refused before
        raise DataError(
            f"`train` must use the levels up to `max_level`={max_level:g}, got none above "
            f"{highest:.4g}; is `max_level` 1?"
        )
    _check_shape(dataset.image_shape, size)
    _check_columns(dataset.columns, dataset.categories, size)
    for name in ("train", "test"):
        labels, num_rows = getattr(dataset, f"{name}_labels"), len(getattr(dataset, name))
        if labels is not None and np.shape(labels) != (num_rows,):
            raise DataError(
                f"`{name}_labels` must have shape [{num_rows}], one for each row of `{name}`, "
                f"or be None; got {list(np.shape(labels))}."
            )
        if labels is not None and dataset.label_names is not None:
            _check_codes(np.asarray(labels), f"{name}_labels", len(dataset.label_names))
        weights = getattr(dataset, f"{name}_weights")
        if weights is not None and not _checked_weights(f"{name}_weights", weights, num_rows).all():
            raise DataError(
                f"`{name}_weights` must be positive: `data.with_weights` leaves out the rows of "
                "weight 0."
            )


def _check_known(rows: np.ndarray | on_disk.Rows, columns: Sequence[str] | None) -> None:
    """Refuses a column of which nothing is known."""
    if isinstance(rows, on_disk.Rows):  # a row of what there is says as much
        rows = rows.values.low[None]
    try:
        support.check_known_columns(rows, name="train", columns=_names(columns, rows))
    except ValueError as error:
        raise DataError(str(error)) from None


def _check_codes(labels: np.ndarray, name: str, num_names: int) -> None:
    is_code = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < num_names
    if not is_code:
        raise DataError(
            f"`{name}` must be codes 0 to {num_names - 1} of the {num_names} `label_names`, got "
            f"{labels.dtype} from {labels.min()} to {labels.max()}."
        )


def _check_shape(shape: Any, size: int) -> None:
    if shape is None:
        return
    is_shape = isinstance(shape, tuple | list) and len(shape) in (2, 3)
    if not is_shape or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise DataError(
            f"`image_shape` must be (height, width), or (height, width, 3) of colours; got "
            f"{shape!r}."
        )
    if len(shape) == 3 and shape[2] != _NUM_COLOURS:
        raise DataError(f"`image_shape` must have 3 colours where it has any, got {tuple(shape)}.")
    if math.prod(shape) != size:
        raise DataError(
            f"`image_shape` must hold the {size} columns of a row, got {tuple(shape)}, which "
            f"holds {math.prod(shape)}."
        )


def _check_columns(columns: Any, categories: Any, size: int) -> None:
    unknown = [name for name in categories or () if name not in (columns or ())]
    if unknown:
        raise DataError(f"`categories` must be of named `columns`, got {unknown[0]!r}.")
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


def _names(columns: Sequence[str] | None, rows: np.ndarray) -> Sequence[str] | None:
    """The names of columns, where they are as many; else that is refused in its turn."""
    return None if columns is None or len(columns) != rows.shape[1] else columns


def _check_rows(dataset: Dataset, name: str) -> None:
    rows, max_level = getattr(dataset, name), dataset.max_level
    if not isinstance(rows, np.ndarray | jax.Array | on_disk.Rows):
        raise DataError(f"`{name}` must be an array of rows; got {type(rows).__name__}.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise DataError(
            f"`{name}` must have shape [rows, columns], with at least one of each; got "
            f"{list(rows.shape)}."
        )
    if isinstance(rows, on_disk.Rows):  # whose numbers were looked at when they were opened
        if max_level is None:
            return
        low, high, is_whole = rows.min(), rows.max(), rows.values.is_whole.all()
        rows = np.array([low, high, high if is_whole else 0.5 * (low + high)])
    if max_level is None:
        array = np.asarray(rows)
        if array.dtype.kind not in "biuf":
            raise DataError(f"`{name}` must hold numbers, got {array.dtype}.")
        columns = _names(dataset.columns, array)
        finite.check(array, f"`{name}`", missing=dataset.missing, columns=columns)
        return
    if dataset.missing:
        rows = np.where(np.isnan(rows), 0.0, rows)
    try:
        support.check_levels(rows, max_level, name=name)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None
