"""Data sets that have names."""

import os
import pathlib
from collections.abc import Sequence
from functools import partial

from aiwae_jax.data import binarized, conditions, embedded, mnist, omniglot, relatives
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.doors import check

_LOADERS = {
    "digits": embedded.load_digits,
    "mnist": mnist.load,
    "omniglot": omniglot.load,
    "omniglot_tfds": omniglot.load_from_tfds,
    "fashion_mnist": partial(relatives.load, "fashion_mnist"),
    "kmnist": partial(relatives.load, "kmnist"),
    "emnist": partial(relatives.load, "emnist"),
    "binarized_mnist": binarized.load,
    "breast_cancer": embedded.load_breast_cancer,
    "wine": embedded.load_wine,
    "diabetes": embedded.load_diabetes,
}
NAMES = tuple(_LOADERS)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    condition: str | Sequence[str] | None = None,
) -> Dataset:
    """Loads and verifies a data set.

    In order: raw files in `data_dir`, a prepared TFDS data set, the cache, a download.

    Args:
      name: of images "digits" (embedded in scikit-learn), "mnist", "omniglot" (the IWAE authors'
        28x28 file), "omniglot_tfds" (TFDS's own images and split, shrunk to 28x28: another data
        set), "fashion_mnist", "kmnist", "emnist" (its balanced split), "binarized_mnist" (drawn as
        bits once, by Larochelle); of tables in scikit-learn "breast_cancer", "wine", "diabetes".
      data_dir: a folder with raw files, in `<data_dir>/<name>/` or itself, or a TFDS folder.
      condition: "label", or columns of a table, that a model is given; see `condition_on`.

    Raises:
      DataError: for an unknown name, a missing folder, corrupt files, or when nothing was found and
        nothing could be downloaded.
    """
    if name not in _LOADERS:
        raise DataError(
            f"`dataset` must be one of {', '.join(NAMES)}; got {name!r}. Arrays of your own "
            "become one by `data.from_arrays`, files by `data.from_file`."
        )
    folder = None
    if data_dir:
        folder = pathlib.Path(data_dir).expanduser().absolute()
        if not folder.is_dir():
            raise DataError(f"`data_dir` {str(data_dir)!r} is not a folder.")
    dataset = _LOADERS[name](folder)
    origin = {"name": name} | ({} if folder is None else {"data_dir": str(folder)})
    if condition is not None:
        dataset = conditions.condition_on(dataset, condition)
        origin["condition"] = ",".join(dataset.condition)
    check(dataset)
    return dataset._replace(origin=origin)
