"""Files with a column of labels, of every kind, and what becomes of the labels."""

import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.cli import using


def table(path, words):
    lines = [f"{i / 4},{word}" for i, word in enumerate(words)]
    path.write_text("\n".join(["value,who", *lines]) + "\n")
    return path


def parquet(path, labels, kind=None):
    arrow, of_files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = kind(arrow) if kind is not None else None
    labels = labels if isinstance(labels, arrow.Array) else arrow.array(labels, kind)
    values = [i / 4 for i in range(len(labels))]
    of_files.write_table(arrow.table({"value": values, "who": labels}), path)
    return path


def cells(path, **column):
    """A file of AnnData's, whose `obs` has a column `who` of these parts, or the one `values`."""
    h5py = pytest.importorskip("h5py")
    text = h5py.string_dtype()
    num = len(column["codes"] if "codes" in column else column["values"])
    arrays = {
        name: array.astype(text) if array.dtype.kind == "U" else array
        for name, array in ((n, np.asarray(a)) for n, a in column.items())
    }
    with h5py.File(path, "w") as file:
        file["X"] = np.arange(2.0 * num).reshape(num, 2)
        file["var/_index"] = np.array(["g0", "g1"]).astype(text)
        file["var"].attrs["_index"] = "_index"
        if column.keys() == {"values"}:
            file["obs/who"] = arrays["values"]
        for name, array in arrays.items() if column.keys() != {"values"} else ():
            file[f"obs/who/{name}"] = array
    return path


def handed_on(path, label="who"):
    """The labels of a file's rows as `aiwae score` writes them beside its numbers."""
    return using.identity(data.read_rows(path, label=label))["label"].tolist()
