"""Data sets are refused before anything is trained on them; MNIST is found where others put it."""

import gzip
import os
import pathlib
import sys

import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.data import mnist
from experiments import build, flags

DIGITS = data.load("digits")
NAN_IMAGE = np.where(np.arange(64) == 5, np.nan, 0.5).astype(np.float32)[None]


def with_one(images, image):
    return np.concatenate([images.astype(np.float32), image])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": with_one(DIGITS.train, NAN_IMAGE)}, r"`train` must be finite.*\[1438, 5\]"),
        ({"test": with_one(DIGITS.test, NAN_IMAGE)}, r"`test` must be finite.*1 of 23040 values"),
        ({"test": with_one(DIGITS.test, NAN_IMAGE * np.inf)}, "`test` must be finite"),
        ({"max_level": 1.0}, r"`max_level`=1\], got values from 0 to 16; is `max_level` 16\?"),
        ({"train": DIGITS.train / 16.0}, r"in \[0, 1\] already, .*; is `max_level` 1\?"),
        ({"train": DIGITS.train / 8.0 - 1.0}, "need a Gaussian likelihood"),
        ({"max_level": 0}, "`max_level` must be a positive, finite number, got 0"),
        ({"max_level": "16"}, "`max_level` must be a positive, finite number, got '16'"),
        ({"train": DIGITS.train.astype(object)}, "`train` must be an array of numbers, got object"),
        ({"train": DIGITS.train.astype(str)}, "`train` must be an array of numbers"),
        ({"train": DIGITS.train.tolist()}, "`train` must be an array of rows; got list"),
        ({"train": DIGITS.train.reshape(-1, 8, 8)}, r"must have shape \[rows, columns\].*8, 8"),
        ({"test": DIGITS.test[:0]}, r"`test` must have shape.*got \[0, 64\]"),
        ({"train": DIGITS.train[:0]}, r"`train` must have shape.*got \[0, 64\]"),
        (
            {"test": DIGITS.test[:, :60]},
            "`test` must have as many columns as `train`, got 60 beside",
        ),
        (
            {"image_shape": (8, 9)},
            r"must hold the 64 columns of a row, got \(8, 9\), which holds 72",
        ),
        ({"image_shape": (64,)}, r"`image_shape` must be \(height, width\), or .*; got \(64,\)"),
        ({"train_labels": DIGITS.train_labels[:40]}, r"`train_labels` must have shape \[1438\]"),
        ({"test_labels": DIGITS.test_labels[:, None]}, r"`test_labels` must have shape \[359\]"),
        ({"train": np.zeros_like(DIGITS.train)}, "`train` must not be blank"),
    ],
)
def test_a_data_set_is_refused_at_the_door_in_one_line(changes, message):
    dataset = DIGITS._replace(**changes)
    with pytest.raises(data.DataError, match=message) as error:
        data.check(dataset)
    assert "\n" not in str(error.value)
    with pytest.raises(data.DataError, match=message):
        build.build(flags.parse_run(["run"]).training, dataset)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_labels": None, "test_labels": None},
        {
            "train": DIGITS.train / np.float32(16),
            "test": DIGITS.test / np.float32(16),
            "max_level": 1,
        },
        {"train": DIGITS.train > 8, "test": DIGITS.test > 8, "max_level": 1.0},
        {"image_shape": [4, 16], "train": DIGITS.train.astype(np.int64)},
    ],
)
def test_images_of_any_kind_pass(changes):
    data.check(DIGITS._replace(**changes))


def test_a_folder_for_the_digits_is_said_to_be_idle(tmp_path):
    with pytest.warns(UserWarning, match=r"`data_dir` .* is not looked at") as found:
        data.load("digits", tmp_path)
    assert [warning.filename for warning in found] == [__file__]


def test_an_unknown_name_says_where_other_data_go():
    with pytest.raises(data.DataError, match=r"got 'cifar'\. Arrays of your own become one by"):
        data.load("cifar")


# -------------------------------------------------------------------------------------------- MNIST


@pytest.fixture(scope="module")
def unpacked():
    folder = os.environ.get("AIWAE_DATA_DIR")
    if not folder:
        pytest.skip("AIWAE_DATA_DIR is not set: no real MNIST files to test with")
    return {
        name: gzip.decompress(pathlib.Path(folder, "mnist", f"{name}.gz").read_bytes())
        for name in mnist.SHA256
    }


def _torchvision(folder, unpacked):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in unpacked.items():
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(b"left over, and not needed")


def _kaggle(folder, unpacked):
    for name, content in unpacked.items():
        (folder / name.replace("-idx", ".idx")).write_bytes(content)


def _kaggle_folders(folder, unpacked):
    for name, content in unpacked.items():
        (folder / name).mkdir()
        (folder / name / name).write_bytes(content)


