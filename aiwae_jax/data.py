"""Data sets: found, verified, and handed over as arrays of grey levels.

In order: raw files in `data_dir`, a prepared TFDS data set, a download. Whatever the way in, the
content is verified, and a stand-in is named as one.
"""

import gzip
import hashlib
import os
import pathlib
import tempfile
import urllib.request
import zlib
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

NAMES = ("digits", "mnist", "omniglot", "omniglot_tfds")

# SHA-256 of the decompressed IDX content.
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_OMNIGLOT_URL = (
    "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
)
_OMNIGLOT_SIZES = {"data": (784, 24345), "testdata": (784, 8070)}
_DOWNLOAD_TIMEOUT_S = 60


class DataError(ValueError):
    """Data that is missing, corrupt or not what its name says; the message is one clear line."""


class Dataset(NamedTuple):
    """Images as grey levels.

    Attributes:
      name: one of `NAMES`.
      title: what to call it beside a number; a stand-in is named here.
      train: `[N, X]` uint8 levels or float32 in [0, 1], row by row.
      test: `[M, X]` likewise.
      train_labels: `[N]` ints, or None.
      test_labels: `[M]` ints, or None.
      max_level: the level that stands for a probability of 1.
      image_shape: (height, width).
      source: where it came from, for the report.
      is_stand_in: whether its numbers are not comparable with the papers' on the same name.
    """

    name: str
    title: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    max_level: float
    image_shape: tuple[int, int]
    source: str
    is_stand_in: bool = False

    def mean_image(self) -> np.ndarray:
        """Mean training image `[X]` in [0, 1]."""
        return (self.train.mean(axis=0, dtype=np.float64) / self.max_level).astype(np.float32)


