"""MNIST, in any of the layouts that it is passed on in: found, and verified to be MNIST."""

import hashlib
import pathlib
import zipfile
import zlib

import numpy as np

from aiwae_jax.data import fetching
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.readers import idx

# SHA-256 of the decompressed IDX content, and what it holds.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
# TFDS shuffles MNIST on preparation, so the checksum is of the sorted rows: label, then pixels.
_SORTED_SHA256 = {
    "train": "da6370735bf1d490f086dde49c15f2ed0480ad05dc7c70abf5d36bf471d5e312",
    "t10k": "0c7bc63f656fb2440dc2b5bea4ff3ac8632e305b73ec1dc88141a32d36204fac",
}
_KERAS_FILE = "mnist.npz"
_KERAS_KEYS = {
    "train-images-idx3-ubyte": "x_train",
    "train-labels-idx1-ubyte": "y_train",
    "t10k-images-idx3-ubyte": "x_test",
    "t10k-labels-idx1-ubyte": "y_test",
}
_SIBLINGS = "Fashion-MNIST, KMNIST and EMNIST use the same names"
_OF_OTHER_DATA = ("*.amat", "*.mat", "*.npz", "*.csv", "*.parquet", "*ubyte*")
_NUM_NAMED = 4


def load(folder: pathlib.Path | None) -> Dataset:
    """MNIST from files in `folder`, or from TFDS.

    Files are the four of IDX, packed or not, under their own names or Kaggle's, also in the folders
    that torchvision and Kaggle make for them; or Keras's `mnist.npz`.

    Raises:
      DataError: if they are incomplete, damaged or not MNIST; if there are none and TFDS cannot
        provide them.
    """
    if folder is not None:
        if paths := _find_idx_files(folder):
            arrays = {name: _read_idx(path, name) for name, path in paths.items()}
            return _dataset(arrays, "IDX files")
        for place in _places(folder):
            if (place / _KERAS_FILE).is_file():
                return _dataset(_read_keras(place / _KERAS_FILE), "Keras's mnist.npz")
    arrays = {}
    splits = fetching.from_tfds("mnist", folder, _hint(folder))
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = splits[split]
        arrays[f"{prefix}-images-idx3-ubyte"] = images.reshape(len(images), -1)
        arrays[f"{prefix}-labels-idx1-ubyte"] = labels.astype(np.uint8)
    _verify_as_set(arrays)
    return _dataset(arrays, "TFDS mnist")


def _places(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / "mnist", folder, folder / "MNIST" / "raw", folder / "raw"]


def _hint(folder: pathlib.Path | None) -> str:
    """Says what to put where; of a folder that was searched, what was there instead."""
    wanted = (
        f"put the four files {', '.join(SHA256)} (also as .gz), or Keras's {_KERAS_FILE}, into a "
        "folder and name it with --data_dir"
    )
    if folder is None:
        return wanted
    found = sorted(
        {
            path.name
            for place in _places(folder)
            for pattern in _OF_OTHER_DATA
            for path in place.glob(pattern)
        }
    )
    there = ""
    if found:
        more = ", ..." if len(found) > _NUM_NAMED else ""
        there = f" and found only {', '.join(found[:_NUM_NAMED])}{more}"
    return f"{wanted} (searched {', '.join(map(str, _places(folder)))}{there})"


def _idx_path(place: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of that name, or of Kaggle's (`train-images.idx3-ubyte`, or in a folder)."""
    for own in (name, name.replace("-idx", ".idx")):
        for path in (place / own, place / f"{own}.gz", place / own / own):
            if path.is_file():
                return path
    return None


def _find_idx_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    incomplete = None
    for place in _places(folder):
        found = {name: path for name in SHA256 if (path := _idx_path(place, name))}
        if len(found) == len(SHA256):
            return found
        if found and incomplete is None:
            incomplete = place, sorted(set(SHA256) - set(found))
    if incomplete is not None:
        place, missing = incomplete
        raise DataError(f"{place} has some of MNIST's IDX files but lacks {', '.join(missing)}.")
    return {}


def _read_idx(path: pathlib.Path, name: str) -> np.ndarray:
    """Decodes an IDX file after its checksum proved that it is the one expected."""
    content = idx.content_of(path)
    _verify(content, path, name)
    return _rows(idx.decode(content, str(path)), name)


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    num, *pixels = _SHAPES[name]
    return values.reshape(num, -1) if pixels else values


def _verify(content: bytes, path: pathlib.Path, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found == SHA256[name]:
        return
    try:
        shape = idx.decode(content, str(path)).shape
    except DataError:
        shape = None
    if shape is None:
        verdict = "It may be truncated or corrupt"
    elif shape != _SHAPES[name]:
        verdict = (
            f"It is a whole IDX file of shape {list(shape)} where MNIST's is "
            f"{list(_SHAPES[name])}: another data set ({_SIBLINGS})"
        )
    else:
        verdict = (
            f"It is a whole IDX file of the right shape: another data set ({_SIBLINGS}), or "
            "MNIST with changed pixels"
        )
    raise DataError(
        f"{path} is not MNIST's {name}: the SHA-256 of its content is {found[:16]}..., "
        f"expected {SHA256[name][:16]}.... {verdict}."
    )


def _read_keras(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of Keras's file, which are in the order of the IDX files."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            missing = sorted(set(_KERAS_KEYS.values()) - set(content.files))
            if missing:
                raise DataError(f"{path} lacks {', '.join(missing)} of Keras's MNIST.")
            stored = {name: content[key] for name, key in _KERAS_KEYS.items()}
    except (OSError, EOFError, AttributeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({type(error).__name__})."
        ) from None
    arrays = {}
    for name, values in stored.items():
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
        _verify(header + values.tobytes(), path, name)
        arrays[name] = _rows(values, name)
    return arrays


def _dataset(arrays: dict[str, np.ndarray], source: str) -> Dataset:
    return Dataset(
        name="mnist",
        title="mnist",
        train=arrays["train-images-idx3-ubyte"],
        test=arrays["t10k-images-idx3-ubyte"],
        train_labels=arrays["train-labels-idx1-ubyte"].astype(np.int64),
        test_labels=arrays["t10k-labels-idx1-ubyte"].astype(np.int64),
        max_level=255.0,
        image_shape=(28, 28),
        source=source,
    )


def sorted_rows_sha256(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of labelled images regardless of their order."""
    rows = sorted(
        bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _verify_as_set(arrays: dict[str, np.ndarray]) -> None:
    for prefix, expected in _SORTED_SHA256.items():
        images = arrays[f"{prefix}-images-idx3-ubyte"]
        labels = arrays[f"{prefix}-labels-idx1-ubyte"]
        if sorted_rows_sha256(images, labels) != expected:
            raise DataError(
                f"The prepared TFDS data set is not MNIST: its {prefix} split of {len(images)} "
                "images has another SHA-256. Delete it and prepare it again."
            )
