"""Tables as text: .csv, .tsv and .amat, packed or not, with a header or without."""

import contextlib
import csv
import gzip
import io
import itertools
import pathlib
import zlib
from collections.abc import Iterator, Sequence, Set

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import cells, labels, tables
from aiwae_jax.data.readers.content import Content

_DELIMITERS = (",", ";", "\t", "|")
_NUM_LOOKED_AT = 2  # lines, for delimiter and header
_FEWEST_IN_ORDER = 3  # columns named 0, 1, 2, ... are names and no numbers
_OF_PANDAS = ("", "Unnamed: 0")  # what the column of row numbers is called
_LEFT_OUT = "its first column, {!r}, numbers the rows and is left out"


def read(
    path: pathlib.Path, *, label: str | None = None, only: Sequence[str] | None = None
) -> dict[str, Content]:
    """Reads a table, or `only` some of its columns; `label` is the one that holds labels.

    The delimiter is found out, and whether the first line has names, which it has where one of its
    words is `label` or among `only`. Columns of words are codes of
    categories, true and false are bits, and pandas' column of row numbers is left out.

    Raises:
      DataError: for what is no table of numbers and categories, with line and column.
    """
    with _opened(path) as file:
        first = [line for _, line in zip(range(_NUM_LOOKED_AT), _lines(file), strict=False)]
    if not first:
        raise DataError(f"{path} is empty: it must hold rows of numbers.")
    delimiter = _delimiter(first)
    parted = [_cells(line, delimiter) for line in first]
    known = {label, *(only or ())}
    names = [cell.strip() for cell in parted[0]] if _has_header(parted, known) else None
    if names and len(first) == 1:
        raise DataError(f"{path} has a line of names and no rows.")
    try:
        found = _numbers(path, delimiter, names, label)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        found = _words(path, delimiter, names, label, only, num_columns=len(parted[0]))
    return {"all": found}


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[io.TextIOBase]:
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            is_packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            binary = stack.enter_context(gzip.open(raw)) if is_packed else raw
            yield stack.enter_context(io.TextIOWrapper(binary, "utf-8-sig", newline=""))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text in UTF-8 ({error}).") from None
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be read; it may be truncated or corrupt ({error})."
            ) from None


def _lines(file: io.TextIOBase) -> Iterator[str]:
    """Lines with something in them."""
    return (line for line in file if line.strip())


def _cells(line: str, delimiter: str | None) -> list[str]:
    """Cells of a line; without a delimiter they are parted by white space."""
    return line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter))


def _delimiter(lines: Sequence[str]) -> str | None:
    """The one that parts the first lines into as many cells, and the most; None is white space."""
    num_cells = {}
    for delimiter in (*_DELIMITERS, None):
        counts = {len(_cells(line, delimiter)) for line in lines}
        num_cells[delimiter] = counts.pop() if len(counts) == 1 else 0
    best = max((*_DELIMITERS, None), key=num_cells.__getitem__)
    if best is None and not all(map(tables.is_number, _cells(lines[-1], None))):
        best = ","  # words of one column of text
    return "," if num_cells[best] <= 1 and best is not None else best


def _has_header(cells: Sequence[list[str]], known: Set[str | None]) -> bool:
    """Whether the first line has names: a known one, words alone or over numbers, 0, 1, 2, ..."""
    first = [cell.strip() for cell in cells[0]]
    is_word = [cell.lower() not in tables.MISSING and not tables.is_number(cell) for cell in first]
    start = 1 if first[0] in _OF_PANDAS and len(first) > 1 else 0
    named = first[start:]
    # A number that is asked for may be a value all the same; a word is a name.
    if any(word and cell in known for word, cell in zip(is_word, first, strict=True)):
        return True
    if all(is_word[start:]):
        return True
    if len(named) >= _FEWEST_IN_ORDER and named == [str(i) for i in range(len(named))]:
        return True
    under = cells[1] if len(cells) > 1 else []
    over_numbers = any(
        word and tables.is_number(cell) for word, cell in zip(is_word, under, strict=False)
    )
    # A word that slipped in among measurements is an error of line 1, and no name.
    others = [cell for cell, word in zip(first, is_word, strict=True) if not word]
    return over_numbers and (sum(is_word) > len(others) or _rise(others))


