"""What a file holds, whatever kind of file it is."""

from typing import NamedTuple

import numpy as np

_MOST_SAID = 50  # names of labels, which may differ in every row


class Content(NamedTuple):
    """Rows of a file, as its reader hands them on.

    Attributes:
      rows: `[N, ...]` numbers.
      labels: `[N]` int64, float64, or codes of `label_names`, NaN where there is none; or None.
      columns: names of the columns, or None.
      categories: column -> the names of its codes 0, 1, ..., of columns that held words.
      first_line: of a text file, the line that holds row 0, counted from 1.
      notes: what was made of the file, in words.
      label_names: the names of the labels' codes 0, 1, ..., of labels that are codes.
      weights: `[N]` what each row counts for, NaN where there is none; or None.
    """

    rows: np.ndarray
    labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    categories: dict[str, tuple[str, ...]] | None = None
    first_line: int | None = None
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] | None = None
    weights: np.ndarray | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """The notes, and what the labels' codes stand for."""
        if not self.label_names:
            return self.notes
        named = [f"{code} {name}" for code, name in enumerate(self.label_names[:_MOST_SAID])]
        if len(self.label_names) > _MOST_SAID:
            named.append(f"... {len(self.label_names)} in all")
        return (*self.notes, f"labels {', '.join(named)}")

    @property
    def own_labels(self) -> np.ndarray | None:
        """The labels as the file has them: codes are of this file alone, words of any."""
        if self.labels is None or not self.label_names:
            return self.labels
        missing = len(self.label_names)
        codes = np.where(np.isnan(self.labels), missing, self.labels).astype(int)
        return np.asarray([*self.label_names, ""])[codes]

    def of_rows(self, index: np.ndarray) -> "Content":
        """The content of some rows alone."""
        names = ("rows", "labels", "weights")
        found = {name: getattr(self, name) for name in names}
        return self._replace(**{n: a if a is None else a[index] for n, a in found.items()})

    def place(self, row: int) -> str:
        """Words for where a row stands."""
        return f"row {row}" if self.first_line is None else f"line {row + self.first_line}"
