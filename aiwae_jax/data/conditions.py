"""Conditions: columns that a model is given, and does not model, held last in every row.

Labels, or columns of a table. Categories are codes, as everywhere; so are whole numbers of which
there are few different ones; all else are numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aiwae_jax import likelihoods, support
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.likelihoods import Likelihood

LABEL = "label"  # what the labels are called, where no column is
_MOST_CLASSES = 64  # different whole numbers that are taken for classes
_MOST_CODES = 256  # of bytes


def names_of(condition: str | Sequence[str]) -> tuple[str, ...]:
    """The columns that a text names, with commas between them, or a sequence."""
    names = condition.split(",") if isinstance(condition, str) else condition
    return tuple(name.strip() for name in names)


def condition_on(dataset: Dataset, condition: str | Sequence[str]) -> Dataset:
    """The same rows, with the columns last that are to be given.

    Args:
      dataset: whose columns are all modelled.
      condition: names of columns, and "label" of the labels, where no column is called so; of
        several a sequence, or one text with commas.

    Returns:
      The data set; its `condition` names those columns, and its `categories` has the names of the
      codes of those that are classes.

    Raises:
      DataError: for a column that is not there, is missing in a row, or always the same; for a test
        row of a class that no training row has.
    """
    names = names_of(condition)
    if dataset.condition:
        raise DataError(
            f"`dataset` has a condition already, {', '.join(dataset.condition)}; name all columns "
            "of it at once."
        )
    found = [_column(dataset, name) for name in names]
    columns = list(dataset.columns or ())
    if len(set(names)) < len(names):
        raise DataError(f"`condition` names a column twice: {', '.join(names)}.")
    left = [i for i in range(dataset.train.shape[1]) if not (columns and columns[i] in names)]
    if not left:
        raise DataError("`condition` leaves no column to be modelled.")
    categories = {n: c for n, c in (dataset.categories or {}).items() if n not in names}
    categories |= {name: words for name, (_, words) in zip(names, found, strict=True) if words}
    parts = {}
    for part in ("train", "test"):
        rows = np.asarray(getattr(dataset, part))
        rows = rows if len(left) == rows.shape[1] else rows[:, left]
        given = np.stack([values[part] for values, _ in found], axis=1)
        parts[part] = beside(rows, given, are_codes=all(words for _, words in found))
    return dataset._replace(
        **parts,
        columns=(*(columns[i] for i in left), *names) if columns else None,
        categories=categories or None,
        condition=names,
    )


def beside(rows: np.ndarray, given: np.ndarray, *, are_codes: bool) -> np.ndarray:
    """Rows `[N, X]` with conditions `[N, C]` behind them, in bytes where that holds both."""
    is_small = rows.dtype == np.uint8 and are_codes and given.max() < _MOST_CODES
    dtype = np.uint8 if is_small else np.float32
    return np.concatenate([rows.astype(dtype, copy=False), given.astype(dtype)], axis=1)


def joined(modelled: Dataset, whole: Dataset) -> Dataset:
    """What has become of a data set's `modelled` part, with its conditions behind it again."""
    num, are_codes = whole.num_given, all(n in (whole.categories or {}) for n in whole.condition)
    parts = {
        part: beside(
            np.asarray(getattr(modelled, part)),
            np.asarray(getattr(whole, part))[:, -num:],
            are_codes=are_codes,
        )
        for part in ("train", "test")
    }
    columns = modelled.columns and (*modelled.columns, *whole.condition)
    fields = {"categories": whole.categories, "condition": whole.condition, "columns": columns}
    return modelled._replace(**parts, **fields)


def condition_of(dataset: Dataset) -> tuple[Likelihood, ...]:
    """What the columns of the condition are, for the `condition` of a model.

    A likelihood for each, of which a model uses what it shows to networks: a bit for each class,
    or a number less its training mean, in standard deviations.
    """
    if not dataset.condition:
        return ()
    found, rows = [], np.asarray(dataset.train)
    for at, name in enumerate(dataset.condition, start=dataset.num_modelled):
        words = (dataset.categories or {}).get(name)
        if words:
            found.append(likelihoods.categorical(len(words)))
        else:
            column = rows[:, at : at + 1].astype(np.float32)
            found.append(likelihoods.standardize(likelihoods.normal(), column, columns=[name]))
    return tuple(found)


def shares(dataset: Dataset, name: str) -> np.ndarray:
    """Share `[K]` of the training rows, by their weights, that each class of a condition has."""
    codes = np.asarray(dataset.train)[:, dataset.num_modelled + dataset.condition.index(name)]
    num_classes, weights = len(dataset.categories[name]), dataset.train_weights
    counts = np.bincount(codes.astype(int), weights, minlength=num_classes)
    return counts / counts.sum()


def check(dataset: Dataset) -> None:
    """Refuses a data set whose last columns are not the condition that it names.

    Raises:
      DataError: naming the field, what it must be, and what it is.
    """
    num, names = dataset.num_given, dataset.condition
    for part in ("train", "test"):
        rows = getattr(dataset, part)
        if np.ndim(rows) != 2 or rows.shape[1] <= num:
            raise DataError(
                f"`{part}` must have shape [rows, columns], of which the last {num} are the "
                f"`condition`; got {list(np.shape(rows))}."
            )
        for at, name in enumerate(names, start=rows.shape[1] - num):
            _check_column(np.asarray(rows[:, at]), name, part, (dataset.categories or {}).get(name))
    if dataset.columns is not None and tuple(dataset.columns[-num:]) != names:
        raise DataError(
            f"`columns` must end with the `condition`, {', '.join(names)}; got "
            f"{', '.join(dataset.columns[-num:])}."
        )


