"""The folder of a run of the command line: whether its configuration is the one that is wanted."""

import contextlib
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from aiwae_jax import data
from aiwae_jax.data import Dataset
from aiwae_jax.runs import folder as run_folder
from aiwae_jax.runs.files import WorkdirError as WorkdirError
from experiments import completion, contents
from experiments.config import Config
from experiments.settings import FLAGS, Training

# Fields whose values stand in a folder's name as they are; those that it has in its own words, or
# that may change in it.
_WORDS = ("layers", "posterior", "move", "rws_phi", "tempering", "raiko_estimator")
_NAMED = {
    *("dataset", "method", "num_particles", "num_temperatures", "num_moves", "model", *_WORDS),
    *("epochs", "batch_size", "seed", "num_repeats", "num_stages", "curriculum"),
}
_MOST_SAID = 3  # further fields of a folder's name; more are a hash


def config_differences(folder: pathlib.Path, training: Training) -> list[str]:
    """How a folder's run differs from `training`; a run may be extended by later stages.

    Raises:
      WorkdirError: if its config.json is missing or damaged.
    """
    there = contents.read_config(folder)["training"]
    here = dataclasses.asdict(training)
    found = [
        f"--{FLAGS[name]}={there[name]} there, {value} here"
        for name, value in here.items()
        if there[name] != value
        and not (name == "dataset" and not {there[name], value} & set(data.NAMES))  # files may move
        and not (name == "num_stages" and there[name] <= value and training.is_open_ended)
    ]
    unknown = [f"{name}={there[name]} there, unknown here" for name in there if name not in here]
    return found + unknown


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def default_workdir(training: Training) -> str:
    """runs/<dataset>-<method>-K..-T..-b..-seed..., and whatever else is not as usual."""
    said = {name: getattr(training, name) for name in ("dataset", "method", "model")}
    settings = dataclasses.asdict(training)
    usual = dataclasses.asdict(completion.complete(said))

    # What says what the run is comes first, then what is unlike a usual one of that kind.
    name = pathlib.Path(training.dataset).name.partition(".")[0]
    parts = [re.sub(r"\W+", "_", name), training.method, f"K{training.num_particles}"]
    if training.num_temperatures is not None:
        parts.append(f"T{training.num_temperatures}")
    if training.num_moves is not None:
        parts.append(f"M{training.num_moves}")
    if training.model != "one_layer":
        parts.append(re.sub(r"\W+", "_", training.model.rpartition("/")[2]))
    if training.curriculum is not None:
        parts.append(f"curriculum{_digest(training.curriculum)}")
    parts += [
        settings[name].replace(",", "+")
        for name in _WORDS
        if settings[name] not in (None, usual[name])
    ]
    if not training.is_open_ended and training.num_stages != usual["num_stages"]:
        parts.append(f"stages{training.num_stages}")
    others = [
        re.sub(r"[^\w.+-]+", "_", f"{FLAGS[name]}{value}")
        for name, value in settings.items()
        if name not in _NAMED and value not in (None, usual[name])
    ]
    if len(others) > _MOST_SAID:
        others = [_digest(" ".join(others))]
    parts += others
    if training.epochs is not None:
        parts.append(f"{training.epochs:g}epochs")
    parts += [f"b{training.batch_size}", f"seed{training.seed}"]
    if training.num_repeats > 1:
        parts.append(f"repeats{training.num_repeats}")
    return "runs/" + "-".join(parts)


def absolute(data_dir: str | None) -> str | None:
    """The folder of the data from wherever a command is started."""
    return str(pathlib.Path(data_dir).expanduser().absolute()) if data_dir else None


@contextlib.contextmanager
def claim(
    config: Config, dataset: Dataset, recipes: dict[str, Any] | None = None
) -> Iterator[run_folder.Claim]:
    """Opens the work folder for writing, see `aiwae_jax.runs.folder.claim`.

    `recipes` say how model and method were built, for `aiwae_jax.load`.
    """

    def check(folder: pathlib.Path) -> None:
        stored = contents.read_config(folder)
        differences = config_differences(folder, config.training)
        differences += dataset.differences(stored["data"])
        if differences:
            raise WorkdirError(
                f"--workdir={folder} holds a run of another configuration "
                f"({'; '.join(differences)}); name another folder."
            )

    content = {
        "training": dataclasses.asdict(config.training),
        **(recipes or {}),
        "data": dataset.describe(),
        "data_dir": absolute(config.data_dir),
    }
    with run_folder.claim(config.workdir, content, check) as claimed:
        yield claimed


def open_run(folder: str) -> tuple[pathlib.Path, Training, dict[str, Any]]:
    """Reads the configuration of an existing run: (folder, training, the whole of config.json).

    Raises:
      WorkdirError: if there is none.
    """
    path = pathlib.Path(folder).expanduser().absolute()
    if not (path / "config.json").exists():
        hint = ""
        if path.is_dir() and (path.parent / "config.json").exists():
            hint = f" of its own; it is part of the one in {path.parent}: name that"
        raise WorkdirError(f"--workdir={folder} holds no run of this program{hint}.")
    run_folder.check_kinds(path)
    stored = contents.read_config(path)
    return path, contents.settings_of(path, stored), stored
