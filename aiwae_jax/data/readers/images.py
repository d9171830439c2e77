"""A folder of images of one size, grey or in colours."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import needs
from aiwae_jax.data.readers.content import Content

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# Pillow's modes as they are, or as what they are read as.
_MODES = {"1": "1", "L": "L", "RGB": "RGB", "P": "RGB", "I;16": "I;16", "I": "I", "F": "F"}


def is_folder_of(folder: pathlib.Path) -> bool:
    """Whether there are images in a folder or its folders."""
    return next(_paths(folder), None) is not None


def _paths(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not is_hidden:
            yield path


def read(folder: pathlib.Path) -> dict[str, Content]:
    """Reads images in the order of their names; those of a folder's folders have its labels.

    Folders `train` and `test` hold what their names say.

    Raises:
      DataError: if they differ in size or colours, or one cannot be read.
    """
    (pillow,) = needs.modules(("PIL.Image",), folder, extra="images")
    parts = {name: folder / name for name in ("train", "test")}
    if not all(map(pathlib.Path.is_dir, parts.values())):
        parts = {"all": folder}
    paths = {name: sorted(_paths(part)) for name, part in parts.items()}
    first: tuple[pathlib.Path, str] | None = None
    found, classes = {}, sorted({_class(p, parts[name]) for name in paths for p in paths[name]})
    for name, of_part in paths.items():
        if not of_part:
            raise DataError(f"{parts[name]} holds no images.")
        rows = None
        for i, path in enumerate(of_part):
            image, what = _read(pillow, path)
            first = first or (path, what)
            if what != first[1]:
                raise DataError(
                    f"{path} is {what}, and {first[0]} is {first[1]}; all must be of one size and "
                    "one kind."
                )
            if rows is None:
                rows = np.empty((len(of_part), *image.shape), image.dtype)
            rows[i] = image
        labels, names = None, None
        if len(classes) > 1:
            labels = np.array([classes.index(_class(path, parts[name])) for path in of_part])
            names = tuple(classes)
        found[name] = Content(rows, labels, label_names=names)
    return found


def _class(path: pathlib.Path, folder: pathlib.Path) -> str:
    """The folder that an image is in, of those of a folder."""
    return path.relative_to(folder).parent.as_posix()


def _read(pillow: Any, path: pathlib.Path) -> tuple[np.ndarray, str]:
    """Levels `[height, width]`, or `[height, width, 3]` of colours; and words for their kind."""
    try:
        with pillow.open(path) as image:
            mode = _MODES.get(image.mode)
            if mode is None:
                raise DataError(
                    f"{path} is of mode {image.mode}, and must be grey or of three colours; convert"
                    " it."
                )
            levels = np.array(image if mode == image.mode else image.convert(mode))
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({error})."
        ) from None
    if levels.dtype == np.bool_:
        levels = levels.astype(np.uint8)
    return levels, f"{levels.shape[0]}x{levels.shape[1]} of mode {mode}"
