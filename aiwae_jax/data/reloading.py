"""The data of a run, found again by what its config.json says of them."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from aiwae_jax.data.dataset import DataError, Dataset
from aiwae_jax.data.files import from_file
from aiwae_jax.data.named import NAMES, load

_OF_FILES = (
    *("test_share", "label", "layer", "missing", "weights", "condition", "only", "drop"),
    "in_memory",
)


def reload(
    described: Mapping[str, Any],
    *,
    where: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Dataset:
    """Loads the data that `Dataset.describe` described; `Dataset.differences` compares them.

    Args:
      described: what config.json has under "data".
      where: the file they are in now, or a data set's name, if that has changed.
      data_dir: a named data set's folder, if that has changed.

    Raises:
      DataError: if they are not there any more, or came from arrays.
    """
    origin = described.get("origin") or _of_earlier_versions(described)
    if where is None:
        where = origin.get("file") or origin.get("name")
    title, max_level = described["title"], described.get("max_level")
    if where in NAMES:
        condition = origin.get("condition")
        return load(str(where), data_dir or origin.get("data_dir"), condition=condition)
    if where is None or not pathlib.Path(where).expanduser().exists():
        there = described.get("source") or "a known place"
        raise DataError(
            f"`where` must say where the data of the run, {title}, are now: they are not at "
            f"{where or there} any more."
        )
    options = {name: origin[name] for name in _OF_FILES if name in origin}
    name = described.get("name")
    return from_file(where, max_level=max_level, name=name, **options)


def _of_earlier_versions(described: Mapping[str, Any]) -> dict[str, str]:
    source, name = described.get("source", ""), described.get("name", "")
    if pathlib.Path(source).suffix == ".npz":
        return {"file": source}
    return {"name": name} if name in NAMES else {}
