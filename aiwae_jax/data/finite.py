"""What is missing or infinite is refused by its place, in one sentence for every way in.

Unless it is said what is `missing`: NaN is then a value that was not observed.
"""

from collections.abc import Callable, Sequence

import numpy as np

from aiwae_jax import support
from aiwae_jax.data.errors import DataError

# Why values are missing. At random: for no reason that lies in what they would have held.
MISSING = ("at_random",)


def check_missing(missing: str | None) -> None:
    """Raises ValueError for what is none of `MISSING`."""
    if missing is not None and missing not in MISSING:
        raise ValueError(
            f"`missing` must be one of {', '.join(MISSING)}, or None; got {missing!r}."
        )


def check(
    rows: np.ndarray,
    where: str,
    *,
    missing: str | None = None,
    columns: Sequence[str] | None = None,
    place_fn: Callable[[int], str] = "row {}".format,
) -> None:
    """Names the first value that is missing or infinite, and says how many are.

    Args:
      rows: `[N, X]` numbers.
      where: the file, or the argument.
      missing: one of `MISSING`, where NaN is let through.
      columns: X names, or None.
      place_fn: row -> words for where it stands.

    Raises:
      DataError: if there is one.
    """
    if rows.dtype.kind != "f":
        return
    is_finite = np.isfinite(rows)
    if missing:
        is_finite |= np.isnan(rows)
    if is_finite.all():
        return
    row, column = map(int, np.argwhere(~is_finite)[0])
    is_missing = np.isnan(rows[row, column])
    what = "missing" if is_missing else "infinite"
    advice = ""
    if is_missing:
        advice = (
            f"`missing`={MISSING[0]!r} (aiwae fit --missing={MISSING[0]}) leaves such values out "
            "of the likelihood; or "
        )
    num = int(is_finite.size - np.count_nonzero(is_finite))
    place = f"{where}, {place_fn(row)}, {support.name_of_column(column, columns)}"
    raise DataError(
        f"{place}: the value is {what}, and missing or infinite are {num} of {is_finite.size}; "
        f"{advice}fill them in, or leave out their rows or columns."
    )
