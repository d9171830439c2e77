"""Which columns of a table are data: some by name, or all but some."""

import pathlib
from collections.abc import Sequence

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers.content import Content


def chosen(
    path: pathlib.Path,
    content: Content,
    only: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
) -> Content:
    """The same with `only` these columns, or without those that are to `drop`, in the file's order.

    Raises:
      DataError: for names that no column has, columns without names, or where none is left.
    """
    if only is None and drop is None:
        return content
    names = content.columns
    if names is None:
        argument = "`only`" if drop is None else "`drop`"
        raise DataError(f"{argument}: {path} has no names of columns; leave it out.")
    for argument, wanted in (("only", only), ("drop", drop)):
        for name in wanted or ():
            if name not in names:
                raise DataError(
                    f"`{argument}` must name columns of {path} that are data, got {name!r}; they "
                    f"are {', '.join(map(repr, names))}."
                )
    kept = [
        i
        for i, name in enumerate(names)
        if (only is None or name in only) and name not in (drop or ())
    ]
    if not kept:
        raise DataError(f"`drop` leaves no column of {path}; name fewer.")
    left = tuple(names[i] for i in kept)
    categories = {n: words for n, words in (content.categories or {}).items() if n in left}
    return content._replace(rows=content.rows[:, kept], columns=left, categories=categories or None)
