"""Where a command's data come from: a name, or a file of yours."""

import pathlib
from typing import Any

from aiwae_jax import data
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.runs import files

_NAMES = f"{', '.join(data.NAMES[:-1])} or {data.NAMES[-1]}"
WHAT = f"an .npz file with `train` and `test`, or {_NAMES}"


def load(name: str, data_dir: str | None, max_level: float | None) -> data.Dataset:
    """Loads a named data set, or an .npz file.

    Raises:
      UsageError: for what is neither.
      data.DataError: for data that cannot be trained on.
    """
    if name in data.NAMES:
        return data.load(name, data_dir)
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"{name} is no file, and none of {_NAMES}.")
    arrays = files.read_arrays(path, "it must be an .npz file with `train` and `test`")
    for part in ("train", "test"):
        if part not in arrays:
            raise UsageError(f"{path} has no `{part}`, but {', '.join(arrays) or 'nothing'}.")
    labels = {f"{part}_labels": arrays.get(f"{part}_labels") for part in ("train", "test")}
    return data.from_arrays(
        arrays["train"],
        arrays["test"],
        **labels,
        max_level=max_level,
        name=path.stem,
        source=str(path.absolute()),
    )


def where(facts: dict[str, Any]) -> str:
    """The name or the file that a run's data came from, by its config.json.

    Raises:
      UsageError: if they are not there any more.
    """
    source, name = facts.get("source", ""), facts.get("name", "")
    if pathlib.Path(source).is_file():
        return source
    if name in data.NAMES and not source.endswith(".npz"):
        return name
    raise UsageError(
        f"the data, {facts['title']}, are not at {facts.get('source') or 'a known place'} any more;"
        " say where they are, with --data."
    )
