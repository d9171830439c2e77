"""New rows from a file, in the columns and codes that a model was trained on."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from aiwae_jax.data import conditions, files
from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.doors import image_shape_of
from aiwae_jax.data.readers.content import Content
from aiwae_jax.data.readers.tables import is_number


def read_rows(
    path: str | os.PathLike,
    *,
    label: str | None = None,
    layer: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    missing: str | None = None,
    condition: Sequence[str] = (),
    image_shape: Sequence[int] | None = None,
) -> Content:
    """Reads all rows of a file, without a split: of new data, to be scored, say.

    Args:
      path: of the file, as in `from_file`.
      label: as in `from_file`.
      layer: as in `from_file`.
      columns: those that are wanted, in this order; a file with names has them chosen by name.
      categories: column -> names of its codes, as the model was trained on them; any other column
        must hold numbers.
      missing: as in `from_file`; conditions are never missing.
      condition: names of the last columns, which the model is given. Labels, "label" where no
        column is called so, become one.
      image_shape: (height, width) or (height, width, 3), of the images that are wanted.

    Returns:
      The content; its rows `[N, X]`.

    Raises:
      DataError: for a file that cannot be read, lacks a column, has a category that is new, or
        images of another shape.
    """
    path = files.absolute(path)
    parts = files.read(path, only=columns, label=label, layer=layer)
    if "all" not in parts:
        raise DataError(f"{path} holds training and test data; new rows are one array.")
    found = parts["all"]
    shape = image_shape_of(found.rows)
    if None not in (shape, image_shape) and tuple(shape) != tuple(image_shape):
        here, wanted = (" x ".join(map(str, each)) for each in (shape, image_shape))
        raise DataError(
            f"{path} holds images of {here}, and {wanted} are needed: scale or turn them, or hand "
            "over rows that are flat."
        )
    if conditions.LABEL in condition and conditions.LABEL not in (found.columns or ()):
        return _with_label(path, found, columns, categories or {}, missing, condition)
    found = _as_trained(path, found, columns, categories, missing)
    _check_given(path, found, condition)
    return found


def _as_trained(
    path: pathlib.Path,
    found: Content,
    columns: Sequence[str] | None,
    categories: Mapping[str, Sequence[str]] | None,
    missing: str | None,
) -> Content:
    """Content in the columns and codes that a model was trained on."""
    if columns is not None and found.columns is not None:
        found = _chosen(path, found, columns)
    if categories or found.categories:
        found = _recoded(path, found, categories or {})
    num_columns = files.flat(path, found).shape[1]
    if columns is not None and num_columns != len(columns):
        raise DataError(f"{path} has {num_columns} columns, and {len(columns)} are needed.")
    return files.settled(path, found, missing)


def _with_label(
    path: pathlib.Path,
    found: Content,
    columns: Sequence[str] | None,
    categories: Mapping[str, Sequence[str]],
    missing: str | None,
    condition: Sequence[str],
) -> Content:
    """Content whose labels are a condition, put in its place among the columns."""
    label, labels = conditions.LABEL, found.own_labels
    if labels is None and found.columns is None:  # such rows may have their condition with them
        return _as_trained(path, found, columns, categories, missing)
    others = None if columns is None else [name for name in columns if name != label]
    words = {name: codes for name, codes in categories.items() if name != label}
    found = _as_trained(path, found, others, words, missing)
    behind = conditions.behind(found.rows, labels, categories.get(label), str(path))
    at = behind.shape[1] - len(condition) + list(condition).index(label)
    order = [*range(behind.shape[1] - 1)]
    order.insert(at, behind.shape[1] - 1)
    found = found._replace(
        rows=behind[:, order], columns=None if columns is None else tuple(columns)
    )
    _check_given(path, found, condition)
    return found


def _check_given(path: pathlib.Path, content: Content, condition: Sequence[str]) -> None:
    """Refuses rows whose condition is missing."""
    for at, name in enumerate(condition, start=content.rows.shape[1] - len(condition)):
        values = content.rows[:, at]
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise DataError(
                f"{path}, {content.place(int(np.flatnonzero(np.isnan(values))[0]))}: the condition "
                f"{name!r} is missing, and the model is given it; fill it in, or leave out its row."
            )


def _chosen(path: pathlib.Path, content: Content, columns: Sequence[str]) -> Content:
    """The wanted columns of a file, by name."""
    missing = [name for name in columns if name not in content.columns]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}, one of the {len(columns)} that are needed."
        )
    twice = [name for name in columns if content.columns.count(name) > 1]
    if twice:
        raise DataError(f"{path} has several columns {twice[0]!r}, of which one is needed.")
    places = [content.columns.index(name) for name in columns]
    categories = {n: c for n, c in (content.categories or {}).items() if n in columns}
    return content._replace(
        rows=content.rows[:, places], columns=tuple(columns), categories=categories or None
    )


def _recoded(
    path: pathlib.Path, content: Content, categories: Mapping[str, Sequence[str]]
) -> Content:
    """Codes of a file in the place of those by which a model was trained."""
    rows, here = np.array(content.rows), content.categories or {}
    for at, name in enumerate(content.columns or ()):
        if name not in categories and name in here:
            raise DataError(
                f"{path}: column {name!r} holds words ({here[name][0]!r} say), and must hold "
                "numbers."
            )
        if name not in categories:
            continue
        known = list(categories[name])
        if name in here:
            new = [word for word in here[name] if word not in known]
            if new:
                raise DataError(
                    f"{path}: column {name!r} holds {new[0]!r}, which is none of the categories "
                    f"{', '.join(map(repr, known))}."
                )
            codes = np.array([*map(known.index, here[name]), np.nan])
            places = np.where(np.isnan(rows[:, at]), len(here[name]), rows[:, at])
            rows[:, at] = codes[places.astype(int)]
        elif all(map(is_number, known)):  # classes that are numbers, in a column of those
            is_there = ~np.isnan(rows[:, at])
            where = f"{path}, column {name!r}"
            rows[is_there, at] = conditions.codes_of(rows[is_there, at], known, name, where)
    return content._replace(rows=rows, categories=dict(categories) or None)
