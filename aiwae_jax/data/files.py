"""Files of your own as data sets: read by their kind, split where they are not, looked at."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from aiwae_jax import checks
from aiwae_jax.data import columns, finite, on_disk, readers, rounding
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.doors import check, from_arrays, image_shape_of
from aiwae_jax.data.readers import labels, tables
from aiwae_jax.data.readers.content import Content

TEST_SHARE = 0.2  # where nothing is said
_SPLIT_WORDS = "a share of {:g} of the rows is for testing, the same ones for every seed"
_SPLIT_SEED = 0  # the split is the data's, the same for every seed of training
_NAMED = {"label": "labels", "layer": "layers"}
_MOST_CATEGORIES = 256
_FEW_CATEGORIES = 10


def split_rows(num_rows: int, test_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are for training and which for testing, the same at every call.

    Args:
      num_rows: N, at least 2.
      test_share: of the rows that are for testing, above 0 and below 1; at least one is for each.

    Returns:
      train_index: `[N - M]`, in order.
      test_index: `[M]`, in order.

    Raises:
      ValueError: for a share or a number that cannot be.
    """
    share = _check_share(test_share)
    if num_rows < 2:
        raise ValueError(f"`num_rows` must be at least 2, got {num_rows}.")
    num_test = min(max(round(share * num_rows), 1), num_rows - 1)
    # RandomState, because NumPy keeps its numbers the same for ever.
    order = np.random.RandomState(_SPLIT_SEED).permutation(num_rows)
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def _check_share(test_share: float) -> float:
    share = float(checks.real("test_share", test_share))
    if not 0.0 < share < 1.0:
        raise ValueError(f"`test_share` must be above 0 and below 1, got {test_share}.")
    return share


