"""What every section of a page is made of."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiwae_jax.report.extremes import Table
from aiwae_jax.report.text import Description


class Page(NamedTuple):
    """Material of a page.

    Attributes:
      folder: of the report, with its pictures.
      report: what report.json says.
      description: of the run.
      captions: by the names of the pictures.
      rows: the least and the most likely rows, where data are rows.
      curves: columns of the learning curves, by their names; none where nothing was recorded.
    """

    folder: pathlib.Path
    report: dict[str, Any]
    description: Description
    captions: Mapping[str, str]
    rows: Table | None = None
    curves: Mapping[str, Sequence[float]] | None = None