def binarize(key: chex.PRNGKey, levels: chex.Array, max_level: float) -> chex.Array:
    """Draws each pixel as 1 with probability level / max_level, float32 of the same shape."""
    noise = jax.random.uniform(key, levels.shape)
    return (noise < levels.astype(jnp.float32) / max_level).astype(jnp.float32)


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Loads and verifies a data set.

    Args:
      name: "digits" (embedded in scikit-learn), "mnist", "omniglot" (the IWAE authors' 28x28 file),
        or "omniglot_tfds" (TFDS's own images and split, shrunk to 28x28: another data set).
      data_dir: a folder with raw files, in `<data_dir>/<name>/` or itself, or a TFDS folder.

    Raises:
      DataError: for an unknown name, a missing folder, corrupt files, or when nothing was found and
        nothing could be downloaded.
    """
    if name not in _LOADERS:
        raise DataError(f"`dataset` must be one of {', '.join(NAMES)}; got {name!r}.")
    folder = None
    if data_dir:
        folder = pathlib.Path(data_dir).expanduser()
        if not folder.is_dir():
            raise DataError(f"`data_dir` {str(data_dir)!r} is not a folder.")
    return _LOADERS[name](folder)


def _load_digits(folder: pathlib.Path | None) -> Dataset:
    del folder
    try:
        import sklearn.datasets
    except ImportError as error:
        raise DataError(
            "The digits data set comes with scikit-learn, which is missing: "
            "pip install 'aiwae_jax[run]'."
        ) from error
    bunch = sklearn.datasets.load_digits()
    images, labels = bunch.data.astype(np.uint8), bunch.target
    is_test = np.arange(len(images)) % 5 == 4  # every fifth, so that all writers are in both
    return Dataset(
        name="digits",
        title="digits",
        train=images[~is_test],
        test=images[is_test],
        train_labels=labels[~is_test],
        test_labels=labels[is_test],
        max_level=16.0,
        image_shape=(8, 8),
        source="scikit-learn, every fifth image for testing",
    )


def _read_maybe_gzipped(path: pathlib.Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({error})."
        ) from None


def _parse_idx(content: bytes, path: pathlib.Path, name: str) -> np.ndarray:
    """Decodes an IDX file after its checksum proved that it is the one expected."""
    found = hashlib.sha256(content).hexdigest()
    if found != _MNIST_SHA256[name]:
        raise DataError(
            f"{path} is not MNIST's {name}: the SHA-256 of its content is {found[:16]}..., "
            f"expected {_MNIST_SHA256[name][:16]}.... It may be truncated or corrupt."
        )
    num_axes = content[3]
    shape = np.frombuffer(content, ">i4", num_axes, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
    return values.reshape(shape[0], -1) if num_axes > 1 else values


def _find_idx_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    for place in (folder / "mnist", folder):
        found = {}
        for name in _MNIST_SHA256:
            for file_name in (name, f"{name}.gz"):
                if (place / file_name).is_file():
                    found[name] = place / file_name
                    break
        missing = sorted(set(_MNIST_SHA256) - set(found))
        if found and missing:
            raise DataError(
                f"{place} has some of MNIST's IDX files but lacks {', '.join(missing)}."
            )
        if found:
            return found
    return {}


def _mnist(arrays: dict[str, np.ndarray], source: str) -> Dataset:
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


def _load_mnist(folder: pathlib.Path | None) -> Dataset:
    if folder is not None and (paths := _find_idx_files(folder)):
        arrays = {
            name: _parse_idx(_read_maybe_gzipped(path), path, name) for name, path in paths.items()
        }
        return _mnist(arrays, "IDX files")
    splits = _load_tfds("mnist", folder, "the four IDX files")
    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = splits[split]
        arrays[f"{prefix}-images-idx3-ubyte"] = images.reshape(len(images), -1)
        arrays[f"{prefix}-labels-idx1-ubyte"] = labels.astype(np.uint8)
    _verify_mnist_as_set(arrays)
    return _mnist(arrays, "TFDS mnist")


# TFDS shuffles MNIST on preparation, so the checksum is of the sorted rows: label, then pixels.
_MNIST_SORTED_SHA256 = {
    "train": "da6370735bf1d490f086dde49c15f2ed0480ad05dc7c70abf5d36bf471d5e312",
    "t10k": "0c7bc63f656fb2440dc2b5bea4ff3ac8632e305b73ec1dc88141a32d36204fac",
}


def sorted_rows_sha256(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of labelled images regardless of their order."""
    rows = sorted(
        bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _verify_mnist_as_set(arrays: dict[str, np.ndarray]) -> None:
    for prefix, expected in _MNIST_SORTED_SHA256.items():
        images = arrays[f"{prefix}-images-idx3-ubyte"]
        labels = arrays[f"{prefix}-labels-idx1-ubyte"]
        if sorted_rows_sha256(images, labels) != expected:
            raise DataError(
                f"The prepared TFDS data set is not MNIST: its {prefix} split of {len(images)} "
                "images has another SHA-256. Delete it and prepare it again."
            )


def cache_folder() -> pathlib.Path:
    """Where downloads are kept: $AIWAE_CACHE_DIR, or aiwae_jax in the user's cache folder."""
    if "AIWAE_CACHE_DIR" in os.environ:
        return pathlib.Path(os.environ["AIWAE_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "aiwae_jax"


def _load_omniglot(folder: pathlib.Path | None) -> Dataset:
    places = [folder / "omniglot", folder] if folder is not None else []
    for place in [*places, cache_folder()]:
        if (place / "chardata.mat").is_file():
            return _read_chardata(place / "chardata.mat", "chardata.mat")
    path = cache_folder() / "chardata.mat"
    _download(
        _OMNIGLOT_URL,
        path,
        verify_fn=lambda temporary: _read_chardata(temporary, "download"),
        hint="put chardata.mat into a folder and name it with --data_dir",
    )
    return _read_chardata(path, "chardata.mat, downloaded from the IWAE authors' repository")


def _read_chardata(path: pathlib.Path, source: str) -> Dataset:
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
    for name, shape in _OMNIGLOT_SIZES.items():
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


def _download(url: str, path: pathlib.Path, *, verify_fn, hint: str) -> None:
    """Downloads to a temporary file beside `path`, verifies it, and only then gives it its name."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as response,
            tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file,
        ):
            temporary = pathlib.Path(file.name)
            while block := response.read(1 << 20):
                file.write(block)
        verify_fn(temporary)
        os.replace(temporary, path)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{path.name} could not be downloaded from {url} ({reason}); {hint}."
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _load_omniglot_tfds(folder: pathlib.Path | None) -> Dataset:
    splits = _load_tfds("omniglot", folder, None)
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


def _load_tfds(name: str, folder: pathlib.Path | None, raw_files: str | None):
    """Reads a prepared TFDS data set, or has TFDS download and prepare it: {split: (x, labels)}.

    The array_record format needs no TensorFlow to be written or read.
    """
    hint = f", or put {raw_files} into a folder and name it with --data_dir" if raw_files else ""
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
        reason = str(error).strip().splitlines()
        raise DataError(
            f"TFDS could not provide {name} ({type(error).__name__}: "
            f"{reason[0][:200] if reason else 'no reason given'}); preparing it needs a network "
            f"and pip install 'aiwae_jax[tfds]'{hint}."
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


_LOADERS = {
    "digits": _load_digits,
    "mnist": _load_mnist,
    "omniglot": _load_omniglot,
    "omniglot_tfds": _load_omniglot_tfds,
}
