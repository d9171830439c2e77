"""Data sets: found, verified, and handed over as arrays of grey levels.

In order: raw files in `data_dir`, a prepared TFDS data set, a download. Whatever the way in, the
content is verified, and a stand-in is named as one.
"""

import os
import pathlib
import warnings

import numpy as np

from aiwae_jax.data import mnist, omniglot
from aiwae_jax.data.dataset import (
    DataError,
    Dataset,
    as_floats,
    binarize,
    check,
    from_arrays,
)
from aiwae_jax.data.fetching import cache_folder

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "as_floats",
    "binarize",
    "cache_folder",
    "check",
    "from_arrays",
    "load",
]

NAMES = ("digits", "mnist", "omniglot", "omniglot_tfds")


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads and verifies a data set.

    Args:
      name: "digits" (embedded in scikit-learn), "mnist", "omniglot" (the IWAE authors' 28x28 file),
        or "omniglot_tfds" (TFDS's own images and split, shrunk to 28x28: another data set).
      data_dir: a folder with raw files, in `<data_dir>/<name>/` or itself, or a TFDS folder.

    Raises:
      DataError: for an unknown name, a missing folder, corrupt files, or when nothing was found and
        nothing could be downloaded.
    """
    if name not in _LOADERS:
        raise DataError(
            f"`dataset` must be one of {', '.join(NAMES)}; got {name!r}. Arrays of your own "
            "become one by `data.from_arrays`."
        )
    folder = None
    if data_dir:
        folder = pathlib.Path(data_dir).expanduser()
        if not folder.is_dir():
            raise DataError(f"`data_dir` {str(data_dir)!r} is not a folder.")
    dataset = _LOADERS[name](folder)
    check(dataset)
    return dataset


def _load_digits(folder: pathlib.Path | None) -> Dataset:
    if folder is not None:
        warnings.warn(
            f"`data_dir` {str(folder)!r} is not looked at: the digits come with scikit-learn.",
            stacklevel=3,
        )
    try:
        import sklearn.datasets
    except ImportError as error:
        raise DataError(
            "The digits data set comes with scikit-learn, which is missing: "
            "pip install 'aiwae_jax[run]'."
        ) from error
    bunch = sklearn.datasets.load_digits()
    images, labels = bunch.data.astype(np.uint8), bunch.target
    is_test = np.arange(len(images)) % 5 == 4  # every fifth, so that all writers are in both
    return Dataset(
        name="digits",
        title="digits",
        train=images[~is_test],
        test=images[is_test],
        train_labels=labels[~is_test],
        test_labels=labels[is_test],
        max_level=16.0,
        image_shape=(8, 8),
        source="scikit-learn, every fifth image for testing",
    )


_LOADERS = {
    "digits": _load_digits,
    "mnist": mnist.load,
    "omniglot": omniglot.load,
    "omniglot_tfds": omniglot.load_from_tfds,
}
