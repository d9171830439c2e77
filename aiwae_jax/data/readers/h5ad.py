"""AnnData's files, .h5ad: cells by genes, dense or sparse, in `X` or a layer.

Before its version 0.7 data frames were arrays of records, `raw/X` was called `raw.X`, and the names
of a column's codes stood in `uns`.
"""

import pathlib
from typing import Any

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import needs
from aiwae_jax.data.readers.content import Content

_RAW = "raw"  # the layer by this name is `raw/X`


def read(
    path: pathlib.Path, *, label: str | None = None, layer: str | None = None
) -> dict[str, Content]:
    """Reads cells, a row each, and the names of the genes.

    Args:
      path: of the file.
      label: a column of `obs` that holds labels.
      layer: which of `layers`, or "raw" for `raw/X`; `X`, where it is not given.

    Raises:
      DataError: if it is no such file, or lacks what was asked for.
    """
    (h5py,) = needs.modules(("h5py",), path, extra="h5ad")
    try:
        with h5py.File(path, "r") as file:
            return {"all": _read(h5py, file, path, label, layer)}
    except OSError as error:
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({error})."
        ) from None
    except KeyError as error:
        raise DataError(f"{path} is not laid out as AnnData's files are: {error.args[0]}.") from (
            None
        )


def _read(h5py, file: Any, path: pathlib.Path, label: str | None, layer: str | None) -> Content:
    raw = next((name for name in ("raw/", "raw.") if f"{name}X" in file), None)
    layers = [*file.get("layers", ()), *([_RAW] if raw else [])]
    if layer is not None and layer not in layers:
        there = f"it has {', '.join(map(repr, layers))}" if layers else "it has none beside `X`"
        raise DataError(f"`layer`={layer!r} must be one of {path}; {there}.")
    matrix, of_genes = {
        None: (lambda: file["X"], "var"),
        _RAW: (lambda: file[f"{raw}X"], f"{raw}var"),
    }.get(layer, (lambda: file["layers"][layer], "var"))
    rows = _dense(h5py, matrix())
    labels, names = _labels(h5py, file, path, label)
    return Content(rows, labels, _index(file[of_genes]), label_names=names)


def _dense(h5py, matrix: Any) -> np.ndarray:
    """Rows of a dataset, or of a group with the parts of a sparse matrix."""
    if isinstance(matrix, h5py.Dataset):
        return matrix[()]
    data, indices, starts = (matrix[name][()] for name in ("data", "indices", "indptr"))
    shape = tuple(
        matrix.attrs["shape"] if "shape" in matrix.attrs else matrix.attrs["h5sparse_shape"]
    )
    rows = np.zeros(shape, np.uint8 if data.dtype == np.uint8 else np.float32)
    major = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    old_kind = matrix.attrs.get("h5sparse_format", "csr")
    kind = matrix.attrs.get("encoding-type", old_kind)
    where = (indices, major) if _text(kind).startswith("csc") else (major, indices)
    rows[where] = data
    return rows


def _labels(
    h5py, file: Any, path: pathlib.Path, label: str | None
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels, and the names of their codes."""
    if label is None:
        return None, None
    cells = file["obs"]
    is_frame = hasattr(cells, "keys")
    columns = list(cells) if is_frame else [n for n in cells.dtype.names if n != _index_of(cells)]
    if label not in columns:
        there = ", ".join(name for name in columns if not name.startswith("_"))
        raise DataError(
            f"`label`={label!r} must be a column of `obs` in {path}; it has {there or 'none'}."
        )
    column, categories = cells[label], f"uns/{label}_categories"
    if not is_frame and categories in file:
        column = {"codes": column, "categories": file[categories]}
    if getattr(column, "dtype", np.dtype("O")).kind in "biuf":
        return column[()], None
    names, codes = np.unique(_words(column), return_inverse=True)
    return codes.astype(np.int64), tuple(map(str, names))


def _index(frame: Any) -> tuple[str, ...]:
    """Names of the rows of a data frame."""
    return tuple(_words(frame[_index_of(frame)]))


def _index_of(frame: Any) -> str:
    """What the column of names is called."""
    return _text(frame.attrs["_index"]) if hasattr(frame, "keys") else frame.dtype.names[0]


def _words(column: Any) -> list[str]:
    """Words of a column: as they are, as codes of categories, or beside a mask."""
    parts = column if hasattr(column, "keys") else {"values": column}  # of a group, or itself
    if "categories" in parts:
        names = [_text(name) for name in parts["categories"][()]]
        return [names[code] if code >= 0 else "missing" for code in parts["codes"][()]]
    return [_text(value) for value in parts["values"][()]]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
