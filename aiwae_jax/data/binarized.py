"""Larochelle & Murray's MNIST, whose pixels were drawn as bits once and for all."""

import hashlib
import pathlib

import numpy as np

from aiwae_jax.data import fetching
from aiwae_jax.data.dataset import DataError, Dataset

_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
_NUM_PIXELS = 784
# Part -> images, and the SHA-256 by which TFDS verifies the same download.
_PARTS = {
    "train": (50_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    "valid": (10_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    "test": (10_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
}


def load(folder: pathlib.Path | None) -> Dataset:
    """The three .amat files, from `folder`, from the cache, or now downloaded to it.

    Training data are its 50,000 training images and, after them, its 10,000 for validation.

    Raises:
      DataError: if they are incomplete or of other content, or cannot be had.
    """
    names = {part: f"binarized_mnist_{part}.amat" for part in _PARTS}
    places = [] if folder is None else [folder / "binarized_mnist", folder]
    cache = fetching.cache_folder() / "binarized_mnist"
    for place in places:
        there = [name for name in names.values() if (place / name).is_file()]
        if len(there) == len(names):
            return _dataset({part: place / name for part, name in names.items()})
        if there:
            lacking = ", ".join(name for name in names.values() if name not in there)
            raise DataError(f"{place} has some of binarized MNIST's files but lacks {lacking}.")
    hint = f"put {', '.join(names.values())} into a folder and name it with --data_dir"
    for part, name in names.items():
        if not (cache / name).is_file():
            fetching.download(f"{_URL}/{name}", cache / name, sha256=_PARTS[part][1], hint=hint)
    return _dataset({part: cache / name for part, name in names.items()})


def _dataset(paths: dict[str, pathlib.Path]) -> Dataset:
    bits = {part: _read(path, *_PARTS[part]) for part, path in paths.items()}
    return Dataset(
        name="binarized_mnist",
        title="binarized_mnist",
        train=np.concatenate([bits["train"], bits["valid"]]),
        test=bits["test"],
        image_shape=(28, 28),
        source="Larochelle's .amat files, verified by SHA-256; training and validation data joined",
    )


def _read(path: pathlib.Path, num_images: int, sha256: str) -> np.ndarray:
    """Bits `[N, 784]`: digits with something between them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}).") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is not the file that was published: its SHA-256 is {found[:16]}..., expected "
            f"{sha256[:16]}...; it may be truncated or corrupt."
        )
    signs = np.frombuffer(content, np.uint8).reshape(num_images, _NUM_PIXELS, 2)
    return signs[:, :, 0] - np.uint8(ord("0"))
