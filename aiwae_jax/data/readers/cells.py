"""A column of a table as text, read cell by cell."""

import array
import decimal
import pathlib

import numpy as np

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import labels, tables


class Cells:
    """A column as it is read: a number, or the place of a word, of every cell.

    Numbers of labels are words, too, so that they are kept to the digit.
    """

    def __init__(self, name: str, *, is_label: bool = False):
        self.name, self._is_label = name, is_label
        self.numbers = array.array("d")
        self.codes = array.array("q")
        self.lines: dict[str, int] = {}  # word -> the first line that has it
        self._places: dict[str, int] = {}

    def append(self, cell: str, line: int) -> None:
        """Adds the cell of the next row, which stands in a line counted from 1."""
        cell = cell.strip()
        number, code = float("nan"), -1
        if cell.lower() not in tables.MISSING:
            if tables.is_number(cell) and not self._is_label:
                number = float(cell)
            else:
                code = self._places.setdefault(cell, len(self._places))
                self.lines.setdefault(cell, line)
        self.numbers.append(number)
        self.codes.append(code)

    def column(self, path: pathlib.Path) -> tables.Column:
        """The column of all cells.

        Raises:
          DataError: if some are numbers and some are words.
        """
        numbers = np.frombuffer(self.numbers, np.float64)
        codes, words = np.frombuffer(self.codes, np.int64), list(self._places)
        if self._is_label:
            return self._labels(path, codes, words)
        if words and not np.isnan(numbers).all():
            raise self._mixed(path, words[0], int((codes >= 0).sum()))
        if not words:
            return tables.Column(self.name, numbers)
        return tables.coded(str(path), self.name, codes, words)

    def _labels(self, path: pathlib.Path, codes: np.ndarray, words: list[str]) -> tables.Column:
        is_word = np.array([not tables.is_number(word) for word in words], bool)
        if is_word.any() and not is_word.all():
            num = int(is_word[codes[codes >= 0]].sum())
            raise self._mixed(path, words[int(is_word.argmax())], num)
        values = words if is_word.any() else [decimal.Decimal(word) for word in words]
        return tables.Column(self.name, *labels.coded(codes, values))

    def _mixed(self, path: pathlib.Path, word: str, num: int) -> DataError:
        return DataError(
            f"{path}, line {self.lines[word]}, column {self.name!r}: {word!r} is no number, as "
            f"{num} of the {len(self.codes)} cells of that column are none; correct them, or leave "
            "the column out."
        )
