"""Tables: columns of numbers or words, of which rows of numbers are made."""

import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers.content import Content

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # in lower case
_TRUTH = {"false": 0.0, "true": 1.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      name: of it.
      values: `[N]` numbers, or codes of its categories; NaN where there is none.
      categories: the names of the codes, of a column that held words.
    """

    name: str
    values: np.ndarray
    categories: tuple[str, ...] | None = None


def is_number(word: str) -> bool:
    """Whether a cell's text is a number, by itself or as one that is missing."""
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def coded(where: str, name: str, codes: np.ndarray, words: Sequence[str]) -> Column:
    """A column of words as codes of categories, in the order of their names.

    Args:
      where: the file.
      name: of the column.
      codes: `[N]` places in `words`; below 0 where there is none.
      words: all of them, each once.

    Raises:
      DataError: for numbers in another spelling.
    """
    if not words:
        return Column(name, np.full(len(codes), np.nan))
    if all(_DECIMAL_COMMA.fullmatch(word) for word in words):
        raise DataError(
            f"{where}: column {name!r} holds numbers with a decimal comma, {words[0]} say; write "
            "them with a point."
        )
    if {word.lower() for word in words} <= _TRUTH.keys():
        numbers = np.array([*(_TRUTH[word.lower()] for word in words), np.nan], np.float32)
        return Column(name, numbers[np.where(codes < 0, len(words), codes)])
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words) + 1, np.float32)
    rank[order], rank[-1] = np.arange(len(words)), np.nan
    return Column(
        name, rank[np.where(codes < 0, len(words), codes)], tuple(words[i] for i in order)
    )


def content(
    path: pathlib.Path, columns: Sequence[Column], label: str | None, **more: object
) -> Content:
    """Rows of all columns but the labels'."""
    names = [column.name for column in columns]
    at = place(path, names, label)
    of_rows = [column for i, column in enumerate(columns) if i != at]
    if not of_rows:
        raise DataError(f"{path} has none of the columns that are data.")
    rows = np.stack([column.values for column in of_rows], axis=1)
    categories = {c.name: c.categories for c in of_rows if c.categories is not None}
    return Content(
        rows,
        None if at is None else columns[at].values,
        tuple(column.name for column in of_rows),
        categories or None,
        label_names=None if at is None else columns[at].categories,
        **more,
    )


def place(
    path: pathlib.Path, names: Sequence[str] | None, label: str | None, option: str = "label"
) -> int | None:
    """Which column holds the labels, or what another `option` names; None where none does.

    Raises:
      DataError: if none has that name.
    """
    if label is None:
        return None
    if not names or label not in names:
        there = f"they are {', '.join(map(repr, names))}" if names else "they have no names"
        raise DataError(f"`{option}`={label!r} must be a column of {path}; {_cut(there)}.")
    return list(names).index(label)


def _cut(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
