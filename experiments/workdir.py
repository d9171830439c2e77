"""The folder of a run: whose it is, its configuration, files written whole."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import pathlib
import time
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from aiwae_jax import processes
from aiwae_jax.data import Dataset
from experiments.flags import FLAGS_OF, Config, Evaluation, Training
from experiments.store import DAMAGED_ARRAYS, write_whole

_CONFIG_KEYS = ("training", "data", "data_dir")


def _added_later(settings: type) -> dict[str, Any]:
    """Settings that runs of earlier versions do not mention, because there was no choice."""
    return {
        field.name: field.default
        for field in dataclasses.fields(settings)
        if field.default is not dataclasses.MISSING
    }


_NUM_LOCK_TRIES = 3
REPORT_KEYS = ("config", "data", "epochs", "nll_test", "num_examples")


class WorkdirError(ValueError):
    """A folder that this run must not touch; the message is one clear line."""


class NonFiniteError(RuntimeError):
    """Training ran into NaN or infinite parameters; the last good checkpoint is kept."""


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file, whole or not at all."""
    write_whole(path, lambda file: np.savez(file, **arrays))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(_without_nonfinite(content), indent=2, allow_nan=False) + "\n")


def _without_nonfinite(content: Any) -> Any:
    """NaN and infinities as null, which JSON has a word for."""
    if isinstance(content, dict):
        return {key: _without_nonfinite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nonfinite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an .npz file.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, *DAMAGED_ARRAYS) as error:
        raise WorkdirError(f"{path} cannot be read ({error}).") from None


def read_json(path: pathlib.Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a JSON file that holds an object with `keys`.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path} cannot be read ({error}); {_advice(path)}.") from None
    if not isinstance(content, dict) or not all(key in content for key in keys):
        raise WorkdirError(f"{path} is not what this program wrote; {_advice(path)}.")
    return content


def _advice(path: pathlib.Path) -> str:
    if path.name == "config.json":
        return (
            "its checkpoints are of use only with the one that belongs to them: restore it, or put "
            "there the config.json of a run started with the same flags in another folder"
        )
    return "move it away to go on"


def read_report(path: pathlib.Path) -> dict[str, Any]:
    """Reads a report.json; those of earlier versions come out as if written by this one.

    Raises:
      WorkdirError: if it is missing or damaged.
    """
    content = read_json(path, REPORT_KEYS)
    for name, settings in (("training", Training), ("evaluation", Evaluation)):
        content["config"][name] = _added_later(settings) | content["config"][name]
    return content


def config_differences(folder: pathlib.Path, training: Training) -> list[str]:
    """How a folder's run differs from `training`; a run may be extended by later stages.

    Raises:
      WorkdirError: if its config.json is missing or damaged.
    """
    stored = read_json(folder / "config.json", _CONFIG_KEYS)
    there = _added_later(Training) | stored["training"]
    return [
        f"--{FLAGS_OF.get(name, name)}={there.get(name)} there, {value} here"
        for name, value in dataclasses.asdict(training).items()
        if there.get(name) != value
        and not (name == "num_stages" and there.get(name, 0) <= value and training.epochs is None)
    ]


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What the report says of the data; the checksum is of the arrays themselves."""
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.test):
        digest.update(images.tobytes())
    return {
        "title": dataset.title,
        "source": dataset.source,
        "is_stand_in": dataset.is_stand_in,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "sha256": digest.hexdigest(),
    }


def make_folder(folder: pathlib.Path, flag: str) -> None:
    """Makes a folder for results, before they are worked for.

    Raises:
      WorkdirError: if that is impossible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(
            f"{flag}: {folder} cannot be made a folder ({error.strerror})."
        ) from None


def is_in_use(folder: pathlib.Path) -> bool:
    """Whether a process is at work in a run's folder."""
    if not (folder / ".lock").exists():
        return False
    with (folder / ".lock").open(
        "r", encoding="utf-8"
    ) as lock:  # shared, for which reading is enough on NFS
        return not take_lock(lock, fcntl.LOCK_SH)


def take_lock(lock: IO, kind: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock on an open file; False if another process has it.

    Raises:
      OSError: from a file system that has no locks.
    """
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def claim(config: Config, dataset: Dataset) -> Iterator[pathlib.Path]:
    """Opens the work folder for writing, new or to be continued, and keeps others out meanwhile.

    Raises:
      WorkdirError: if it holds something else, another configuration or other data, or if another
        process is at work there. Nothing in it has been changed then.
    """
    folder = pathlib.Path(config.workdir).expanduser().absolute()
    with contextlib.ExitStack() as stack:

        def open_folder():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if any(folder.iterdir()) and not (folder / "config.json").exists():
                    _refuse_unless_only_a_lock(folder)
            except OSError as error:
                raise WorkdirError(
                    f"--workdir={config.workdir} cannot be used ({error})."
                ) from None
            stack.enter_context(locked(folder))
            _check_or_write_config(folder, config, describe_data(dataset))

        processes.on_primary(open_folder)
        yield folder


@contextlib.contextmanager
def claim_evaluation(folder: pathlib.Path) -> Iterator[None]:
    """Keeps a second evaluation out of the folder of a run, which itself may be at work there.

    Raises:
      WorkdirError: as `locked`.
    """
    with contextlib.ExitStack() as stack:
        processes.on_primary(
            lambda: stack.enter_context(locked(folder, ".evaluation.lock", "being evaluated"))
        )
        yield


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = ".lock", how: str = "in use") -> Iterator[None]:
    """Keeps others who ask for the same lock out.

    Raises:
      WorkdirError: if somebody has it, or the folder cannot be written to.
    """
    try:
        lock = (folder / name).open("w", encoding="utf-8")
    except OSError as error:
        raise WorkdirError(f"--workdir={folder} cannot be used ({error}).") from None
    with lock:
        for _ in range(_NUM_LOCK_TRIES):  # somebody may only be asking whether it is in use
            try:
                is_taken = not take_lock(lock)
            except OSError as error:
                raise WorkdirError(
                    f"--workdir={folder} is on a disk that locks no files ({error.strerror}); use "
                    "another one."
                ) from None
            if not is_taken:
                break
            time.sleep(0.1)
        else:
            raise WorkdirError(f"--workdir={folder} is {how} by another process.")
        yield


def _refuse_unless_only_a_lock(folder: pathlib.Path) -> None:
    if any(path.name != ".lock" for path in folder.iterdir()):
        raise WorkdirError(
            f"--workdir={folder} is not empty and holds no run of this program; "
            "name another folder."
        )


def _check_or_write_config(
    folder: pathlib.Path, config: Config, data_facts: dict[str, Any]
) -> None:
    if (folder / "config.json").exists():
        stored = read_json(folder / "config.json", _CONFIG_KEYS)
        differences = config_differences(folder, config.training)
        if stored["data"]["sha256"] != data_facts["sha256"]:
            differences.append(f"data: {stored['data']['title']} of another content")
        if differences:
            raise WorkdirError(
                f"--workdir={folder} holds a run of another configuration "
                f"({'; '.join(differences)}); name another folder."
            )
    write_json(
        folder / "config.json",
        {
            "training": dataclasses.asdict(config.training),
            "data": data_facts,
            "data_dir": str(pathlib.Path(config.data_dir).expanduser().absolute())
            if config.data_dir
            else None,
        },
    )


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
    stored = read_json(path / "config.json", _CONFIG_KEYS)
    try:
        training = Training(**stored["training"])
    except TypeError as error:
        raise WorkdirError(f"{path / 'config.json'} is of another version ({error}).") from None
    return path, training, stored