def from_file(
    path: str | os.PathLike,
    *,
    test_share: float | None = None,
    max_level: float | None = None,
    label: str | None = None,
    layer: str | None = None,
    name: str | None = None,
    missing: str | None = None,
    weights: str | None = None,
    condition: str | Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    in_memory: bool | None = None,
) -> Dataset:
    """Makes a data set of a file or a folder, and looks at it.

    Args:
      path: .npz (`train` and `test`, or one array), .npy, .csv, .tsv, .amat, .parquet, .h5ad, an
        IDX file, a folder of .npy files, whose rows follow one another, or of IDX files, or a
        folder of images of one size (in `train` and `test`, or to be split).
      test_share: of the rows of a file that is not split, by default 0.2. Which rows these are is
        the same at every call, whatever the seed of training.
      max_level: as in `from_arrays`.
      label: of a table, the column that holds labels and is no data; of .h5ad one of `obs`.
      layer: of .h5ad, one of `layers` in the place of `X`, or "raw".
      name: a word for it, by default the file's.
      missing: as in `from_arrays`: "at_random", where empty cells and NaN were not observed.
      weights: of a table, the column of numbers that says what each row counts for, and is no data;
        see `with_weights`. An .npz file may have them beside its rows, as `train_weights` and
        `test_weights`, or `weights`.
      condition: as in `from_arrays`: columns, or "label" for the labels of the file.
      only: of a table, names of the columns that are data, beside `label` and
        `weights`; by default all.
      drop: of a table, names of columns that are no data: numbers of rows, names, dates.
      in_memory: False leaves the rows of .npy files on disk, to be read where they are needed; by
        default so where they are larger than a quarter of the memory.

    Returns:
      The data set; where it was split here it has `train_index` and `test_index`.

    Raises:
      DataError: for a file that cannot be read, or whose rows could not be trained on, naming the
        file, and the row and column where there is one.
      ValueError: for a share that cannot be, or an unknown `missing`.
    """
    path = absolute(path)
    finite.check_missing(missing)
    if test_share is not None:
        _check_share(test_share)
    asked = {"test_share": test_share, "label": label, "layer": layer, "missing": missing}
    asked |= {"in_memory": in_memory, "weights": weights}
    asked["condition"] = condition if isinstance(condition, str | None) else ",".join(condition)
    asked |= {n: each and list(each) for n, each in (("only", only), ("drop", drop))}
    origin = {"file": str(path)} | {n: value for n, value in asked.items() if value is not None}
    if on_disk.are_left(path, in_memory):
        return _left_on_disk(path, origin, max_level, name)
    parts = read(path, label=label, layer=layer)
    if weights is not None:
        parts = {part: _with_weights(path, content, weights) for part, content in parts.items()}
    parts = {part: columns.chosen(path, content, only, drop) for part, content in parts.items()}
    shape = image_shape_of(next(iter(parts.values())).rows)
    parts = {part: _entering(path, content, missing) for part, content in parts.items()}
    first = next(iter(parts.values()))
    index: dict[str, np.ndarray] = {}
    how = "split already"
    if "all" in parts:
        test_share = TEST_SHARE if test_share is None else test_share
        parts, index = _split(path, parts["all"], test_share)
        how = _SPLIT_WORDS.format(test_share)
    elif test_share is not None:
        raise DataError(f"{path} has test data of its own; leave `test_share` out.")
    try:
        dataset = from_arrays(
            parts["train"].rows,
            parts["test"].rows,
            train_labels=parts["train"].labels,
            test_labels=parts["test"].labels,
            max_level=max_level,
            image_shape=shape,
            columns=first.columns,
            categories=first.categories,
            label_names=parts["train"].label_names or parts["test"].label_names,
            name=name or _name(path),
            source="; ".join([str(path), how, *first.said]),
            missing=missing,
            train_weights=parts["train"].weights,
            test_weights=parts["test"].weights,
            condition=condition,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if index:
        origin["test_share"] = test_share
    origin |= {"condition": ",".join(dataset.condition)} if dataset.condition else {}
    kept = {n: getattr(dataset, n) for n in index}  # without the rows of weight 0
    index = {n: rows if kept[n] is None else rows[kept[n]] for n, rows in index.items()}
    return dataset._replace(origin=origin, **index)


def _left_on_disk(
    path: pathlib.Path, origin: dict[str, Any], max_level: float | None, name: str | None
) -> Dataset:
    """The same of rows that stay where they are."""
    for option in ("label", "layer", "weights", "condition", "only", "drop"):
        if option in origin:
            raise DataError(
                f"`{option}`={origin[option]!r}: {path} is of a kind without; leave it out."
            )
    rows, shape = on_disk.open_rows(path, origin.get("missing"))
    if len(rows) < 2:
        raise DataError(f"{path} has one row; training and testing need one each.")
    share = origin.get("test_share", TEST_SHARE)
    train, test = split_rows(len(rows), share)
    dataset = Dataset(
        name=name or _name(path),
        title=name or _name(path),
        train=rows.take(train),
        test=rows.take(test),
        max_level=None if max_level is None else float(max_level),
        image_shape=image_shape_of(np.broadcast_to(np.uint8(0), shape)),
        source=f"{path}; {_SPLIT_WORDS.format(share)}; {rows.nbytes / 1e9:.3g} GB of rows are left "
        "on disk, and read where they are needed",
        origin=origin | {"test_share": share},
        train_index=train,
        test_index=test,
        missing=origin.get("missing"),
    )
    try:
        check(dataset)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return dataset


def absolute(path: str | os.PathLike) -> pathlib.Path:
    """The path from wherever a command is started."""
    return pathlib.Path(path).expanduser().absolute()


def _name(path: pathlib.Path) -> str:
    """The file's name without what says its kind."""
    name = path.name.removesuffix(".gz")
    return pathlib.Path(name).stem or path.name


def read(
    path: pathlib.Path, *, only: Sequence[str] | None = None, **options: Any
) -> dict[str, Content]:
    """Reads a file with those options that are not None: "train" and "test", or "all".

    Args:
      path: of the file.
      only: of a table, the columns that are looked at, where they have names.
      **options: `label`, `layer`.

    Raises:
      DataError: for a file that cannot be read, or an option that its kind does not have.
    """
    reader = readers.find(path)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in reader.options:
            raise DataError(
                f"`{name}`={given[name]!r}: {path} is of a kind without {_NAMED[name]}; leave it "
                "out."
            )
    if only is not None and reader.is_table:
        given["only"] = only
    parts = reader.read(path, **given)
    return {part: _with_labels(path, content) for part, content in parts.items()}


def _with_weights(path: pathlib.Path, content: Content, name: str) -> Content:
    """The column of that name as weights, and no data.

    Raises:
      DataError: if there is none, or it holds no weights.
    """
    at = tables.place(path, content.columns, name, "weights")
    if content.columns == (name,):
        raise DataError(f"{path} has none of the columns that are data beside {name!r}.")
    rows = flat(path, content)
    found, is_missing = rows[:, at], np.isnan(rows[:, at])
    if name in (content.categories or {}):
        raise DataError(f"{path}: column {name!r} holds words, and `weights` must be numbers.")
    if is_missing.any():
        row = int(np.flatnonzero(is_missing)[0])
        raise DataError(f"{path}, {content.place(row)}: the weight is missing; 0 is for no weight.")
    columns = (*content.columns[:at], *content.columns[at + 1 :])
    return content._replace(rows=np.delete(rows, at, axis=1), columns=columns, weights=found)


def _entering(path: pathlib.Path, content: Content, missing: str | None) -> Content:
    """Rows and labels as a data set has them, looked at."""
    content = settled(path, content, missing)
    _check_categories(path, content)
    if content.labels is not None and np.isnan(content.labels).any():
        row = int(np.flatnonzero(np.isnan(content.labels))[0])
        raise DataError(
            f"{path}, {content.place(row)}: the label is missing; fill it in, or leave out its row "
            "or `label`."
        )
    return content


def flat(path: pathlib.Path, content: Content) -> np.ndarray:
    """Rows `[N, X]`."""
    rows = content.rows
    if rows.ndim < 2 or not rows.size:
        raise DataError(
            f"{path} must hold rows of at least one number each; got shape {list(rows.shape)}."
        )
    if rows.dtype.kind not in "biuf":
        raise DataError(f"{path} must hold numbers, got {rows.dtype}.")
    return rows.reshape(len(rows), -1)


def settled(path: pathlib.Path, content: Content, missing: str | None = None) -> Content:
    """Rows `[N, X]` in the type that devices hold, none of them infinite, or unless said missing.

    Raises:
      DataError: for rows that are no numbers, or with the place of the first that is none.
    """
    names = content.columns
    rows = rounding.narrow(flat(path, content), str(path), names)
    options = {"missing": missing, "columns": names, "place_fn": content.place}
    finite.check(rows, str(path), **options)
    return content._replace(rows=rows)


def _check_categories(path: pathlib.Path, content: Content) -> None:
    """Refuses words that are names of rows, or free text, and no categories."""
    num_rows = len(content.rows)
    for name, words in (content.categories or {}).items():
        # Dates, percentages, thousands with a comma: with a digit in each, and mostly different.
        is_spelt = len(words) > max(_FEW_CATEGORIES, num_rows / 2) and all(map(_has_digit, words))
        if is_spelt or len(words) > _MOST_CATEGORIES or len(words) == num_rows > 1:
            raise DataError(
                f"{path}: column {name!r} holds text, {len(words)} different ones in {num_rows} "
                f"rows ({words[0]!r} say), which is no number and no category; leave the column "
                "out, or make it the `label`."
            )


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)