def _keras(folder, unpacked):
    arrays = {}
    for name, key in mnist._KERAS_KEYS.items():
        shape = mnist._SHAPES[name]
        values = np.frombuffer(unpacked[name], np.uint8, offset=4 + 4 * len(shape))
        arrays[key] = values.reshape(shape)
    np.savez(folder / "mnist.npz", **arrays)


LAYOUTS = [_torchvision, _kaggle, _kaggle_folders, _keras]


@pytest.mark.slow
@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_mnist_is_found_in_the_layouts_of_others(lay_out, unpacked, real_data_dir, tmp_path):
    lay_out(tmp_path, unpacked)
    found, expected = data.load("mnist", tmp_path), data.load("mnist", real_data_dir)
    for name in ("train", "test", "train_labels", "test_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.source == ("Keras's mnist.npz" if lay_out is _keras else "IDX files")


def _changed(content):
    return content[:16] + bytes(255 - b for b in content[16:2000]) + content[2000:]


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_another_data_set_under_mnists_names_is_called_one(lay_out, unpacked, tmp_path):
    """As Fashion-MNIST is: whole, and of the very sizes."""
    other = unpacked | {
        "train-images-idx3-ubyte": _changed(unpacked["train-images-idx3-ubyte"]),
    }
    lay_out(tmp_path, other)
    with pytest.raises(
        data.DataError, match=r"of the right shape: another data set \(Fashion-MNIST"
    ):
        data.load("mnist", tmp_path)


def test_files_of_other_sizes_and_cut_files_are_told_apart(unpacked, tmp_path):
    images = unpacked["train-images-idx3-ubyte"]
    fewer = images[:4] + np.array([100, 28, 28], ">i4").tobytes() + images[16 : 16 + 78_400]
    for content, message in (
        (fewer, r"of shape \[100, 28, 28\] where MNIST's is \[60000, 28, 28\]"),
        (images[:-1], "may be truncated or corrupt"),
        (b"<html>not found</html>", "may be truncated or corrupt"),
        (b"", "may be truncated or corrupt"),
    ):
        _kaggle(tmp_path, unpacked | {"train-images-idx3-ubyte": content})
        with pytest.raises(data.DataError, match=message):
            data.load("mnist", tmp_path)


def test_damaged_keras_files_are_named(tmp_path):
    path = tmp_path / "mnist.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(data.DataError, match=r"mnist\.npz cannot be read"):
        data.load("mnist", tmp_path)
    np.savez(path, x_train=np.zeros((2, 28, 28), np.uint8))
    with pytest.raises(data.DataError, match="lacks x_test, y_test, y_train of Keras's MNIST"):
        data.load("mnist", tmp_path)


def test_what_is_not_found_says_where_it_was_sought_and_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    (tmp_path / "binarized_mnist_train.amat").write_text("0 1\n")
    with pytest.raises(data.DataError) as error:
        data.load("mnist", tmp_path)
    for wanted in (
        *mnist.SHA256,
        "mnist.npz",
        *(str(place) for place in mnist._places(tmp_path)),
        "found only binarized_mnist_train.amat",
    ):
        assert wanted in str(error.value)
    assert "\n" not in str(error.value)


def test_a_complete_place_comes_before_an_incomplete_one(unpacked, real_data_dir, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(b"")
    _torchvision(tmp_path, unpacked)
    assert len(data.load("mnist", tmp_path).train) == 60_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_reads_as_that(monkeypatch, tmp_path):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("AIWAE_CACHE_DIR", str(tmp_path / "cache"))
    _expect_unwritable()


def test_a_file_where_the_cache_should_be_reads_as_that(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIWAE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    _expect_unwritable()


def _expect_unwritable():
    with pytest.raises(data.DataError, match=r"cannot be written to .*AIWAE_CACHE_DIR") as error:
        data.load("omniglot")
    assert "download" not in str(error.value).split("cannot be written")[1]


def test_tfds_that_cannot_write_reads_as_that(monkeypatch):
    class Tfds:
        @staticmethod
        def builder(name, **_):
            raise PermissionError(13, "Permission denied", "/nowhere")

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", Tfds)
    with pytest.raises(data.DataError, match=r"TFDS cannot write .*TFDS_DATA_DIR.*--data_dir"):
        data.load("mnist")


def test_columns_have_names_of_their_own():
    rows = np.eye(3, dtype=np.float32)
    assert data.from_arrays(rows, rows, columns=["a", "b", "c"]).columns == ("a", "b", "c")
    assert data.from_arrays(rows, rows).columns is None
    with pytest.raises(data.DataError, match="each of the 3 columns, got 2"):
        data.from_arrays(rows, rows, columns=["a", "b"])
    with pytest.raises(data.DataError, match="differ from each other, got 'a' twice"):
        data.from_arrays(rows, rows, columns=["a", "b", "a"])