def _check_column(
    values: np.ndarray, name: str, part: str, words: Sequence[str] | None = None
) -> None:
    """Refuses what is missing, and what are no codes of `words`."""
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"`{part}`, row {row}: the condition {name!r} is missing, and a model is given it; "
            "fill it in, or leave out its row."
        )
    if words and not support.whole_below(len(words))(values).all():
        raise DataError(
            f"`{part}` must have codes below {len(words)} of the classes of the condition "
            f"{name!r}, got values from {values.min():g} to {values.max():g}."
        )


def _column(dataset: Dataset, name: str) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Values of a condition, part -> `[N]`, and the names of its codes, if they are codes."""
    if name in (dataset.columns or ()):
        at = dataset.columns.index(name)
        values = {part: np.asarray(getattr(dataset, part))[:, at] for part in ("train", "test")}
        words = (dataset.categories or {}).get(name)
    elif name == LABEL and not (dataset.train_labels is None or dataset.test_labels is None):
        values = {part: getattr(dataset, f"{part}_labels") for part in ("train", "test")}
        words = dataset.label_names
    else:
        columns = ", ".join(map(repr, dataset.columns or ())) or "none with names"
        labels = "and labels" if dataset.train_labels is not None else "and no labels"
        raise DataError(
            f"`condition`={name!r} must be a column, or {LABEL!r} of data with labels; there are "
            f"columns {columns}, {labels}."
        )
    for part, of_part in values.items():
        if np.shape(of_part) != (len(getattr(dataset, part)),):
            raise DataError(
                f"`{part}_labels` must have shape [{len(getattr(dataset, part))}], one for each "
                f"row of `{part}`; got {list(np.shape(of_part))}."
            )
        _check_column(np.asarray(of_part), name, part, words)
    if words is None:
        values, words = _coded(values, name)
    if len(words or ()) == 1 or (not words and np.ptp(values["train"]) == 0):
        raise DataError(f"`condition`={name!r} is the same in every training row; leave it out.")
    return values, words


def _coded(
    values: dict[str, np.ndarray], name: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Codes of whole numbers of which there are few different ones; other numbers as they are."""
    there = np.unique(values["train"])
    if len(there) > _MOST_CLASSES or (there != np.rint(there)).any():
        return values, None
    words = tuple(map(word_of, there))
    return {
        part: codes_of(of_part, words, name, f"`{part}`") for part, of_part in values.items()
    }, words


def word_of(number: Any) -> str:
    """The name of a class that is a whole number."""
    return str(int(number))


def codes_of(values: Sequence[Any], words: Sequence[str], name: str, where: str) -> np.ndarray:
    """Codes `[N]` of classes by their names, or by the numbers that these are.

    Raises:
      DataError: for a class that is none of `words`.
    """
    known = {word: code for code, word in enumerate(words)}
    found = []
    for row, value in enumerate(values):
        is_number = not isinstance(value, str) and value == np.rint(value)
        word = word_of(value) if is_number else str(value)
        if word not in known:
            raise DataError(
                f"{where}, row {row}: the condition {name!r} is {word!r}, which is none of the "
                f"classes {', '.join(map(repr, words))} of the training rows."
            )
        found.append(known[word])
    return np.array(found)


def behind(
    rows: np.ndarray,
    labels: np.ndarray | None,
    words: Sequence[str] | None,
    where: str,
) -> np.ndarray:
    """New rows `[N, X - 1]` with their labels behind them, as the condition of a run.

    Args:
      rows: the rows.
      labels: `[N]`, words or numbers as a file has them.
      words: names of the classes by which a model was trained; None of a number.
      where: the file.

    Raises:
      DataError: for rows without labels, or a class that is not known.
    """
    if labels is None:
        raise DataError(
            f"{where} has no labels, and the model is given the label of each row: name the column "
            "that has them by `label` (--label=COLUMN)."
        )
    missing = [not value if isinstance(value, str) else value != value for value in labels]
    if any(missing):
        raise DataError(
            f"{where}, row {missing.index(True)}: the label is missing, and the model is given it; "
            "fill it in, or leave out its row."
        )
    given = codes_of(list(labels), words, LABEL, where) if words else np.asarray(labels)
    return beside(rows, given[:, None], are_codes=bool(words))


def value_of(value: Any, name: str, words: Sequence[str] | None) -> float:
    """A condition as a row has it: the code of a class, or a number.

    Raises:
      DataError: for a class that is not known.
      ValueError: for what is no number.
    """
    if words:
        word = str(value) if isinstance(value, str) or value != np.rint(value) else word_of(value)
        if word not in words:
            raise DataError(
                f"`condition` must be one of {', '.join(map(repr, words))} for {name!r}, got "
                f"{word!r}."
            )
        return float(words.index(word))
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`condition` must have a number for {name!r}, got {value!r}.") from None