def _with_labels(path: pathlib.Path, content: Content) -> Content:
    """Labels of whatever kind of file as numbers: whole ones to the digit, truths by their names.

    Raises:
      DataError: for another number of labels than of rows, or what no int64 holds.
    """
    if content.labels is None or not np.ndim(content.rows):
        return content
    found, num_rows = np.asarray(content.labels), len(content.rows)
    if found.shape != (num_rows,) or found.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: labels must be {num_rows} numbers, one for each row; got {found.dtype} of "
            f"shape {list(found.shape)}."
        )
    if found.dtype.kind == "u" and found.size and found.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{path}: labels must be whole numbers below 2^63, got {found.max()}; number them anew."
        )
    names = labels.TRUTHS if found.dtype.kind == "b" else content.label_names
    return content._replace(labels=labels.of_numbers(found), label_names=names)


def _split(
    path: pathlib.Path, whole: Content, test_share: float
) -> tuple[dict[str, Content], dict[str, np.ndarray]]:
    """The parts of a file, and which of its rows they are."""
    if len(whole.rows) < 2:
        raise DataError(f"{path} has one row; training and testing need one each.")
    train, test = split_rows(len(whole.rows), test_share)
    parts = {}
    for part, of_part in (("train", train), ("test", test)):
        parts[part] = whole.of_rows(of_part)
    return parts, {"train_index": train, "test_index": test}
