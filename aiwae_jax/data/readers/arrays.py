"""NumPy's files: .npy with rows, .npz with rows that are split already or are to be split."""

import pathlib
import zipfile
import zlib

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers.content import Content

_DAMAGED = (OSError, EOFError, AttributeError, ValueError, zipfile.BadZipFile, zlib.error)


def read_npy(path: pathlib.Path) -> dict[str, Content]:
    """Reads rows.

    Raises:
      DataError: if it is no such file, or damaged.
    """
    return {"all": Content(_load(path))}


def is_folder_of(folder: pathlib.Path) -> bool:
    """Whether a folder holds .npy files."""
    return any(folder.glob("*.npy"))


def read_folder(folder: pathlib.Path) -> dict[str, Content]:
    """Reads rows of .npy files, one file after the other in the order of their names.

    Raises:
      DataError: if one is damaged, or their rows differ in shape.
    """
    paths = sorted(path for path in folder.glob("*.npy") if not path.name.startswith("."))
    found = [_load(path) for path in paths]
    for path, rows in zip(paths, found, strict=True):
        if rows.shape[1:] != found[0].shape[1:] or rows.dtype != found[0].dtype:
            raise DataError(
                f"{path} must hold rows like those of {paths[0]}, {found[0].dtype} of shape "
                f"{list(found[0].shape[1:])}; got {rows.dtype} of shape {list(rows.shape[1:])}."
            )
    return {"all": Content(np.concatenate(found))}


def read_npz(path: pathlib.Path) -> dict[str, Content]:
    """Reads `train` and `test`, with labels `train_labels`, `test_labels`; or one array of rows.

    One array has any name but `test` and `labels`, which may stand beside it, and `columns`, the
    names. What rows count for is in `train_weights` and `test_weights`, or in `weights`.

    Raises:
      DataError: if it is no such file, or damaged, or holds other arrays.
    """
    arrays = _load(path)
    if not isinstance(arrays, dict):
        raise DataError(f"{path} is a single array; name it .npy.")
    columns = arrays.pop("columns", None)
    columns = None if columns is None else tuple(map(str, columns))
    names = {"train", "test", "train_labels", "test_labels", "train_weights", "test_weights"}
    if {"train", "test"} <= arrays.keys() <= names:
        return {
            part: Content(
                *(arrays[part], arrays.get(f"{part}_labels"), columns),
                weights=arrays.get(f"{part}_weights"),
            )
            for part in ("train", "test")
        }
    labels, weights = arrays.pop("labels", None), arrays.pop("weights", None)
    if len(arrays) != 1 or "test" in arrays:
        there = ", ".join(map(repr, arrays)) or "nothing"
        raise DataError(
            f"{path} must hold `train` and `test` (and, with labels, `train_labels` and "
            f"`test_labels`), or one array of rows (and `labels`); it holds {there}."
        )
    return {"all": Content(next(iter(arrays.values())), labels, columns, weights=weights)}


def _load(path: pathlib.Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else dict(found)
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, or is no file of NumPy's"
        raise DataError(f"{path} cannot be read; it may be truncated or corrupt ({reason}).") from (
            None
        )
