"""IDX files, MNIST's format: arrays of any shape and number type, packed or not."""

import gzip
import math
import pathlib
import zlib

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers.content import Content

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PARTS = {"train": "train", "test": "t10k"}  # how the files of a folder begin, after any prefix


def content_of(path: pathlib.Path) -> bytes:
    """Reads a file, and unpacks it where it is packed.

    Raises:
      DataError: if it cannot be read.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({error})."
        ) from None


def decode(content: bytes, where: str) -> np.ndarray:
    """The array of an IDX file's content.

    Args:
      content: of the file, unpacked.
      where: the file, for the message.

    Raises:
      DataError: for another format, or a length that is not that of the shape.
    """
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] not in _DTYPES:
        raise DataError(
            f"{where} is no IDX file: it must begin with 0, 0, one of the number types "
            f"{', '.join(map(str, _DTYPES))} and the number of axes, and begins with "
            f"{', '.join(map(str, content[:4])) or 'nothing'}."
        )
    dtype, num_axes = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * num_axes
    if not num_axes or len(content) < start:
        raise DataError(f"{where} is cut short: it ends within the shape of its array.")
    shape = tuple(np.frombuffer(content, ">i4", num_axes, offset=4).tolist())
    size = start + math.prod(shape) * dtype.itemsize
    if min(shape) < 0 or len(content) != size:
        raise DataError(
            f"{where} must be {size:,} bytes long for its shape {list(shape)}, and is "
            f"{len(content):,}: it is truncated or corrupt."
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def read(path: pathlib.Path) -> dict[str, Content]:
    """Reads one file of rows."""
    return {"all": Content(decode(content_of(path), str(path)))}


def is_one(path: pathlib.Path) -> bool:
    """Whether a file is named as IDX files are, or begins as they do."""
    if _is_named_so(path):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _DTYPES and start[3] > 0


def _is_named_so(path: pathlib.Path) -> bool:
    return "idx" in path.name and "ubyte" in path.name


def is_folder_of(folder: pathlib.Path) -> bool:
    """Whether a folder holds IDX files, by their names alone: it may be one of many images."""
    return any(map(_is_named_so, folder.iterdir()))


def read_folder(folder: pathlib.Path) -> dict[str, Content]:
    """Reads a folder's images and, where they are there, labels of training and test data.

    Their names are those of MNIST's files, also with something before them.

    Raises:
      DataError: if there are no images of one of the two, or several, or a file is damaged.
    """
    return {
        part: Content(
            decode(content_of(images), str(images)),
            None if labels is None else decode(content_of(labels), str(labels)),
        )
        for part, (images, labels) in find(folder).items()
    }


def find(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path | None]]:
    """The files of a folder, part -> (images, labels or None).

    Raises:
      DataError: as `read_folder`.
    """
    found = {}
    for part, start in _PARTS.items():
        images, labels = (
            _one(folder, [f"{start}-{what}", f"{part}-{what}"]) for what in ("images", "labels")
        )
        if images is None:
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:6])
            raise DataError(f"{folder} has no IDX file {start}-images-idx3-ubyte, but {there}.")
        found[part] = images, labels
    return found


def _one(folder: pathlib.Path, words: list[str]) -> pathlib.Path | None:
    """The file whose name has one of these words; packed and unpacked ones count once."""
    files = {
        path.name.removesuffix(".gz"): path
        for path in sorted(folder.iterdir(), reverse=True)  # what is unpacked comes last
        if any(word in path.name for word in words) and is_one(path)
    }
    if len(files) > 1:
        raise DataError(
            f"{folder} has several IDX files of {words[0]}: {', '.join(sorted(files))}; leave those"
            " of one data set."
        )
    return next(iter(files.values()), None)
