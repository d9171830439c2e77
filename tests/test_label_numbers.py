"""Labels that are numbers: whole ones are kept to the digit, whatever the kind of file."""

import decimal

import numpy as np
import pytest
from labelled import cells, handed_on, parquet, table

from aiwae_jax import data

HIGH = 2**53  # above it float64 has every second whole number
CLOSE = [HIGH, HIGH + 1, HIGH + 2, -HIGH - 1, 2**63 - 1, 2**63 - 2, -(2**63), 7]


@pytest.mark.parametrize("is_of_numbers", [True, False])
def test_whole_labels_of_a_table_are_exact(tmp_path, is_of_numbers):
    path = table(tmp_path / "mine.csv", CLOSE)
    if not is_of_numbers:  # another reader: a column of words beside them
        lines = path.read_text().splitlines()
        words = ["colour", *(["red", "blue"] * 4)]
        path.write_text("\n".join(map(",".join, zip(lines, words, strict=True))))
    content = data.read_rows(path, label="who", categories={"colour": ("blue", "red")})
    assert (content.labels.dtype, content.labels.tolist()) == (np.int64, CLOSE)
    dataset = data.from_file(path, label="who")
    assert dataset.test_labels.tolist() == [CLOSE[i] for i in dataset.test_index]


def test_whole_labels_of_typed_files_are_exact(tmp_path):
    assert handed_on(parquet(tmp_path / "a.parquet", CLOSE)) == CLOSE
    digits = [decimal.Decimal(label) for label in CLOSE]
    assert handed_on(parquet(tmp_path / "b.parquet", digits)) == CLOSE
    assert handed_on(cells(tmp_path / "a.h5ad", values=CLOSE)) == CLOSE
    masked = cells(tmp_path / "b.h5ad", values=CLOSE, mask=np.zeros(8, bool))
    assert handed_on(masked) == CLOSE
    np.savez(tmp_path / "a.npz", x=np.eye(8), labels=CLOSE)
    assert handed_on(tmp_path / "a.npz", label=None) == CLOSE


def test_a_missing_one_merges_none_of_the_others(tmp_path):
    words = [*map(str, CLOSE), ""]
    assert handed_on(table(tmp_path / "a.csv", words)) == words
    assert handed_on(table(tmp_path / "b.csv", [*words[:-1], "nan"])) == words  # of numbers alone
    assert handed_on(parquet(tmp_path / "a.parquet", [*CLOSE, None])) == words
    path = cells(tmp_path / "a.h5ad", values=[*CLOSE, 0], mask=np.arange(9) == 8)
    assert handed_on(path) == words
    content = data.read_rows(path, label="who")
    assert content.label_names == tuple(map(str, sorted(CLOSE)))  # in the order of numbers
    np.testing.assert_array_equal(np.isnan(content.labels), np.arange(9) == 8)
    with pytest.raises(data.DataError, match=r"a.csv, line 10: the label is missing; fill it in"):
        data.from_file(tmp_path / "a.csv", label="who")


def test_what_no_int64_holds_differs_still(tmp_path):
    beyond = [2**63, 2**63 + 1, 10**20]
    assert handed_on(table(tmp_path / "a.csv", beyond)) == [*map(str, beyond)]
    path = parquet(tmp_path / "a.parquet", beyond[:2], lambda arrow: arrow.uint64())
    assert handed_on(path) == [*map(str, beyond[:2])]
    np.savez(tmp_path / "a.npz", x=np.eye(2), labels=np.array(beyond[:2], np.uint64))
    with pytest.raises(data.DataError, match=r"below 2\^63, got 9223372036854775809; number them"):
        data.read_rows(tmp_path / "a.npz")


def test_fractions_stay_numbers(tmp_path):
    for words, numbers in (
        (["0.5", "1", "-2"], [0.5, 1, -2]),
        (["0.5", "1e300", "inf"], [0.5, 1e300, np.inf]),
    ):
        content = data.read_rows(table(tmp_path / "a.csv", words), label="who")
        assert (content.labels.dtype, content.labels.tolist()) == (np.float64, numbers)
    content = data.read_rows(table(tmp_path / "a.csv", ["0.5", "", "1.0"]), label="who")
    np.testing.assert_array_equal(content.labels, [0.5, np.nan, 1])
    assert handed_on(table(tmp_path / "a.csv", ["1.0", "1", "2e0"])) == [1, 1, 2]
    fine = ["0.50000000000000001", "0.5"]  # the same float64, and not the same label
    assert handed_on(table(tmp_path / "a.csv", [*fine, f"{HIGH}"])) == [*fine, f"{HIGH}"]


def test_labels_of_new_rows_are_one_for_each(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(3), labels=np.arange(2))
    with pytest.raises(data.DataError, match="labels must be 3 numbers, one for each row; got int"):
        data.read_rows(tmp_path / "a.npz")


def test_numbers_among_words_are_refused_by_their_line(tmp_path):
    with pytest.raises(data.DataError, match=r"line 3, column 'who': 'b' is no number, as 2 of"):
        data.read_rows(table(tmp_path / "a.csv", ["1", "b", "2", "b"]), label="who")
