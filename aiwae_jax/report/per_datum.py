"""A report's numbers of each datum as a table, to be joined with others by index or label."""

import pathlib
from collections.abc import Iterable

import numpy as np

from aiwae_jax import data
from aiwae_jax.runs import tables

NAMES = tuple(f"per_datum{suffix}" for suffix in tables.SUFFIXES)
NEEDS = ("nll_test", "nll_train", "index_test", "index_train")  # arrays of evaluation.npz
# Column -> (array of evaluation.npz, its sign); what an earlier version did not write is left out.
_COLUMNS = {
    "log_likelihood": ("nll", -1),
    "standard_error": ("standard_error", 1),
    "is_reliable": ("is_reliable", 1),
    "effective_sample_size": ("effective_sample_size", 1),
    "log_weight_variance": ("log_weight_variance", 1),
    "importance_bound": ("nvlb", -1),
}
_PARTS = ("test", "train")


def columns(arrays: dict[str, np.ndarray], dataset: data.Dataset) -> dict[str, np.ndarray]:
    """The columns of the table, nats, a row for each datum; test data come first.

    Of a data set that was split here `row` is the datum's row in the file, `index` always the one
    in its part.

    Args:
      arrays: of an evaluation.npz.
      dataset: that it is of.
    """
    indices = [arrays[f"index_{part}"] for part in _PARTS]
    found = {
        "part": np.repeat(_PARTS, [len(index) for index in indices]),
        "index": np.concatenate(indices),
    }
    rows = [getattr(dataset, f"{part}_index") for part in _PARTS]
    if not any(row is None for row in rows):
        found["row"] = np.concatenate([r[i] for r, i in zip(rows, indices, strict=True)])
    if any(f"label_{part}" in arrays for part in _PARTS):
        labels = [_labels(arrays, part, len(i)) for part, i in zip(_PARTS, indices, strict=True)]
        found["label"] = np.concatenate(labels)
    weights = [arrays.get(f"weight_{part}") for part in _PARTS]
    if not all(each is None for each in weights):
        own = zip(weights, indices, strict=True)
        found["weight"] = np.concatenate([np.ones(len(i)) if w is None else w for w, i in own])
    for name, (array, sign) in _COLUMNS.items():
        of_parts = [arrays.get(f"{array}_{part}") for part in _PARTS]
        if not any(each is None for each in of_parts):
            joined = np.concatenate(of_parts)
            found[name] = -joined if sign < 0 else joined
    return found


def _labels(arrays: dict[str, np.ndarray], part: str, num: int) -> np.ndarray:
    """Labels of a part `[num]`: by their names, where the file has them, None where it has none."""
    found = arrays.get(f"label_{part}")
    if found is None:
        return np.full(num, None)
    names = arrays.get("label_names")  # an earlier version wrote codes alone
    return found if names is None else names[found]


def missing(folder: pathlib.Path, *, with_parquet: bool) -> list[str]:
    """Names of the files that are to be there and are not."""
    wanted = NAMES if with_parquet else NAMES[:1]
    return [name for name in wanted if not (folder / name).is_file()]


def write(
    folder: pathlib.Path,
    names: Iterable[str],
    arrays: dict[str, np.ndarray],
    dataset: data.Dataset,
) -> None:
    """Writes files of these names.

    Args:
      folder: of the report.
      names: of `NAMES`.
      arrays: of its evaluation.npz.
      dataset: that it is of.
    """
    for name in names:
        tables.write(folder / name, columns(arrays, dataset))
