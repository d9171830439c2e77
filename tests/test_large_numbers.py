"""Numbers that float32 cannot hold: said where they are data, kept where they are labels."""

import numpy as np
import pytest

from aiwae_jax import data


def test_times_as_data_are_said_to_be_rounded():
    rows = np.array([[1.7e9 + i, i] for i in range(10)])
    with pytest.warns(UserWarning, match=r"column 0: it goes up to 1\.7e\+09.*close ones become"):
        data.from_arrays(rows[:8], rows[8:])


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_identifiers_in_a_file_are_said_to_be_rounded(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    rows = np.array([[i % 3, 2**24 + 1 + i] for i in range(10)])
    if suffix == ".csv":
        np.savetxt(path, rows, "%d", delimiter=",", header="a,id", comments="")
    else:
        np.save(path, rows)
    with pytest.warns(UserWarning, match="'id'" if suffix == ".csv" else "column 1"):
        data.from_file(path)


def test_what_is_exact_is_not_warned_of():
    rows = np.array([[-(2.0**24) + i, i] for i in range(10)])
    data.from_arrays(rows[:8], rows[8:])  # a warning would be an error


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_are_kept_to_the_digit(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    labels = 10_000_000_001 + 2 * np.arange(10)
    if suffix == ".csv":
        columns = np.stack([np.arange(10), labels], 1)
        np.savetxt(path, columns, "%d", delimiter=",", header="a,id", comments="")
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        parquet.write_table(arrow.table({"a": np.arange(10), "id": labels}), path)
    dataset = data.from_file(path, label="id")
    np.testing.assert_array_equal(dataset.test_labels, labels[dataset.test_index])


def test_a_column_of_words_without_any_is_missing(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    empty = arrow.array([None] * 10, arrow.string())
    parquet.write_table(arrow.table({"a": np.arange(10), "b": empty}), tmp_path / "mine.parquet")
    with pytest.raises(data.DataError, match=r"'b'.* is missing"):
        data.from_file(tmp_path / "mine.parquet")


def test_what_is_beyond_float32_is_refused_by_its_place(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,2\n3,1e39\n" + "5,6\n" * 8)
    with pytest.raises(data.DataError, match="line 3, column 'b': the value is infinite"):
        data.from_file(path)
