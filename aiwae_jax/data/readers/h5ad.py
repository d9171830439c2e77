"""AnnData's files, .h5ad: cells by genes, dense or sparse, in `X` or a layer.

Before its version 0.7 data frames were arrays of records, `raw/X` was called `raw.X`, and the names
of a column's codes stood in `uns`.
"""

import pathlib
from typing import Any

import numpy as np

from aiwae_jax.data import rounding
from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import labels, needs
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
    found, names = _labels(h5py, file, path, label)
    return Content(rows, found, _index(file, file[of_genes]), label_names=names)


def _dense(h5py, matrix: Any) -> np.ndarray:
    """Rows of a dataset, or of a group with the parts of a sparse matrix."""
    if isinstance(matrix, h5py.Dataset):
        return matrix[()]
    data, indices, starts = (matrix[name][()] for name in ("data", "indices", "indptr"))
    shape = tuple(
        matrix.attrs["shape"] if "shape" in matrix.attrs else matrix.attrs["h5sparse_shape"]
    )
    is_kept = data.dtype == np.uint8 or (data.size and np.abs(data).max() > rounding.EXACT)
    rows = np.zeros(shape, data.dtype if is_kept else np.float32)
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
    is_frame = hasattr(cells, "keys")  # before anndata 0.7 a record of each cell
    columns = list(cells) if is_frame else [n for n in cells.dtype.names if n != _index_of(cells)]
    if label not in columns:
        there = ", ".join(name for name in columns if not name.startswith("_"))
        raise DataError(
            f"`label`={label!r} must be a column of `obs` in {path}; it has {there or 'none'}."
        )
    column, categories = cells[label], f"uns/{label}_categories"
    if not is_frame and categories in file:
        column = {"codes": column, "categories": file[categories]}
    is_array = not hasattr(column, "keys") and "categories" not in getattr(column, "attrs", ())
    if is_array and column.dtype.kind in "biuf":
        return column[()], None
    return labels.coded(*_coded(file, column))


def _index(file: Any, frame: Any) -> tuple[str, ...]:
    """Names of the rows of a data frame."""
    codes, names = _coded(file, frame[_index_of(frame)])
    return tuple(str(names[code]) for code in codes)


def _index_of(frame: Any) -> str:
    """What the column of names is called."""
    return _text(frame.attrs["_index"]) if hasattr(frame, "keys") else frame.dtype.names[0]


def _coded(file: Any, column: Any) -> tuple[np.ndarray, list[Any]]:
    """Places of a column's values, -1 where there is none, and the values.

    A column is an array, an array beside a mask of what is missing, or codes of categories.
    """
    if hasattr(column, "keys") and "categories" in column:
        return column["codes"][()], _values(column["categories"])
    if "categories" in getattr(column, "attrs", ()):  # of anndata 0.7: they stand elsewhere
        return column[()], _values(file[column.attrs["categories"]])
    is_missing = column["mask"][()] if hasattr(column, "keys") and "mask" in column else False
    values, codes = np.unique(_values(column), return_inverse=True)
    return np.where(is_missing, -1, codes), values.tolist()


def _values(column: Any) -> list[Any]:
    """Values of an array, or of one beside a mask."""
    found = (column["values"] if hasattr(column, "keys") else column)[()].tolist()
    return [_text(value) if isinstance(value, bytes) else value for value in found]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
