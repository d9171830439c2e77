"""Readers of files, one for each kind; `data.from_file` chooses among them."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import arrays, h5ad, idx, images, parquet, text
from aiwae_jax.data.readers.content import Content

__all__ = ["KNOWN", "Content", "find"]


class _Reader(NamedTuple):
    """How a kind of file is read.

    Attributes:
      read: `read(path, **options)`, part -> content: "train" and "test", or "all".
      options: which it takes.
      is_table: whether it can be told which columns to look at: `read(path, only=names)`.
    """

    read: Callable[..., dict[str, Content]]
    options: tuple[str, ...] = ()
    is_table: bool = False


_TEXT = _Reader(text.read, ("label",), is_table=True)
_BY_SUFFIX = {
    ".npz": _Reader(arrays.read_npz),
    ".npy": _Reader(arrays.read_npy),
    ".csv": _TEXT,
    ".tsv": _TEXT,
    ".amat": _TEXT,
    ".parquet": _Reader(parquet.read, ("label",), is_table=True),
    ".h5ad": _Reader(h5ad.read, ("label", "layer")),
}
_OF_FOLDERS = (
    (arrays.is_folder_of, arrays.read_folder),
    (idx.is_folder_of, idx.read_folder),
    (images.is_folder_of, images.read),
)
KNOWN = (
    f"{', '.join(_BY_SUFFIX)}, an IDX file, or a folder of .npy files, of IDX files or of images"
)


def find(path: pathlib.Path) -> _Reader:
    """The reader of a file or folder.

    Raises:
      DataError: if there is nothing at that path, or nothing that is known.
    """
    if path.is_dir():
        for is_folder_of, read in _OF_FOLDERS:
            if is_folder_of(path):
                return _Reader(read)
        raise DataError(f"The folder {path} holds neither images nor IDX or .npy files.")
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty.")
    suffix = path.suffix.lower()
    if suffix == ".gz" and _BY_SUFFIX.get(within := path.with_suffix("").suffix) == _TEXT:
        suffix = within
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if idx.is_one(path):
        return _Reader(idx.read)
    raise DataError(f"{path} is of no kind that can be read; those are {KNOWN}.")
