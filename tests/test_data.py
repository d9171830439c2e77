"""Loading and verifying data; the real files are found by AIWAE_DATA_DIR."""

import contextlib
import gzip
import hashlib
import http.server
import io
import shutil
import sys
import threading

import jax
import numpy as np
import pytest
import scipy.io

from aiwae_jax import data
from aiwae_jax.data import fetching, mnist, omniglot


def chardata(**changes):
    """A small-valued file in the layout and sizes of chardata.mat."""
    rng = np.random.default_rng(0)
    content = {
        "data": (rng.random((784, 24345), dtype=np.float32) > 0.9).astype(np.uint8),
        "testdata": (rng.random((784, 8070), dtype=np.float32) > 0.9).astype(np.uint8),
    }
    return content | changes


def test_digits_are_embedded_and_split():
    digits = data.load("digits")
    assert digits.train.shape == (1438, 64)
    assert digits.test.shape == (359, 64)
    assert digits.train.dtype == np.uint8
    assert digits.train.max() == digits.max_level == 16
    assert len(digits.test_labels) == 359
    assert 0.2 < digits.mean_image().mean() < 0.4


def test_mnist_files_have_the_sizes_and_mean_pixels_they_should(real_data_dir):
    found = data.load("mnist", real_data_dir)
    assert found.train.shape == (60_000, 784)
    assert found.test.shape == (10_000, 784)
    assert round(float(found.mean_image().mean()), 5) == 0.13066
    assert round(float(found.test.mean() / 255), 5) == 0.13251
    assert np.bincount(found.train_labels)[:2].tolist() == [5923, 6742]


def test_mnist_files_may_lie_in_the_folder_itself_and_unpacked(real_data_dir, tmp_path):
    for path in (real_data_dir / "mnist").glob("*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert data.load("mnist", tmp_path).source == "IDX files"


def test_truncated_and_corrupt_mnist_files_are_named(real_data_dir, tmp_path):
    folder = shutil.copytree(real_data_dir / "mnist", tmp_path / "mnist")
    path = folder / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.DataError, match=r"t10k-images.*truncated or corrupt"):
        data.load("mnist", tmp_path)
    images = bytearray(gzip.decompress(whole))
    images[5000] ^= 1
    path.write_bytes(gzip.compress(bytes(images), compresslevel=1))
    with pytest.raises(data.DataError, match=r"is not MNIST's t10k-images.*SHA-256"):
        data.load("mnist", tmp_path)
    path.unlink()
    with pytest.raises(data.DataError, match="lacks t10k-images-idx3-ubyte"):
        data.load("mnist", tmp_path)


def test_mnist_is_verified_whatever_its_order(real_data_dir):
    """TFDS shuffles: the checksum of sorted rows accepts any order and refuses a changed pixel."""
    found = data.load("mnist", real_data_dir)
    order = np.random.default_rng(0).permutation(10_000)
    images, labels = found.test[order].copy(), found.test_labels[order].astype(np.uint8)
    expected = mnist._SORTED_SHA256["t10k"]
    assert mnist.sorted_rows_sha256(images, labels) == expected
    images[17, 300] ^= 1
    assert mnist.sorted_rows_sha256(images, labels) != expected


def test_real_omniglot_stand_in_is_named_as_one(real_data_dir):
    omniglot = data.load("omniglot", real_data_dir)
    assert omniglot.title == "omniglot (1-bit stand-in)"
    assert omniglot.is_stand_in
    assert omniglot.train.shape == (24345, 784)
    assert omniglot.test.shape == (8070, 784)
    both = np.concatenate([omniglot.train, omniglot.test])
    assert round(float(both.mean()), 4) == 0.0805


def test_grey_omniglot_is_no_stand_in_and_is_turned_upright(tmp_path):
    column = np.zeros((28, 28))
    column[2, 20] = 0.5  # row 2, column 20
    changed = chardata()
    changed["data"] = changed["data"].astype(np.float32)
    changed["data"][:, 0] = column.ravel(order="F")
    scipy.io.savemat(tmp_path / "chardata.mat", changed)
    omniglot = data.load("omniglot", tmp_path)
    assert omniglot.title == "omniglot"
    assert not omniglot.is_stand_in
    assert omniglot.train.dtype == np.float32
    assert omniglot.train[0].reshape(28, 28)[2, 20] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": np.zeros((784, 10))},
            r"`data` must have shape \[784, 24345\], found \[784, 10\]",
        ),
        ({"testdata": np.full((784, 8070), 2.0)}, r"`testdata` must lie within \[0, 1\]"),
        ({"testdata": np.full((784, 8070), np.nan)}, r"`testdata` must lie within \[0, 1\]"),
    ],
)
def test_chardata_of_other_content_is_refused(tmp_path, changes, message):
    scipy.io.savemat(tmp_path / "chardata.mat", chardata(**changes))
    with pytest.raises(data.DataError, match=message):
        data.load("omniglot", tmp_path)


