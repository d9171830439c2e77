"""Labels that are words: codes are of one file, words are the same in all."""

import numpy as np
import pytest
from labelled import cells, handed_on, parquet, table

from aiwae_jax import data

PEOPLE = ["c", "b", None, "c", "b", "c", "c", "b", "c", "b"]


@pytest.mark.parametrize("words", [["c", "b", "c", "c"], ["a", "c", "b", "a"], ["a", "", "b", "a"]])
def test_new_rows_keep_the_words_of_their_labels(tmp_path, words):
    assert handed_on(table(tmp_path / "new.csv", words)) == words


def test_words_of_parquet_and_of_cells_are_kept_and_missing_ones_are_missing(tmp_path):
    words = [word or "" for word in PEOPLE]
    assert handed_on(parquet(tmp_path / "new.parquet", PEOPLE)) == words
    arrow = pytest.importorskip("pyarrow")
    coded = arrow.array(PEOPLE).dictionary_encode()
    assert handed_on(parquet(tmp_path / "coded.parquet", coded)) == words
    codes = np.array([-1 if word is None else "abc".index(word) for word in PEOPLE], np.int8)
    path = cells(tmp_path / "new.h5ad", codes=codes, categories=["a", "b", "c"])
    assert handed_on(path) == words
    with pytest.raises(data.DataError, match=r"new.h5ad, row 2: the label is missing; fill it in"):
        data.from_file(path, label="who")
    path = cells(tmp_path / "whole.h5ad", values=np.array(["x", "b", "x"]))
    assert handed_on(path) == ["x", "b", "x"]
    mask = [word is None for word in PEOPLE]
    path = cells(tmp_path / "masked.h5ad", values=np.array([w or "?" for w in PEOPLE]), mask=mask)
    assert handed_on(path) == words


def test_categories_of_an_earlier_anndata_are_no_codes(tmp_path):
    path = cells(tmp_path / "old.h5ad", values=np.array([1, -1, 0], np.int8))
    with pytest.importorskip("h5py").File(path, "a") as file:
        file["obs/__categories/who"] = np.array([b"B", b"T"])
        file["obs/who"].attrs["categories"] = file["obs/__categories/who"].ref
    assert handed_on(path) == ["T", "", "B"]


def test_folders_of_images_are_named_by_their_words(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i, name in enumerate(["dog", "cat", "dog", "emu"]):
        (tmp_path / name).mkdir(exist_ok=True)
        levels = np.full((2, 2), 40 * i, np.uint8)
        image.fromarray(levels).save(tmp_path / name / f"{i}.png")
    assert handed_on(tmp_path, label=None) == ["cat", "dog", "dog", "emu"]


def test_truths_come_back_as_the_words_of_the_file(tmp_path):
    for words in (["true", "false", "", "true"], ["True", "True"], ["FALSE", "TRUE", "FALSE"]):
        assert handed_on(table(tmp_path / "new.csv", words)) == words
    dataset = data.from_file(table(tmp_path / "mine.csv", ["True", "False"] * 5), label="who")
    assert "labels 0 False, 1 True" in dataset.source
    np.testing.assert_array_equal(dataset.test_labels, 1 - dataset.test_index % 2)


def test_truths_of_files_without_words_are_true_and_false(tmp_path):
    truths, words = [True, None, False, True], ["true", "", "false", "true"]
    assert handed_on(parquet(tmp_path / "new.parquet", truths)) == words
    mask = np.array([False, True, False, False])
    masked = cells(tmp_path / "a.h5ad", values=[True, True, False, True], mask=mask)
    assert handed_on(masked) == words
    plain = cells(tmp_path / "b.h5ad", values=np.array([True, True, True]))
    assert handed_on(plain) == ["true"] * 3
    np.savez(tmp_path / "new.npz", x=np.eye(3), labels=np.array([True, False, True]))
    assert handed_on(tmp_path / "new.npz", label=None) == ["true", "false", "true"]
    np.savez(tmp_path / "split.npz", train=np.eye(3), test=np.eye(3), test_labels=np.ones(3, bool))
    dataset = data.from_file(tmp_path / "split.npz")
    assert (dataset.test_labels.tolist(), dataset.label_names) == ([1, 1, 1], ("false", "true"))


def test_a_data_set_says_what_its_codes_stand_for(tmp_path):
    dataset = data.from_file(table(tmp_path / "mine.csv", ["b", "a"] * 5), label="who")
    assert "labels 0 a, 1 b" in dataset.source
    np.testing.assert_array_equal(dataset.test_labels, 1 - dataset.test_index % 2)
    names = [f"of{i:03}" for i in range(200)]
    source = data.from_file(table(tmp_path / "many.csv", names), label="who").source
    assert source.endswith("49 of049, ... 200 in all")
