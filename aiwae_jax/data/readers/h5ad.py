"""AnnData's files, .h5ad: cells by genes, dense or sparse, in `X` or a layer."""

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
    layers = [*file.get("layers", ()), *([_RAW] if "raw/X" in file else [])]
    if layer is not None and layer not in layers:
        there = f"it has {', '.join(map(repr, layers))}" if layers else "it has none beside `X`"
        raise DataError(f"{path} has no `layer`={layer!r}; {there}.")
    matrix, of_genes = {
        None: (lambda: file["X"], "var"),
        _RAW: (lambda: file["raw/X"], "raw/var"),
    }.get(layer, (lambda: file["layers"][layer], "var"))
    rows = _dense(h5py, matrix())
    labels, notes = _labels(h5py, file, path, label)
    return Content(rows, labels, _index(file[of_genes]), notes=notes)


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
    kind = matrix.attrs.get("encoding-type", "csr_matrix")
    where = (indices, major) if _text(kind).startswith("csc") else (major, indices)
    rows[where] = data
    return rows


def _labels(
    h5py, file: Any, path: pathlib.Path, label: str | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels, and words for what they are."""
    if label is None:
        return None, ()
    cells = file["obs"]
    if label not in cells:
        there = ", ".join(name for name in cells if not name.startswith("_"))
        raise DataError(f"{path} has no `label`={label!r} in `obs`; it has {there or 'nothing'}.")
    column = cells[label]
    if isinstance(column, h5py.Group):  # of categories
        codes, names = column["codes"][()], [_text(name) for name in column["categories"][()]]
    else:
        values = column[()]
        if values.dtype.kind in "biuf":
            return values, ()
        found, codes = np.unique([_text(value) for value in values], return_inverse=True)
        names = found.tolist()
    said = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    return codes.astype(np.int64), (f"labels {said}",)


def _index(frame: Any) -> tuple[str, ...]:
    """Names of the rows of a data frame."""
    return tuple(map(_text, frame[_text(frame.attrs["_index"])][()]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
