"""What commands that use a run have in common: the run, new rows of a file, a table."""

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags

from aiwae_jax import data, likelihoods, train
from aiwae_jax.cli import flags, likelihood, sources
from aiwae_jax.data.readers import Content
from aiwae_jax.options import option
from aiwae_jax.runs import tables

# Arguments of the library, as the flags that gave them.
NAMES = {"folder": "workdir", "x": "data", "label": "label", "layer": "layer", "out": "out"}


@dataclasses.dataclass(frozen=True)
class Using:
    """Which run, and where its results go."""

    workdir: str | None = option(None, help="Folder of a run; --folder is the same.")
    out: str | None = option(
        None, help="File of the table, .csv or .parquet; printed as CSV where it is not given."
    )
    seed: int = option(0, at_least=0, below=2**32, help="Seed of all that is drawn.")

    @property
    def key(self) -> jax.Array:
        """The key of all that is drawn."""
        return jax.random.key(self.seed)

    @property
    def path(self) -> pathlib.Path | None:
        """Of the table, if it is a file."""
        return None if self.out is None else pathlib.Path(self.out).expanduser()

    def load(self) -> train.Run:
        """The run; before, it looks whether the table can be written.

        Raises:
          UsageError: if no run is named.
          ValueError: for what is none, or a file that cannot be written.
        """
        flags.require(self.workdir is not None, "--workdir is needed: the folder of a run.")
        if self.path is not None:
            tables.check(self.path, "out")
        return train.load(self.workdir)

    def write(self, columns: Mapping[str, Sequence[Any]], words: str) -> None:
        """Writes the table, or prints it; where there is a file, also what it is, in words."""
        if self.path is None:
            print(tables.as_csv(columns), end="")
        else:
            tables.write(self.path, columns)
            print(f"{words}: {self.path}")


@dataclasses.dataclass(frozen=True)
class Rows:
    """New rows."""

    data: str | None = option(
        None,
        help="File of new rows, of a kind that `aiwae fit` reads: columns with names are found by "
        "name, in any order, among others.",
    )
    label: str | None = option(
        None,
        help="Column that holds labels, to be handed on; by default the run's, if it is there.",
    )
    layer: str | None = option(
        None, help="Of an .h5ad file one of its layers; by default the run's."
    )

    def read(self, run: train.Run) -> Content:
        """The rows, in the columns and codes that the run was trained on.

        Raises:
          UsageError: if no file is named.
          data.DataError: for a file that cannot be read, or has other columns.
        """
        flags.require(self.data is not None, "--data is needed: a file of new rows.")
        facts = run.config["data"]
        origin = facts.get("origin") or {}
        columns, is_given_total = facts.get("columns"), likelihood.has_library(run.config)
        condition = facts.get("condition") or ()
        if columns and is_given_total:  # which stands behind the counts, and is made of them
            columns = [*columns[: -len(condition) - 1], *condition]

        def rows_with(label: str | None) -> Content:
            return data.read_rows(
                self.data,
                label=label,
                layer=self.layer or origin.get("layer"),
                columns=columns,
                categories=facts.get("categories"),
                missing=facts.get("missing"),
                condition=condition,
                image_shape=facts.get("image_shape"),
            )

        sources.say_reading(self.data)
        try:
            found = rows_with(self.label or origin.get("label"))
        except data.DataError:
            if self.label is not None or origin.get("label") is None:
                raise
            found = rows_with(None)  # the run's label need not be there
        if (columns is None) != (found.columns is None):
            which = "has no names of columns" if found.columns is None else "names its columns"
            of_run = "no names" if columns is None else "names"
            warnings.warn(
                f"{self.data} {which}, and those that the run was trained on have {of_run}: "
                "columns are taken by their place, from first to last.",
                stacklevel=2,
            )
        if not is_given_total or found.rows.shape[1] == run.data_size:  # it has them already
            flags.require(
                not condition or found.rows.shape[1] != run.data_size - len(condition),
                f"--data={self.data} does not say the condition of its rows, "
                f"{' and '.join(condition)}, which the model is given; labels come from a column "
                "that --label names, or with the file.",
            )
            return found
        counts, given = np.split(found.rows, [found.rows.shape[1] - len(condition)], axis=1)
        with flags.refusals({"rows": "data"}):
            rows = likelihoods.with_library(counts)
        return found._replace(rows=np.concatenate([rows, given.astype(rows.dtype)], axis=1))


def begin(
    argv: Sequence[str], usage: str, *kinds: type, prefix: str = "eval_"
) -> absl_flags.FlagValues:
    """The flags of a command, parsed.

    Args:
      argv: of which the first is the command.
      usage: the help's first line.
      *kinds: settings whose options the command has, beside those of `Using`.
      prefix: left out of flags' names.

    Raises:
      UsageError: as `flags.parse`.
    """
    fv = absl_flags.FlagValues()
    for kind in (Using, *kinds):
        flags.define_options(fv, kind, prefix=prefix)
    absl_flags.DEFINE_alias("folder", "workdir", flag_values=fv)
    absl_flags.DEFINE_bool("help", False, "Shows this help.", flag_values=fv, short_name="h")
    flags.parse(fv, argv, usage)
    return fv


def identity(content: Content) -> dict[str, np.ndarray]:
    """The columns that say which row is which: its place in the file from 0 on, and its label."""
    found = {"index": np.arange(len(content.rows))}
    return found if content.labels is None else found | {"label": content.own_labels}


def numbered(name: str, columns: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of `[N, D]` as name_0, name_1, ...."""
    return {f"{name}_{i}": columns[:, i] for i in range(columns.shape[1])}


def named(rows: np.ndarray, facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns of `[N, X]` by their names, codes as the words that they stand for.

    Args:
      rows: as the model sees them.
      facts: what config.json says of the data.
    """
    names, categories = facts.get("columns"), facts.get("categories") or {}
    found = {}
    if names is None:
        names = facts.get("condition") or ()
        num = rows.shape[1] - len(names)
        found, rows = numbered("x", rows[:, :num]), rows[:, num:]
    for i, name in enumerate(names):
        column = rows[:, i]
        if name in categories:
            column = np.asarray(categories[name])[column.astype(int)]
        found[name] = column
    return found
