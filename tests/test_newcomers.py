"""What people stumble over who come with data and models of their own, and what they are told."""

import dataclasses
import os
import struct
import subprocess
import sys
import types

import numpy as np
import pytest

from aiwae_jax import data, methods, models, train
from aiwae_jax.cli import fit, sources
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.data import kinds
from aiwae_jax.evaluate import verdicts
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.report import Evaluation

CSV = "id,age,day,income,who\n7,30,2020-01-01,1.5,a\n8,31,2020-01-02,2.5,b\n9,35,2020-01-03,0.5,a\n"


def test_a_model_of_another_size_is_one_line_and_leaves_no_folder(tmp_path):
    dataset = data.from_arrays(np.eye(6, dtype=int), np.eye(6, dtype=int), name="mine")
    model = models.bernoulli_vae(5, 2, hidden_sizes=(4,), initialization="torch")
    model = model._replace(check_data=None)  # as of a model of one's own, which has none
    with pytest.raises(ValueError, match="`model` cannot take a row of 6 numbers, which") as e:
        train.fit(methods.vae(model), model, dataset, tmp_path / "run", epochs=1, batch_size=2)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()
    fits = models.bernoulli_vae(6, 2, hidden_sizes=(4,), initialization="torch")
    train.program.build(methods.vae(fits), fits, dataset, train.Settings(epochs=1, batch_size=2))


def test_new_images_of_another_shape_with_as_many_pixels_are_refused(tmp_path):
    np.save(tmp_path / "new.npy", np.zeros((3, 2, 6), np.uint8))
    with pytest.raises(data.DataError, match=r"holds images of 2 x 6, and 3 x 4 are needed"):
        data.read_rows(tmp_path / "new.npy", image_shape=[3, 4])
    for shape in ([2, 6], None):
        assert data.read_rows(tmp_path / "new.npy", image_shape=shape).rows.shape == (3, 12)
    np.save(tmp_path / "flat.npy", np.zeros((3, 12), np.uint8))
    assert data.read_rows(tmp_path / "flat.npy", image_shape=[3, 4]).rows.shape == (3, 12)


@pytest.mark.parametrize(("high", "white"), [(16, 16), (200, 255), (1016, 1023), (4000, 4095)])
def test_white_is_the_last_level_of_as_few_bits(high, white):
    rows = np.array([[0, high], [3, 5]], np.int32)
    assert kinds.white(kinds.look(rows)) == white


def test_few_chains_are_said_to_be_too_few():
    found = types.SimpleNamespace(
        rounding=np.zeros(3), is_reliable=np.zeros(3, bool), is_broken=np.zeros(3, bool)
    )
    with pytest.warns(UserWarning, match=r"3 of 3 data .* and 4 are too few to tell. Raise `num_c"):
        verdicts.warn_of_unreliable(found, Settings(num_chains=4))


def test_an_idx_file_is_known_by_its_content(tmp_path):
    rows = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    content = struct.pack(">BBBBiii", 0, 0, 8, 3, *rows.shape) + rows.tobytes()
    (tmp_path / "mine.bin").write_bytes(content)
    dataset = data.from_file(tmp_path / "mine.bin", test_share=0.5)
    assert dataset.image_shape == (2, 2)
    both = np.concatenate([dataset.train, dataset.test])
    assert sorted(both[:, 0]) == sorted(rows[:, 0, 0])
    (tmp_path / "other.bin").write_bytes(b"nothing of that kind")
    with pytest.raises(data.DataError, match="is of no kind that can be read"):
        data.from_file(tmp_path / "other.bin")


def test_columns_are_left_out_and_stay_so_when_data_are_loaded_again(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(CSV)
    for options in ({"drop": ["id", "day"]}, {"only": ["income", "age"]}):
        dataset = data.from_file(path, label="who", **options)
        assert dataset.columns == ("age", "income")
        assert dataset.categories is None
        again = data.reload(dataset.describe())
        assert not again.differences(dataset.describe())
    for options, message in (
        ({"drop": ["ID"]}, r"`drop` must name columns of .* got 'ID'; they are 'id', 'age'"),
        ({"only": ["who"]}, r"`only` must name columns .* got 'who'"),
        ({"only": ["age"], "drop": ["age"]}, "`drop` leaves no column"),
    ):
        with pytest.raises(data.DataError, match=message):
            data.from_file(path, label="who", **options)


def test_the_command_names_columns_by_commas(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(CSV)
    reading = sources.Reading(label="who", drop="id, day")
    assert sources.load(str(path), None, reading).columns == ("age", "income")
    with pytest.raises(UsageError, match="--drop_columns is for files of yours, not for digits"):
        sources.resolve("digits", dataclasses.asdict(reading) | {"label": None})


def test_help_of_measurements_speaks_of_rows_where_they_may_be_rows():
    words = [field.metadata["option"].help for field in dataclasses.fields(Evaluation)]
    alone = [text for text in words if "image" in text.replace("Rows or images", "")]
    assert not alone


def test_help_ends_quietly_where_its_reader_has_gone():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "aiwae_jax.cli.main", "--help"]
    found = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(("options", "size"), [([], 8), (["--batch_size=4"], 4)])
def test_a_batch_of_tiny_data_is_all_of_them(tmp_path, monkeypatch, options, size):
    """Of ten rows one is for testing and one for validation; 64 are the usual batch."""
    rows = np.random.default_rng(0).normal(size=(10, 3))
    np.savetxt(tmp_path / "tiny.csv", rows, delimiter=",", header="a,b,c", comments="")
    asked = {}

    def fit_nothing(method, model, dataset, folder, **settings):
        asked.update(settings)
        return types.SimpleNamespace(stopping=None, epochs=0.0, folder=tmp_path)

    monkeypatch.setattr(fit.train, "fit", fit_nothing)
    arguments = [str(tmp_path / "tiny.csv"), f"--folder={tmp_path / 'run'}", *options]
    split = ["--test_share=0.1", "--validation_share=0.1"]
    assert fit.main(["fit", *arguments, *split]) in (None, 0)
    assert asked["batch_size"] == size
