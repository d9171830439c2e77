"""What a file holds, whatever kind of file it is."""

from typing import NamedTuple

import numpy as np


class Content(NamedTuple):
    """Rows of a file, as its reader hands them on.

    Attributes:
      rows: `[N, ...]` numbers.
      labels: `[N]` numbers, or None.
      columns: names of the columns, or None.
      categories: column -> the names of its codes 0, 1, ..., of columns that held words.
      first_line: of a text file, the line that holds row 0, counted from 1.
      notes: what was made of the file, in words.
    """

    rows: np.ndarray
    labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    categories: dict[str, tuple[str, ...]] | None = None
    first_line: int | None = None
    notes: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Words for where a row stands."""
        return f"row {row}" if self.first_line is None else f"line {row + self.first_line}"
