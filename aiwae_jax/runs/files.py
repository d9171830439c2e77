"""Files and folders of results: looked at before the work, written whole, read as what they are."""

import contextlib
import errno
import io
import json
import math
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

# What reading a damaged .npz file raises, beside an `OSError` of no disk.
DAMAGED_ARRAYS = (
    *(EOFError, KeyError, MemoryError, NotImplementedError, RuntimeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


class WorkdirError(ValueError):
    """A folder or file that must not, or cannot, be used; the message is one clear line."""


class RefusedError(ValueError):
    """A file that does not hold what it promises; the message is one clear line."""


def check_file(path: pathlib.Path) -> None:
    """Refuses what is there and is no file: reading a pipe, say, would wait for ever.

    Raises:
      WorkdirError: if it is something else; nothing at all is fine.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no ordinary file"
        raise WorkdirError(f"{path} is {what}, where a file is wanted; move it away.")


def check_folder(path: pathlib.Path) -> None:
    """Refuses what is there and is no folder.

    Raises:
      WorkdirError: if it is something else; nothing at all is fine.
    """
    if path.is_dir() or not (path.exists() or path.is_symlink()):
        return
    what = "a file" if path.exists() else "a link to what is not there"
    raise WorkdirError(f"{path} is {what}, where a folder is wanted; move it away.")


def make_folder(folder: pathlib.Path, flag: str, *, is_dry_run: bool = False) -> None:
    """Makes a folder for results, before they are worked for, and proves that it takes files.

    Args:
      folder: that is made, with its parents.
      flag: that named it.
      is_dry_run: whether to look only, and make nothing.

    Raises:
      WorkdirError: if that is impossible.
    """
    try:
        if not is_dry_run:
            folder.mkdir(parents=True, exist_ok=True)
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if is_dry_run and not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise WorkdirError(
            f"{flag}: {folder} cannot be made a folder that takes files ({error.strerror})."
        ) from None


def prepare(path: pathlib.Path, flag: str, *, is_dry_run: bool = False) -> None:
    """Sees to it, before the work, that a file can be written.

    Raises:
      WorkdirError: if it cannot.
    """
    make_folder(path.parent, flag, is_dry_run=is_dry_run)
    try:
        check_file(path)
    except WorkdirError as error:
        raise WorkdirError(f"{flag}: {error}") from None


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write to: what was written there becomes `path` at the end, if that is reached.

    It ends like `path`, for writers that go by it.

    Raises:
      WorkdirError: if there is a folder by that name.
    """
    check_file(path)
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, write_fn: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under a temporary name first, so that it is whole or not there.

    Raises:
      WorkdirError: if there is a folder by that name.
    """
    with whole(path) as temporary, temporary.open("wb") as file:
        write_fn(file)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file, whole or not at all."""
    write_whole(path, lambda file: np.savez(file, **arrays))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, to_json(content) + "\n")


def to_json(content: Any) -> str:
    """JSON that any program can read."""
    return json.dumps(_without_nonfinite(content), indent=2, allow_nan=False)


def _without_nonfinite(content: Any) -> Any:
    """NaN and infinities as null, which JSON has a word for."""
    if isinstance(content, dict):
        return {key: _without_nonfinite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nonfinite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def read_arrays(path: pathlib.Path, advice: str = "move it away") -> dict[str, np.ndarray]:
    """Reads an .npz file.

    Args:
      path: of the file.
      advice: what to do where it is damaged.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    check_file(path)
    try:
        return load_arrays(path.read_bytes())
    except (OSError, *DAMAGED_ARRAYS) as error:
        raise WorkdirError(f"{path} cannot be read ({error}); {advice}.") from None


def load_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file's content.

    Raises:
      ValueError: if it is another kind of file; or one of the other `DAMAGED_ARRAYS`.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("it is no .npz file, or was cut short")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def read_json(path: pathlib.Path, advice: str) -> Any:
    """Reads a JSON file.

    Args:
      path: of the file.
      advice: what to do where it is damaged.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    check_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise WorkdirError(f"{path} cannot be read ({error}); {advice}.") from None
