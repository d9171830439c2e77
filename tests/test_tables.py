"""Tables of results come back as they were, by other programs' readers."""

import csv

import numpy as np
import pytest

from aiwae_jax.runs import extras, files, tables

COLUMNS = {
    "index": np.array([3, 1]),
    "label": np.array(["a, b", 'c"d']),
    "log_likelihood": np.array([-1 / 3, -np.inf]),
    "size": np.array([0.1, np.nan], np.float32),
    "is_reliable": np.array([True, False]),
}


def test_csv_keeps_every_digit_and_quotes_words(tmp_path):
    tables.write(tmp_path / "found.csv", COLUMNS)
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["a, b", 'c"d']
    assert [float(row["log_likelihood"]) for row in rows] == [-1 / 3, -np.inf]
    assert [row["size"] for row in rows] == ["0.1", ""]
    assert [row["is_reliable"] for row in rows] == ["True", "False"]


def test_parquet_keeps_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    tables.write(tmp_path / "found.parquet", COLUMNS)
    found = parquet.read_table(tmp_path / "found.parquet").to_pydict()
    assert list(found) == list(COLUMNS)
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(np.asarray(found[name], column.dtype), column)


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`out` must end in \.csv or \.parquet, got 'found.txt'"):
        tables.check(tmp_path.relative_to(tmp_path) / "found.txt", "out")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(files.WorkdirError, match=r"`out`: .* is a folder"):
        tables.check(tmp_path / "a.csv", "out")
    with pytest.raises(ValueError, match="must be of one length, got a 1, b 2"):
        tables.write(tmp_path / "found.csv", {"a": [1], "b": [1, 2]})
    monkeypatch.setattr(extras, "_is_there", lambda module: False)
    with pytest.raises(extras.MissingError, match=r"needs pyarrow.*aiwae_jax\[tables\]"):
        tables.check(tmp_path / "found.parquet", "out")
