"""Labels that are words: codes are of one file, words are the same in all."""

import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.cli import using


def table(path, words):
    lines = [f"{i / 4},{word}" for i, word in enumerate(words)]
    path.write_text("\n".join(["value,who", *lines]) + "\n")
    return path


@pytest.mark.parametrize("words", [["c", "b", "c", "c"], ["a", "c", "b", "a"], ["a", "", "b", "a"]])
def test_new_rows_keep_the_words_of_their_labels(tmp_path, words):
    content = data.read_rows(table(tmp_path / "new.csv", words), label="who")
    assert using.identity(content)["label"].tolist() == words


def test_a_data_set_says_what_its_codes_stand_for(tmp_path):
    dataset = data.from_file(table(tmp_path / "mine.csv", ["b", "a"] * 5), label="who")
    assert "labels 0 a, 1 b" in dataset.source
    np.testing.assert_array_equal(dataset.test_labels, 1 - dataset.test_index % 2)
