"""Data from elsewhere: a download, or a data set that TFDS has prepared or will prepare."""

import errno
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from aiwae_jax.data.dataset import DataError

_DOWNLOAD_TIMEOUT_S = 60
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def cache_folder() -> pathlib.Path:
    """Where downloads are kept: $AIWAE_CACHE_DIR, or aiwae_jax in the user's cache folder."""
    if "AIWAE_CACHE_DIR" in os.environ:
        return pathlib.Path(os.environ["AIWAE_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "aiwae_jax"


def download(
    url: str,
    path: pathlib.Path,
    *,
    hint: str,
    sha256: str | None = None,
    verify_fn: Callable[[pathlib.Path], object] = lambda path: None,
) -> None:
    """Downloads a file, and gives it its name when it is whole and verified.

    Args:
      url: of the file.
      path: where it is to lie.
      hint: what else the user can do.
      sha256: of its content, where it is known.
      verify_fn: raises on a file of other content.

    Raises:
      DataError: if the folder cannot be written to, or the file not be had.
    """
    try:
        import pooch
    except ImportError:
        raise DataError(
            f"{path.name} is not here, and downloading it needs pooch: pip install "
            f"'aiwae_jax[run]'; or {hint}."
        ) from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise DataError(
            f"{path.name} is not here, and the folder {path.parent} where downloads are kept "
            f"cannot be written to ({error.strerror}); name another one with AIWAE_CACHE_DIR, "
            f"or {hint}."
        ) from None
    try:
        temporary.unlink()  # pooch keeps what is there
        pooch.get_logger().setLevel("WARNING")
        print(f"downloading {url} to {path.parent}", file=sys.stderr)
        pooch.retrieve(
            url,
            known_hash=sha256 and f"sha256:{sha256}",
            fname=temporary.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=_DOWNLOAD_TIMEOUT_S),
        )
        verify_fn(temporary)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # those of requests are OSErrors
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path.name} could not be downloaded from {url} ({_reason(error)}); {hint}."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: OSError | ValueError) -> str:
    """Why a download failed, without the pools and retries of the libraries in between."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "its content has another SHA-256"
    within = getattr(error.args[0], "reason", error) if error.args else error
    words = str(within)
    return words.partition("): ")[2] or words


def from_tfds(name: str, folder: pathlib.Path | None, hint: str) -> dict[str, tuple]:
    """Reads a prepared TFDS data set, or has TFDS download and prepare it: {split: (x, labels)}.

    The array_record format needs no TensorFlow to be written or read.

    Args:
      name: TFDS's.
      folder: where a prepared one may lie.
      hint: what else the user can do, or nothing.

    Raises:
      DataError: if TFDS is missing, or could not provide it.
    """
    hint = f"; or {hint}" if hint else ""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise DataError(
            f"{name} was not found, and downloading it needs TFDS: "
            f"pip install 'aiwae_jax[tfds]'{hint}."
        ) from None
    try:
        builder = _prepared_builder(tfds, name, folder)
        splits = {}
        for split in ("train", "test"):
            source = builder.as_data_source(split=split)
            examples = [source[i] for i in range(len(source))]
            images = np.stack([example["image"] for example in examples])
            splits[split] = images, np.asarray([example["label"] for example in examples])
        return splits
    except Exception as error:  # TFDS passes on whatever its download or reader raised
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0][:200] if lines else 'no reason given'}"
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise DataError(
                f"{name} was not found, and TFDS cannot write to the folder where it keeps its "
                f"data ({reason}); name another one with TFDS_DATA_DIR{hint}."
            ) from None
        raise DataError(
            f"TFDS could not provide {name} ({reason}); preparing it needs a network and "
            f"pip install 'aiwae_jax[tfds]'{hint}."
        ) from None


def _prepared_builder(tfds, name: str, folder: pathlib.Path | None):
    """A builder whose data are there: in `folder`, in TFDS's own place, or now downloaded to it.

    The array_record format is read without TensorFlow; preparing, TFDS does not work without it.
    """
    if folder is not None:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        if builder.is_prepared():
            return builder
    builder = tfds.builder(name, file_format="array_record")
    builder.download_and_prepare()  # returns at once where it is prepared
    return builder
