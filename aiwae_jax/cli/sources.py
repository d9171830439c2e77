"""Where a command's data come from: a name, or a file of yours."""

import dataclasses
import os
import pathlib
import sys
from typing import Any

from aiwae_jax import data, row_weights
from aiwae_jax.cli.flags import UsageError, names_of
from aiwae_jax.options import check, option
from aiwae_jax.parallel import processes

_LARGE = 50e6  # bytes, of which text takes some seconds
_MOST_NAMED = 10  # columns of categories
_LISTS = ("only", "drop")  # of names, parted by commas
_NAMES = ", ".join(data.NAMES)
WHAT = f"one of {_NAMES}, or a file of yours: {data.KNOWN_FILES}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read; a named data set is read in one way only."""

    test_share: float | None = option(
        None,
        above=0,
        below=1,
        help="Of a file: the share of its rows that is for testing, the same rows for every seed; "
        f"{data.TEST_SHARE:g} where it is not given. Not for a file with training and test data.",
    )
    max_level: float | None = option(
        None,
        above=0,
        help="Of a file: the grey level that stands for 1; rows are drawn anew as bits at every "
        "use. Where it is not given, it is told from the values.",
    )
    label: str | None = option(
        None,
        flag="label_column",
        help="Of a table: the column that holds labels, which are no data; of .h5ad one of `obs`.",
    )
    layer: str | None = option(
        None, help="Of .h5ad: one of its layers in the place of X, or `raw` for raw/X."
    )
    only: str | None = option(
        None,
        flag="columns",
        help="Of a table: the columns that are data, age,income; all others are left out.",
    )
    drop: str | None = option(
        None,
        flag="drop_columns",
        help="Of a table: columns that are no data and are left out, id,name,date.",
    )
    missing: str | None = option(
        None,
        choices=data.MISSING,
        help="Of a file: what empty cells and NaN are, which are refused where it is not given. "
        "at_random: not observed, for no reason that lies in what they would have held; the model "
        "is then of what was observed.",
    )

    in_memory: bool | None = option(
        None,
        help="Of .npy files or a folder of them: whether all rows are loaded (--in_memory), or "
        "left on disk and read where they are needed (--in_memory=False). Where it is not given, "
        "they are left if they are larger than a quarter of the memory.",
    )
    weights: str | None = option(
        None,
        help="Of a table: the column that says what each row counts for, in training and in means, "
        "and is no data.",
    )
    condition: str | None = option(
        None,
        help="Columns that the model is given and does not model, with commas between them, or "
        "`label` for the labels: p(x|z, c), q(z|x, c). Classes are shown to it as bits, numbers "
        "standardized.",
    )

    def __post_init__(self):
        """Raises ValueError for a value that cannot be."""
        check(self)


FLAGS = names_of(Reading)
_OF_ALL = ("condition",)  # options that named data sets have, too


def resolve(name: str, given: dict[str, Any], argument: str = "--dataset") -> str:
    """A data set's name as it is, or a file's from wherever a command is started.

    Args:
      name: of the data.
      given: field -> value, of which those of `Reading` are looked at.
      argument: of the command, that the name was given as.

    Raises:
      UsageError: for what is neither, or an option that a named data set does not have.
    """
    if name in data.NAMES:
        for field, flag in FLAGS.items():
            if field not in _OF_ALL and given.get(field) is not None:
                raise UsageError(f"--{flag} is for files of yours, not for {name}; leave it out.")
        return name
    path = pathlib.Path(name).expanduser().absolute()
    if not path.exists():
        raise UsageError(
            f"{argument} must be one of {_NAMES}, or a file of yours, and there is none at {name}."
        )
    return str(path)


def load(
    name: str, data_dir: str | None, reading: Reading, argument: str = "--dataset"
) -> data.Dataset:
    """Loads a named data set, or a file.

    Args:
      name: of the data set; or the file, which may also lie in `data_dir` by its name.
      data_dir: a folder with raw files.
      reading: how a file is read.
      argument: as in `resolve`.

    Raises:
      UsageError: for what is neither.
      data.DataError: for data that cannot be trained on.
    """
    elsewhere = pathlib.Path(data_dir or ".").expanduser() / pathlib.Path(name).name
    if (
        data_dir
        and name not in data.NAMES
        and not pathlib.Path(name).expanduser().exists()
        and elsewhere.exists()
    ):
        name = str(elsewhere)
    options = {field: getattr(reading, field) for field in FLAGS}
    for field in _LISTS:
        if options[field] is not None:
            options[field] = [name.strip() for name in options[field].split(",")]
    where = resolve(name, options, argument)
    if where in data.NAMES:
        return data.load(where, data_dir, condition=reading.condition)
    print(f"reading {where}{_size(where)}", flush=True)
    return data.from_file(where, **options)


def say_reading(where: str | os.PathLike | None) -> None:
    """Says that a large file or folder is being read, beside what a command prints of it."""
    size = "" if where is None else _size(where)
    if size and processes.is_primary():
        print(f"reading {where}{size}", file=sys.stderr, flush=True)


def _size(where: str | os.PathLike) -> str:
    """Words for how much there is to be read, where it takes more than a moment."""
    path = pathlib.Path(where).expanduser()
    within = path.rglob("*") if path.is_dir() else [path]
    size = sum(each.stat().st_size for each in within if each.is_file())
    return f" ({size / 1e6:,.0f} MB)" if size > _LARGE else ""


def describe(dataset: data.Dataset) -> str:
    """Says which data they are, and what their values are taken for."""
    what = "rows" if dataset.image_shape is None else "images"
    words = (
        f"data: {dataset.title}, {len(dataset.train)} training and {len(dataset.test)} test {what} "
        f"({dataset.source})\nvalues: {dataset.in_words()}"
    )
    for part in ("train", "test"):
        weights = getattr(dataset, f"{part}_weights")
        if weights is not None:
            number = row_weights.effective_number(weights)
            words += (
                f"\nweights: the {len(weights)} {part} {what} count as {number:.4g} of one weight"
            )
    if dataset.image_shape is None and dataset.columns is None:
        words += f"\ncolumns: {dataset.num_modelled}, without names"
    if dataset.condition:
        classes = dataset.categories or {}
        given = [
            f"{n} ({len(classes[n])} classes)" if n in classes else n for n in dataset.condition
        ]
        words += f"\ncondition: {', '.join(given)}, given and not modelled"
    if categories := dataset.modelled.categories:
        counts = [f"{name} ({len(each)})" for name, each in categories.items()]
        more = ", ..." if len(counts) > _MOST_NAMED else ""
        words += f"\ncategories: {', '.join(counts[:_MOST_NAMED])}{more}"
    return words
