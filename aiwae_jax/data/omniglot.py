"""Omniglot: the IWAE authors' 28x28 file, and TFDS's images."""

import pathlib

import jax
import numpy as np

from aiwae_jax.data import fetching
from aiwae_jax.data.dataset import DataError, Dataset

_URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
_SIZES = {"data": (784, 24345), "testdata": (784, 8070)}


def load(folder: pathlib.Path | None) -> Dataset:
    """The authors' file, in `folder`, in the cache, or now downloaded to it.

    Raises:
      DataError: if it is of other content, or cannot be had.
    """
    places = [folder / "omniglot", folder] if folder is not None else []
    cached = fetching.cache_folder() / "chardata.mat"
    for path in [*(place / "chardata.mat" for place in places), cached]:
        if path.is_file():
            return _read(path, "chardata.mat")
    searched = f" (searched {', '.join(map(str, places))})" if places else ""
    fetching.download(
        _URL,
        cached,
        verify_fn=lambda temporary: _read(temporary, "download"),
        hint=f"put chardata.mat into a folder and name it with --data_dir{searched}",
    )
    return _read(cached, "chardata.mat, downloaded from the IWAE authors' repository")


def _read(path: pathlib.Path, source: str) -> Dataset:
    try:
        import scipy.io
    except ImportError as error:
        raise DataError(
            "Reading chardata.mat needs SciPy: pip install 'aiwae_jax[run]'."
        ) from error
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # scipy raises whatever its parser trips over
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({type(error).__name__})."
        ) from None

    images = {}
    for name, shape in _SIZES.items():
        if name not in content or content[name].shape != shape:
            found = list(content[name].shape) if name in content else "nothing"
            raise DataError(f"{path}: `{name}` must have shape {list(shape)}, found {found}.")
        values = content[name]
        is_real = values.dtype.kind in "biuf"
        if not (
            is_real and np.isfinite(values).all() and 0.0 <= values.min() < values.max() <= 1.0
        ):
            raise DataError(f"{path}: `{name}` must lie within [0, 1] and not be blank.")
        # Stored one image per column, and each image column by column.
        square = values.T.reshape(-1, 28, 28).transpose(0, 2, 1)
        images[name] = np.ascontiguousarray(square).reshape(-1, 784)
    is_binary = all(np.isin(values, (0.0, 1.0)).all() for values in images.values())
    dtype = np.uint8 if is_binary else np.float32
    labels = {
        name: content[name].argmax(axis=0) if name in content else None
        for name in ("target", "testtarget")
    }
    return Dataset(
        name="omniglot",
        title="omniglot (1-bit stand-in)" if is_binary else "omniglot",
        train=images["data"].astype(dtype),
        test=images["testdata"].astype(dtype),
        train_labels=labels["target"],
        test_labels=labels["testtarget"],
        max_level=1.0,
        image_shape=(28, 28),
        source=source,
        is_stand_in=is_binary,
    )


def load_from_tfds(folder: pathlib.Path | None) -> Dataset:
    """TFDS's own images and split, shrunk to 28x28: another data set.

    Raises:
      DataError: if TFDS cannot provide it.
    """
    splits = fetching.from_tfds("omniglot", folder, "")
    arrays = {}
    for split, (images, _) in splits.items():
        ink = 1.0 - images[..., 0].astype(np.float32) / 255.0  # TFDS draws dark on white
        arrays[split] = np.asarray(
            jax.image.resize(ink, (len(ink), 28, 28), "linear", antialias=True)
        ).clip(0.0, 1.0)
    return Dataset(
        name="omniglot_tfds",
        title="omniglot (TFDS images and split, 28x28)",
        train=arrays["train"].reshape(-1, 784),
        test=arrays["test"].reshape(-1, 784),
        train_labels=splits["train"][1],
        test_labels=splits["test"][1],
        max_level=1.0,
        image_shape=(28, 28),
        source="TFDS omniglot, shrunk from 105x105",
        is_stand_in=True,
    )
