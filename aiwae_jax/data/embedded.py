"""Data sets that come with scikit-learn: digits, and tables with names and labels."""

import pathlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from aiwae_jax.data import callers
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.doors import from_arrays

_EVERY = 5  # rows, of which the last is for testing: every writer of digits is in both parts


def load_digits(folder: pathlib.Path | None) -> Dataset:
    """8x8 images of digits, 16 shades above white.

    Raises:
      DataError: if scikit-learn is missing.
    """
    bunch = _datasets("digits", folder).load_digits()
    return Dataset(
        name="digits",
        title="digits",
        **_split(bunch.data.astype(np.uint8), bunch.target),
        max_level=16.0,
        image_shape=(8, 8),
        source="scikit-learn, every fifth image for testing",
    )


def load_breast_cancer(folder: pathlib.Path | None) -> Dataset:
    """569 rows of 30 measures of cells' nuclei; labels: 0 malignant, 1 benign.

    Raises:
      DataError: if scikit-learn is missing.
    """
    return _table("breast_cancer", _datasets("breast_cancer", folder).load_breast_cancer())


def load_wine(folder: pathlib.Path | None) -> Dataset:
    """178 rows of 13 chemical measures of wines; labels: three growers.

    Raises:
      DataError: if scikit-learn is missing.
    """
    return _table("wine", _datasets("wine", folder).load_wine())


def load_diabetes(folder: pathlib.Path | None) -> Dataset:
    """442 rows of 10 measures of patients, in their own units; labels: progression a year later.

    Raises:
      DataError: if scikit-learn is missing.
    """
    return _table("diabetes", _datasets("diabetes", folder).load_diabetes(scaled=False))


def _table(name: str, bunch: Any) -> Dataset:
    return from_arrays(
        **_split(bunch.data, bunch.target.astype(np.int64)),
        columns=list(bunch.feature_names),
        name=name,
        source="scikit-learn, every fifth row for testing",
    )


def _split(rows: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    is_test = np.arange(len(rows)) % _EVERY == _EVERY - 1
    return {
        "train": rows[~is_test],
        "test": rows[is_test],
        "train_labels": labels[~is_test],
        "test_labels": labels[is_test],
    }


def _datasets(name: str, folder: pathlib.Path | None) -> ModuleType:
    if folder is not None:
        warnings.warn(
            f"`data_dir` {str(folder)!r} is not looked at: {name} comes with scikit-learn.",
            stacklevel=callers.level(),
        )
    try:
        import sklearn.datasets
    except ImportError as error:
        raise DataError(
            f"The data set {name} comes with scikit-learn, which is missing: "
            "pip install 'aiwae_jax[run]'."
        ) from error
    return sklearn.datasets
