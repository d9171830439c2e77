"""MNIST's relatives, in files of its format: Fashion-MNIST, KMNIST and EMNIST (balanced).

Sizes and checksums are those by which TFDS verifies the same downloads.
"""

import gzip
import hashlib
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from aiwae_jax.data import fetching, mnist
from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.readers import idx

_SIDE = 28
_FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


class _Relative(NamedTuple):
    """Where a data set is, and how large.

    Attributes:
      title: what to call it.
      num_train: training images.
      num_test: test images.
      url: of the folder with its files, or of the archive.
      sha256: of the packed files by name, or of the archive.
      torchvision: the folder that torchvision makes for it.
      prefix: of its files' names.
      archive: the file that they are packed in together.
      is_transposed: whether the files have columns for rows.
    """

    title: str
    num_train: int
    num_test: int
    url: str
    sha256: dict[str, str]
    torchvision: str
    prefix: str = ""
    archive: str | None = None
    is_transposed: bool = False


_RELATIVES = {
    "fashion_mnist": _Relative(
        "Fashion-MNIST",
        60_000,
        10_000,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3-ubyte.gz": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
        "FashionMNIST",
    ),
    "kmnist": _Relative(
        "KMNIST",
        60_000,
        10_000,
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
        {
            "train-images-idx3-ubyte.gz": (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
            ),
            "train-labels-idx1-ubyte.gz": (
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"
            ),
        },
        "KMNIST",
    ),
    "emnist": _Relative(
        "EMNIST (balanced)",
        112_800,
        18_800,
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        {"gzip.zip": "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"},
        "EMNIST",
        prefix="emnist-balanced-",
        archive="gzip.zip",
        is_transposed=True,
    ),
}


def load(name: str, folder: pathlib.Path | None) -> Dataset:
    """One of them, from `folder`, from the cache, or now downloaded to it.

    Files are those of MNIST's names, packed or not, in `<folder>/<name>`, `<folder>` itself or the
    folder that torchvision makes; EMNIST's begin with `emnist-balanced-`, also within `gzip.zip`.
    Those that are packed as they were published are verified by their SHA-256; of others the sizes
    are, and that they are not MNIST.

    Raises:
      DataError: if they are incomplete, damaged or something else, or cannot be had.
    """
    said = _RELATIVES[name]
    cache = fetching.cache_folder() / name
    for place in [*_places(name, said, folder), cache]:
        if found := _contents(place, said):
            return _dataset(name, said, found)
    files = [f"{said.prefix}{file}" for file in _FILES]
    hint = f"put {', '.join(files)} (also as .gz) into a folder and name it with --data_dir"
    for file, sha256 in said.sha256.items():
        if not (cache / file).is_file():
            url = said.url if said.archive else f"{said.url}/{file}"
            fetching.download(url, cache / file, sha256=sha256, hint=hint)
    return _dataset(name, said, _contents(cache, said))


def _places(name: str, said: _Relative, folder: pathlib.Path | None) -> list[pathlib.Path]:
    if folder is None:
        return []
    return [folder / name, folder, folder / said.torchvision / "raw", folder / name / "gzip"]


def _contents(place: pathlib.Path, said: _Relative) -> dict[str, tuple[bytes, str, bool]]:
    """File -> (content, where it is, whether it is verified); empty where none is there."""
    if said.archive and (place / said.archive).is_file():
        return _unzipped(place / said.archive, said)
    found, missing = {}, []
    for file in _FILES:
        paths = (place / f"{said.prefix}{file}{end}" for end in (".gz", ""))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            missing.append(f"{said.prefix}{file}")
            continue
        expected = said.sha256.get(f"{file}.gz")
        is_verified = path.suffix == ".gz" and _sha256(path) == expected
        found[file] = idx.content_of(path), str(path), is_verified
    if found and missing:
        raise DataError(f"{place} has some of {said.title}'s files but lacks {', '.join(missing)}.")
    return found


def _unzipped(path: pathlib.Path, said: _Relative) -> dict[str, tuple[bytes, str, bool]]:
    is_verified = _sha256(path) == said.sha256[path.name]
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                file: (
                    gzip.decompress(archive.read(f"gzip/{said.prefix}{file}.gz")),
                    f"{path}: {file}",
                    is_verified,
                )
                for file in _FILES
            }
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({error})."
        ) from None


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dataset(name: str, said: _Relative, contents: dict[str, tuple[bytes, str, bool]]) -> Dataset:
    arrays, are_verified = {}, True
    for file, (content, where, is_verified) in contents.items():
        if hashlib.sha256(content).hexdigest() in mnist.SHA256.values():
            raise DataError(f"{where} is MNIST's, and not {said.title}'s, which has the same name.")
        num = said.num_train if file.startswith("train") else said.num_test
        shape = (num, _SIDE, _SIDE) if "images" in file else (num,)
        array = idx.decode(content, where)
        if (array.shape, array.dtype) != (shape, np.uint8):
            raise DataError(
                f"{where} holds {array.dtype} of shape {list(array.shape)}, where {said.title} has "
                f"bytes of shape {list(shape)}."
            )
        if "images" in file:
            array = array.transpose(0, 2, 1) if said.is_transposed else array
            array = np.ascontiguousarray(array).reshape(num, -1)
        arrays[file] = array
        are_verified &= is_verified
    verdict = "verified by their SHA-256" if are_verified else "of the right sizes, not verified"
    return Dataset(
        name=name,
        title=said.title,
        train=arrays["train-images-idx3-ubyte"],
        test=arrays["t10k-images-idx3-ubyte"],
        train_labels=arrays["train-labels-idx1-ubyte"].astype(np.int64),
        test_labels=arrays["t10k-labels-idx1-ubyte"].astype(np.int64),
        max_level=255.0,
        image_shape=(_SIDE, _SIDE),
        source=f"IDX files, {verdict}",
    )
