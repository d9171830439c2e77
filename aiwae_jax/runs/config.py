"""Reads config.json: a run's settings, its data, how model and method were built."""

import pathlib
from typing import Any, NotRequired, TypedDict

from aiwae_jax.runs import files, schema
from aiwae_jax.runs.files import WorkdirError

CONFIG_ADVICE = (
    "its checkpoints are of use only with the one that belongs to them: restore it, or put there "
    "the config.json of a run started with the same flags in another folder"
)


class Data(TypedDict):
    """The data of a run, in words."""

    title: str
    sha256: str
    name: NotRequired[str]
    kind: NotRequired[str]
    max_level: NotRequired[float | None]
    source: NotRequired[str]
    is_stand_in: NotRequired[bool]
    train_images: NotRequired[int]
    test_images: NotRequired[int]
    image_shape: NotRequired[list[int] | None]
    columns: NotRequired[list[str]]
    categories: NotRequired[dict[str, list[str]]]
    origin: NotRequired[dict | None]
    weights: NotRequired[dict]
    condition: NotRequired[list[str]]


class _Recipe(TypedDict):
    """How a model or a method was built."""

    builder: str
    arguments: dict


class _Config(TypedDict):
    """Of config.json."""

    training: dict
    data: Data
    data_dir: NotRequired[str | None]
    model: NotRequired[_Recipe | None]
    method: NotRequired[_Recipe | None]
    legs: NotRequired[list]
    trains_posterior: NotRequired[bool]


def check(path: pathlib.Path, content: Any, kind: Any, advice: str) -> dict[str, Any]:
    """Content that is of a kind, with what a kind has by default.

    Raises:
      WorkdirError: if it is something else.
    """
    try:
        return schema.read(content, kind)
    except schema.SchemaError as error:
        raise WorkdirError(f"{path} is not what this program wrote: {error}; {advice}.") from None


def check_training(
    path: pathlib.Path, content: dict[str, Any], kind: Any, place: str, advice: str
) -> None:
    """Reads the settings of the training as what they are of, in place."""
    try:
        content["training"] = schema.read(content["training"], kind, place)
    except schema.SchemaError as error:
        raise WorkdirError(f"{path} is not what this program wrote: {error}; {advice}.") from None


def read(folder: pathlib.Path, training: Any = dict) -> dict[str, Any]:
    """Reads a run's config.json; settings that came later have their defaults.

    Args:
      folder: of the run.
      training: the dataclass of the settings of its training, where it is known.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    path = folder / "config.json"
    config = check(path, files.read_json(path, CONFIG_ADVICE), _Config, CONFIG_ADVICE)
    check_training(path, config, training, "training", CONFIG_ADVICE)
    if model := config.get("model"):  # of a version in which models of bits had their own module
        model["builder"] = model["builder"].replace("belief.", "models.")
    return config
