"""The test data that a model finds least and most likely, the first things to look at."""

from typing import Any, NamedTuple

import numpy as np

from aiwae_jax.report.shown import Shown

_NUM = 10  # of each
_MOST_COLUMNS = 12  # of a table


class Extremes(NamedTuple):
    """Places among the evaluated test data.

    Attributes:
      worst: those of the highest NLL, the highest first.
      best: those of the lowest, the lowest first.
      nll: of all `[N]`, nats.
    """

    worst: np.ndarray
    best: np.ndarray
    nll: np.ndarray


def choose(shown: Shown) -> Extremes | None:
    """Chooses ten of each, of few data half of them; None of too few, or where no NLL is known."""
    nll = shown.arrays.get("nll_test")
    if nll is None or shown.images is None or len(nll) != len(shown.images.test):
        return None
    num = min(_NUM, len(nll) // 2)
    order = np.argsort(np.where(np.isnan(nll), np.inf, nll), kind="stable")
    return Extremes(order[::-1][:num], order[:num], nll) if num else None


class Table(NamedTuple):
    """Rows of a table, as words and numbers.

    Attributes:
      columns: names and values, all of one length; two may have one name.
      num_worst: how many of the first rows are the least likely ones; the others are the most
        likely.
      num_left_out: columns of the data that are not among them.
    """

    columns: list[tuple[str, list[Any]]]
    num_worst: int
    num_left_out: int


def table(shown: Shown) -> Table | None:
    """The rows themselves, with their NLL; None of images, and where `choose` finds none."""
    chosen = choose(shown)
    if chosen is None or shown.dataset.image_shape is not None:
        return None
    places = np.concatenate([chosen.worst, chosen.best])
    index = shown.images.test_index[places]
    found = [
        ("row", _rows_of(shown, index).tolist()),
        ("NLL", chosen.nll[places].tolist()),
    ]
    if shown.labels is not None:
        found.append(("label", [shown.label_of(i) for i in index]))
    num_columns = shown.images.test.shape[1]
    names = shown.dataset.columns or [f"column {i}" for i in range(num_columns)]
    for column, name in enumerate(names[:_MOST_COLUMNS]):
        codes = (shown.dataset.categories or {}).get(name)
        values = shown.images.test[places, column].tolist()
        found.append((name, [codes[int(v)] if codes and v == v else v for v in values]))
    return Table(found, len(chosen.worst), max(0, num_columns - _MOST_COLUMNS))


def _rows_of(shown: Shown, index: np.ndarray) -> np.ndarray:
    """Rows of the file where it was split here, else of the test set."""
    rows = shown.dataset.test_index
    return index if rows is None else np.asarray(rows)[index]