def test_damaged_chardata_is_named(tmp_path):
    (tmp_path / "chardata.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(data.DataError, match=r"chardata.mat cannot be read"):
        data.load("omniglot", tmp_path)


def test_unknown_name_lists_the_known_ones_and_missing_folder_is_named(tmp_path):
    with pytest.raises(data.DataError, match="digits, mnist, omniglot"):
        data.load("cifar")
    with pytest.raises(data.DataError, match="is not a folder"):
        data.load("mnist", tmp_path / "nowhere")


@contextlib.contextmanager
def served(content):
    """The address of a server that has `content` for whatever it is asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AIWAE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_download_is_verified_before_it_gets_its_name(monkeypatch, cache):
    file = io.BytesIO()
    scipy.io.savemat(file, chardata())
    whole = file.getvalue()
    with served(whole[: len(whole) // 2]) as url:
        monkeypatch.setattr(omniglot, "_URL", f"{url}/chardata.mat")
        with pytest.raises(data.DataError, match="cannot be read"):
            data.load("omniglot")
    assert list(cache.iterdir()) == []
    with served(whole) as url:
        monkeypatch.setattr(omniglot, "_URL", f"{url}/chardata.mat")
        assert "downloaded" in data.load("omniglot").source
    assert [path.name for path in cache.iterdir()] == ["chardata.mat"]


def test_a_download_of_another_checksum_is_not_kept(cache):
    content = b"what was published"
    path = cache / "file"
    with served(content) as url:
        with pytest.raises(data.DataError, match=r"\(its content has another SHA-256\); or do"):
            fetching.download(url, path, sha256="0" * 64, hint="or do without")
        assert list(cache.iterdir()) == []
        fetching.download(url, path, sha256=hashlib.sha256(content).hexdigest(), hint="")
    assert path.read_bytes() == content


def test_missing_network_is_one_clear_line(monkeypatch, cache):
    with served(b"") as url:
        pass  # nobody answers there any more
    monkeypatch.setattr(omniglot, "_URL", url)
    message = r"could not be downloaded from http.*\(.*refused\); put .*--data_dir"
    with pytest.raises(data.DataError, match=message) as e:
        data.load("omniglot")
    assert "\n" not in str(e.value)
    assert list(cache.iterdir()) == []
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(
        data.DataError, match=r"needs pooch: pip install 'aiwae_jax\[run\]'; or put"
    ):
        data.load("omniglot")


class _FakeTfds:
    """TFDS with a prepared MNIST in the folder `here` and nothing elsewhere."""

    def __init__(self, here, splits):
        self._here, self._splits = here, splits

    def builder(self, name, data_dir=None, file_format=None):
        assert (name, file_format) == ("mnist", "array_record")
        is_here = data_dir == self._here
        splits = self._splits

        class Builder:
            def is_prepared(self):
                return is_here

            def download_and_prepare(self):
                raise OSError("no route to host")

            def as_data_source(self, split):
                images, labels = splits[split]
                return [
                    {"image": image.reshape(28, 28, 1), "label": label}
                    for image, label in zip(images, labels, strict=True)
                ]

        return Builder()


def test_prepared_tfds_mnist_is_read_and_verified(real_data_dir, tmp_path, monkeypatch):
    real = data.load("mnist", real_data_dir)
    order = np.random.default_rng(0).permutation(60_000)
    splits = {
        "train": (real.train[order], real.train_labels[order]),
        "test": (real.test, real.test_labels),
    }
    fake = _FakeTfds(tmp_path, splits)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    found = data.load("mnist", tmp_path)
    assert found.source == "TFDS mnist"
    np.testing.assert_array_equal(found.train, real.train[order])
    splits["test"] = (real.test[:-1], real.test_labels[:-1])
    with pytest.raises(data.DataError, match="t10k split of 9999 images has another SHA-256"):
        data.load("mnist", tmp_path)
    with pytest.raises(data.DataError, match=r"no route to host.*--data_dir"):
        data.load("mnist")


def test_tfds_omniglot_is_inverted_shrunk_and_named_as_another_data_set(monkeypatch):
    """Dark strokes on white, 105x105, become ink in [0, 1] on 28x28."""
    images = np.full((3, 105, 105, 3), 255, np.uint8)
    images[:, 40:60, 30:75] = 0
    splits = {"train": (images, np.arange(3)), "test": (images[:2], np.arange(2))}
    monkeypatch.setattr(fetching, "from_tfds", lambda name, folder, hint: splits)
    found = data.load("omniglot_tfds")
    assert "TFDS" in found.title
    assert found.is_stand_in
    assert found.train.shape == (3, 784)
    assert found.test.shape == (2, 784)
    ink = found.train[0].reshape(28, 28)
    assert ink[0, 0] == 0.0
    assert ink[13, 14] > 1.0 - 1e-6
    np.testing.assert_allclose(ink.mean(), 20 * 45 / 105**2, rtol=0.02)


def test_mnist_without_files_and_without_tfds_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.DataError, match=r"needs TFDS.*aiwae_jax\[tfds\].*--data_dir"):
        data.load("mnist", tmp_path)


def test_binarize_has_the_level_as_probability():
    levels = np.tile(np.array([[0, 51, 255]], np.uint8), (20_000, 1))
    draws = np.asarray(data.binarize(jax.random.key(0), levels, 255.0))
    assert set(np.unique(draws)) == {0.0, 1.0}
    mean = draws.mean(axis=0)
    assert mean[0] == 0.0
    assert mean[2] == 1.0
    assert abs(mean[1] - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5