def _rise(cells: Sequence[str]) -> bool:
    """Whether cells are numbers, each above the one before: years, or wavelengths, as names."""
    if any(cell.lower() in tables.MISSING for cell in cells):
        return False
    numbers = [float(cell) for cell in cells]
    return all(one < next_one for one, next_one in itertools.pairwise(numbers))


def _numbers(
    path: pathlib.Path, delimiter: str | None, names: list[str] | None, label: str | None
) -> Content:
    """Reads a table of numbers alone; raises ValueError for another one."""
    at = tables.place(path, names, label)
    with _opened(path) as file:
        rows = _loaded(file, np.float64, delimiter, skiprows=0 if names is None else 1, ndmin=2)
    if names is not None and len(names) != rows.shape[1]:
        raise ValueError("as many names as columns")
    of_rows, notes, left_out = None, [], []
    if names is not None and _is_row_numbers(names[0], rows[:, 0]):
        left_out, notes = [0], [_LEFT_OUT.format(names[0])]
    if at is not None:
        of_rows = _labels(path, delimiter, names, at, rows[:, at])
        left_out.append(at)
    if left_out:
        rows = np.delete(rows, left_out, axis=1)
        names = [name for i, name in enumerate(names) if i not in left_out]
    if not rows.shape[1]:
        raise DataError(f"{path} has none of the columns that are data.")
    return Content(
        rows,
        None if of_rows is None else of_rows.values,
        None if names is None else tuple(names),
        first_line=1 if names is None else 2,
        notes=tuple(notes),
        label_names=None if of_rows is None else of_rows.categories,
    )


def _labels(
    path: pathlib.Path, delimiter: str | None, names: list[str], at: int, numbers: np.ndarray
) -> tables.Column:
    """Labels of a table of numbers; read once more, as text, where float64 may not hold them."""
    name = names[at]
    if labels.are_sure(numbers):
        return tables.Column(name, labels.of_numbers(numbers))
    with _opened(path) as file:
        words = _loaded(file, str, delimiter, skiprows=1, usecols=at, ndmin=1)
    column = cells.Cells(name, is_label=True)
    for line, word in enumerate(words, start=2):
        column.append(word, line)
    return column.column(path)


def _loaded(file: io.TextIOBase, dtype: type, delimiter: str | None, **options: int) -> np.ndarray:
    return np.loadtxt(file, dtype, comments=None, delimiter=delimiter, quotechar='"', **options)


def _is_row_numbers(name: str, values: np.ndarray) -> bool:
    return name in _OF_PANDAS and np.array_equal(values, np.arange(len(values)))


def _words(
    path: pathlib.Path,
    delimiter: str | None,
    names: list[str] | None,
    label: str | None,
    only: Sequence[str] | None,
    *,
    num_columns: int,
) -> Content:
    """Reads a table cell by cell, and says where it is none."""
    at = tables.place(path, names, label)
    columns = [
        cells.Cells(name, is_label=i == at)
        for i, name in enumerate(names or map(str, range(num_columns)))
    ]
    awaits_names = names is not None
    with _opened(path) as file:
        split = map(str.split, file) if delimiter is None else csv.reader(file, delimiter=delimiter)
        try:
            for number, words in enumerate(split, start=1):
                is_empty = not any(map(str.strip, words)) and len(words) < 2
                if awaits_names or is_empty:
                    awaits_names &= is_empty
                    continue
                if len(words) != len(columns):
                    raise DataError(
                        f"{path}, line {number}: it has {len(words)} of the {len(columns)} cells "
                        "of the first line."
                    )
                for column, word in zip(columns, words, strict=True):
                    column.append(word, number)
        except csv.Error as error:
            raise DataError(f"{path} is no table ({error}).") from None
    if names is not None and only is not None:
        columns = [each for each in columns if each.name in only or each.name == label]
    made, notes = [column.column(path) for column in columns], ()
    if names is not None and len(made) > 1 and _is_row_numbers(made[0].name, made[0].values):
        made, notes = made[1:], (_LEFT_OUT.format(names[0]),)
    found = tables.content(path, made, label, first_line=1 if names is None else 2)
    return found._replace(notes=notes + found.notes)
