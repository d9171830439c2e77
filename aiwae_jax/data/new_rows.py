"""New rows from a file, in the columns and codes that a model was trained on."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from aiwae_jax.data import files
from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.doors import image_shape_of
from aiwae_jax.data.readers.content import Content


def read_rows(
    path: str | os.PathLike,
    *,
    label: str | None = None,
    layer: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    missing: str | None = None,
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
      missing: as in `from_file`.
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
    if columns is not None and found.columns is not None:
        found = _chosen(path, found, columns)
    if categories or found.categories:
        found = _recoded(path, found, categories or {})
    num_columns = files.flat(path, found).shape[1]
    if columns is not None and num_columns != len(columns):
        raise DataError(f"{path} has {num_columns} columns, and {len(columns)} are needed.")
    return files.settled(path, found, missing)


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
        if name in categories and name in here:
            known = list(categories[name])
            new = [word for word in here[name] if word not in known]
            if new:
                raise DataError(
                    f"{path}: column {name!r} holds {new[0]!r}, which is none of the categories "
                    f"{', '.join(map(repr, known))}."
                )
            codes = np.array([*map(known.index, here[name]), np.nan])
            places = np.where(np.isnan(rows[:, at]), len(here[name]), rows[:, at])
            rows[:, at] = codes[places.astype(int)]
    return content._replace(rows=rows, categories=dict(categories) or None)
