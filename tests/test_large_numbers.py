"""Numbers that float32 cannot hold: said where they are data."""

import re

import numpy as np
import pytest

from aiwae_jax import data


def table(path, rows):
    """A file of its suffix's kind; where that has names, columns a and id."""
    rows = np.asarray(rows)
    if path.suffix == ".csv":
        lines = [",".join(map(repr, row)) for row in rows.tolist()]
        path.write_text("\n".join(["a,id", *lines]) + "\n")
    elif path.suffix == ".parquet":
        parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        parquet.write_table(arrow.table(dict(zip(("a", "id"), rows.T, strict=True))), path)
    else:
        np.save(path, rows)
    return path


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("train", "`train`, column 'a': 1,700,000,001 becomes 1,700,000,000 in float32, in which"),
        ("test", "`test`, column 'a': -1,700,000,001 becomes -1,700,000,000 in float32, in which"),
    ],
)
def test_times_as_data_are_said_to_be_rounded(part, message):
    parts = {name: np.array([[i, i % 3] for i in range(8)], float) for name in ("train", "test")}
    parts[part][3, 0] = 1.7e9 + 1 if part == "train" else -1.7e9 - 1
    with pytest.warns(UserWarning, match=message) as found:
        data.from_arrays(**parts, columns=["a", "b"])
    assert [warning.filename for warning in found] == [__file__]
    with (
        pytest.warns(UserWarning, match="column 0: "),
        pytest.raises(data.DataError, match="`columns` must name each of the 2 columns, got 0"),
    ):
        data.from_arrays(**parts, columns=[])


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet"])
@pytest.mark.parametrize("read", [data.from_file, data.read_rows])
def test_identifiers_in_a_file_are_said_to_be_rounded_where_it_is_read(tmp_path, suffix, read):
    path = table(tmp_path / f"mine{suffix}", [[i % 3, 2**24 + 1 + i] for i in range(10)])
    name = "column 1" if suffix == ".npy" else "column 'id'"
    message = f"{path}, {name}: 16,777,217 becomes 16,777,216 in float32"
    with pytest.warns(UserWarning, match=re.escape(message)) as found:
        read(path)
    assert [(warning.filename, len(found)) for warning in found] == [(__file__, 1)]


def test_a_column_that_is_not_wanted_is_not_spoken_of(tmp_path):
    path = table(tmp_path / "mine.csv", [[i % 3, 2**24 + 1 + i] for i in range(10)])
    assert data.read_rows(path, columns=["a"]).rows[:, 0].tolist() == [i % 3 for i in range(10)]


def test_whole_numbers_of_typed_files_are_compared_to_the_digit(tmp_path):
    ids = [[i % 3, 2**60 + 2**50 * i + (i == 5)] for i in range(10)]  # float64 has nine of them
    of_id = f"{2**60 + 5 * 2**50 + 1:,} becomes {2**60 + 5 * 2**50:,}"
    for suffix in (".npy", ".parquet"):
        with pytest.warns(UserWarning, match=of_id):
            data.from_file(table(tmp_path / f"mine{suffix}", ids))


def test_fractions_are_said_where_they_merge():
    rows = np.array([[1.7e9 + 128 * i, i] for i in range(10)])  # each of which float32 has
    rows[5, 0] = 1.7e9 + 0.25
    message = r"column 0: 1,700,000,000 and 1700000000\.25 become the same"
    with pytest.warns(UserWarning, match=message):
        data.from_arrays(rows[:8], rows[8:])


@pytest.mark.parametrize(
    "column",
    [
        [-(2**24) + i for i in range(10)],
        [2**40 * i for i in range(10)],
        [-(2**63), *(2**62 + 2**40 * i for i in range(9))],
        [1e9 / 7 * 1.1**i for i in range(10)],  # measures, of which none is another's neighbour
        [1.1e30 * 1.1**i for i in range(10)],
    ],
)
def test_what_loses_nothing_is_not_warned_of(column):
    rows = np.stack([np.array(column), np.arange(10)], axis=1)
    data.from_arrays(rows[:8], rows[8:])  # a warning would be an error


def test_large_counts_of_a_sparse_matrix_are_said(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mine.h5ad", "w") as file:
        file["X/data"], file["X/indices"] = np.array([1, 2**24 + 1, 3]), np.array([0, 1, 0])
        file["X/indptr"], file["X"].attrs["shape"] = np.array([0, 1, 2, 3]), (3, 2)
        file["var/_index"] = np.array([b"g0", b"g1"])
        file["var"].attrs["_index"] = "_index"
    with pytest.warns(UserWarning, match="column 'g1': 16,777,217 becomes 16,777,216"):
        data.from_file(tmp_path / "mine.h5ad")


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


def test_what_is_beyond_float32_in_an_array_file_is_refused_by_its_place_too(tmp_path):
    np.save(tmp_path / "mine.npy", np.eye(4) * 1e39)
    with pytest.raises(data.DataError, match=r"mine\.npy, row 0, column 0: the value is infin"):
        data.from_file(tmp_path / "mine.npy")
