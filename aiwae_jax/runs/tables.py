"""Tables of results: named columns as CSV or Parquet, by the suffix of the file."""

import csv
import importlib
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiwae_jax.runs import extras, files

SUFFIXES = (".csv", ".parquet")


def check(path: pathlib.Path, name: str) -> None:
    """Refuses, before the work, a file that could not be written.

    Args:
      path: of the file.
      name: of the argument that says so.

    Raises:
      ValueError: for another suffix.
      extras.MissingError: for a Parquet file without pyarrow.
      files.WorkdirError: for a folder that takes no files.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"`{name}` must end in {' or '.join(SUFFIXES)}, got {str(path)!r}.")
    if path.suffix == ".parquet":
        extras.require("a Parquet file", ("pyarrow",), extra="tables")
    files.prepare(path, f"`{name}`")


def write(path: pathlib.Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Writes columns of one length, whole or not at all.

    Raises:
      ValueError: for columns of different lengths.
    """
    if path.suffix == ".parquet":
        _check_lengths(columns)
        pyarrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
        table = pyarrow.table({name: np.asarray(column) for name, column in columns.items()})
        files.write_whole(path, lambda file: parquet.write_table(table, file))
    else:
        files.write_text(path, as_csv(columns))


def as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """CSV with a line of names: all digits of a number, nothing for NaN.

    >>> print(as_csv({"index": [0, 1], "log_likelihood": [-0.5, float("nan")]}), end="")
    index,log_likelihood
    0,-0.5
    1,
    """
    _check_lengths(columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    lists = [_shortest(np.asarray(column)).tolist() for column in columns.values()]
    writer.writerows([_word(value) for value in row] for row in zip(*lists, strict=True))
    return text.getvalue()


def _shortest(column: np.ndarray) -> np.ndarray:
    """Of float32 the numbers with the fewest digits that are rounded to these."""
    return column.astype(str).astype(float) if column.dtype == np.float32 else column


def _word(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _check_lengths(columns: Mapping[str, Sequence[Any]]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"`columns` must be of one length, got {found}.")
