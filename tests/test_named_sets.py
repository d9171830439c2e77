"""Named sets beside MNIST and Omniglot, in small files of the layout that was published."""

import gzip
import hashlib
import zipfile

import numpy as np
import pytest
import sklearn.datasets

from aiwae_jax import data
from aiwae_jax.data import binarized, mnist, relatives

NUM = {"train": 12, "t10k": 5}
IMAGES = {
    part: np.random.default_rng(i).integers(0, 256, (n, 28, 28), np.uint8)
    for i, (part, n) in enumerate(NUM.items())
}
LABELS = {part: np.arange(n, dtype=np.uint8) for part, n in NUM.items()}
NAMES = ("fashion_mnist", "kmnist", "emnist")
FOLDERS = {"fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "emnist": "EMNIST"}


def idx_bytes(array):
    shape = np.array(array.shape, ">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def files(name):
    """The published files, packed: name -> bytes."""
    found = {}
    for part in NUM:
        prefix = "emnist-balanced-" if name == "emnist" else ""
        word = {"t10k": "test", "train": "train"}[part] if name == "emnist" else part
        images = IMAGES[part].transpose(0, 2, 1) if name == "emnist" else IMAGES[part]
        contents = {"images-idx3": images, "labels-idx1": LABELS[part]}
        for what, array in contents.items():
            found[f"{prefix}{word}-{what}-ubyte.gz"] = gzip.compress(idx_bytes(array), mtime=0)
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The same data sets of a few images, and nothing in the cache."""
    for name, said in relatives._RELATIVES.items():
        changed = said._replace(num_train=NUM["train"], num_test=NUM["t10k"])
        if not said.archive:
            checksums = {file: hashlib.sha256(c).hexdigest() for file, c in files(name).items()}
            changed = changed._replace(sha256=checksums)
        monkeypatch.setitem(relatives._RELATIVES, name, changed)


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def check(found):
    for part, of in (("train", "train"), ("t10k", "test")):
        np.testing.assert_array_equal(getattr(found, of), IMAGES[part].reshape(NUM[part], 784))
        np.testing.assert_array_equal(getattr(found, f"{of}_labels"), LABELS[part])
    assert (found.max_level, found.image_shape, found.kind) == (255.0, (28, 28), "grey")


@pytest.mark.parametrize("name", NAMES)
def test_files_are_found_where_others_put_them(name, tmp_path):
    for place in (name, ".", f"{FOLDERS[name]}/raw"):
        folder = tmp_path / place.replace("/", "-")
        write(folder / place, files(name))
        found = data.load(name, folder)
        check(found)
        assert found.name == name
        is_verified = name != "emnist"  # of which only the archive has a checksum
        assert ("verified by their SHA-256" in found.source) == is_verified


@pytest.mark.parametrize("name", NAMES)
def test_unpacked_files_are_of_the_right_sizes_and_said_not_to_be_verified(name, tmp_path):
    unpacked = {n.removesuffix(".gz"): gzip.decompress(c) for n, c in files(name).items()}
    write(tmp_path / name, unpacked)
    found = data.load(name, tmp_path)
    check(found)
    assert "of the right sizes, not verified" in found.source
    last = sorted(unpacked)[-1]
    (tmp_path / name / last).unlink()
    with pytest.raises(data.DataError, match=f"lacks {last}"):
        data.load(name, tmp_path)
    images = next(n for n in unpacked if "images" in n)
    write(tmp_path / name, unpacked | {images: idx_bytes(IMAGES["train"][:3])})
    with pytest.raises(data.DataError, match=r"holds uint8 of shape \[3, 28, 28\], where"):
        data.load(name, tmp_path)
    write(tmp_path / name, {images: unpacked[images][:-1]})
    with pytest.raises(data.DataError, match="it is truncated or corrupt"):
        data.load(name, tmp_path)


def test_emnist_is_read_from_its_archive(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        for name, content in files("emnist").items():
            archive.writestr(f"gzip/{name}", content)
        archive.writestr("gzip/emnist-letters-train-images-idx3-ubyte.gz", b"another split")
    found = data.load("emnist", tmp_path)
    check(found)
    assert "not verified" in found.source
    said = relatives._RELATIVES["emnist"]
    digest = hashlib.sha256((tmp_path / "gzip.zip").read_bytes()).hexdigest()
    monkeypatch.setitem(relatives._RELATIVES, "emnist", said._replace(sha256={"gzip.zip": digest}))
    assert "verified by their SHA-256" in data.load("emnist", tmp_path).source
    whole = (tmp_path / "gzip.zip").read_bytes()
    (tmp_path / "gzip.zip").write_bytes(whole[:-200])
    with pytest.raises(data.DataError, match=r"gzip.zip cannot be read; it may be truncated"):
        data.load("emnist", tmp_path)


def test_mnist_under_the_same_names_is_not_taken_for_a_relative(tmp_path, monkeypatch):
    write(tmp_path, files("kmnist"))
    of_images = hashlib.sha256(idx_bytes(IMAGES["train"])).hexdigest()
    monkeypatch.setitem(mnist.SHA256, "train-images-idx3-ubyte", of_images)
    with pytest.raises(data.DataError, match="is MNIST's, and not KMNIST's"):
        data.load("kmnist", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_downloads_are_kept_in_the_cache_and_read_from_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AIWAE_CACHE_DIR", str(tmp_path))
    asked = []

    def download(url, path, *, sha256, hint):
        asked.append((url, sha256))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "gzip.zip":
            with zipfile.ZipFile(path, "w") as archive:
                for file, content in files("emnist").items():
                    archive.writestr(f"gzip/{file}", content)
        else:
            path.write_bytes(files(name)[path.name])

    monkeypatch.setattr(relatives.fetching, "download", download)
    check(data.load(name))
    said = relatives._RELATIVES[name]
    num = len(asked)
    assert [sha256 for _, sha256 in asked] == list(said.sha256.values())
    assert all(url.startswith(said.url) for url, _ in asked)
    check(data.load(name))
    assert len(asked) == num
    (tmp_path / name / next(reversed(said.sha256))).unlink()  # as if it had been interrupted
    check(data.load(name))
    assert len(asked) == num + 1


# ---------------------------------------------------------------------------------------- binarized

BITS = {
    part: np.random.default_rng(i).integers(0, 2, (n, 784), np.uint8)
    for i, (part, n) in enumerate({"train": 7, "valid": 3, "test": 4}.items())
}


@pytest.fixture
def amat(tmp_path, monkeypatch):
    for part, bits in BITS.items():
        path = tmp_path / f"binarized_mnist_{part}.amat"
        path.write_text("".join(" ".join(map(str, row)) + "\n" for row in bits))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(binarized._PARTS, part, (len(bits), digest))
    return tmp_path


def test_static_binarized_mnist_is_read_as_bits(amat):
    found = data.load("binarized_mnist", amat)
    np.testing.assert_array_equal(found.train, np.concatenate([BITS["train"], BITS["valid"]]))
    np.testing.assert_array_equal(found.test, BITS["test"])
    assert (found.kind, found.max_level, found.image_shape) == ("bits", None, (28, 28))
    assert found.as_bits() is found
    # The general reader agrees, of any such file.
    np.testing.assert_array_equal(
        data.read_rows(amat / "binarized_mnist_test.amat").rows, BITS["test"]
    )


def test_static_binarized_mnist_of_other_content_is_refused(amat):
    path = amat / "binarized_mnist_valid.amat"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(data.DataError, match=r"valid.amat is not the file that was published"):
        data.load("binarized_mnist", amat)
    path.unlink()
    with pytest.raises(data.DataError, match=r"lacks binarized_mnist_valid.amat"):
        data.load("binarized_mnist", amat)


# ------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "shape", "num_test", "kind"),
    [
        ("breast_cancer", (569, 30), 113, "real"),
        ("wine", (178, 13), 35, "real"),
        ("diabetes", (442, 10), 88, "real"),
    ],
)
def test_tables_of_scikit_learn_keep_columns_and_labels(name, shape, num_test, kind):
    found = data.load(name)
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(sklearn.datasets, f"load_{name}")(**options)
    is_test = np.arange(shape[0]) % 5 == 4
    assert (len(found.train), len(found.test)) == (shape[0] - num_test, num_test)
    np.testing.assert_array_equal(found.test, bunch.data[is_test].astype(np.float32))
    np.testing.assert_array_equal(found.train_labels, bunch.target[~is_test])
    assert found.columns == tuple(bunch.feature_names)
    assert found.kind == kind
    assert found.image_shape is None
