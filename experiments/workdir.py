"""The folder of a run: whose it is, its configuration, and whether it is still there."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from aiwae_jax import networks, processes
from aiwae_jax.data import Dataset
from experiments import contents, pictures
from experiments.files import WorkdirError as WorkdirError
from experiments.files import check_file, check_folder, write_json
from experiments.files import make_folder as make_folder
from experiments.files import read_arrays as read_arrays
from experiments.files import write_text as write_text
from experiments.flags import FLAGS_OF, Config, Training

_NUM_LOCK_TRIES = 3
# What a run writes, and each of its repeats.
_FOLDERS = ("checkpoints", "tensorboard", *(f"evaluation-{name}" for name in networks.PRECISIONS))
_FILES = (
    *("config.json", "metrics.jsonl", "report.json", "evaluation.npz", "report.html"),
    *("summary.json", *pictures.NAMES, ".lock", ".evaluation.lock"),
)


class NonFiniteError(RuntimeError):
    """Training ran into NaN or infinite parameters; the last good checkpoint is kept."""


def config_differences(folder: pathlib.Path, training: Training) -> list[str]:
    """How a folder's run differs from `training`; a run may be extended by later stages.

    Raises:
      WorkdirError: if its config.json is missing or damaged.
    """
    there = contents.read_config(folder)["training"]
    here = dataclasses.asdict(training)
    found = [
        f"--{FLAGS_OF.get(name, name)}={there[name]} there, {value} here"
        for name, value in here.items()
        if there[name] != value
        and not (name == "num_stages" and there[name] <= value and training.epochs is None)
    ]
    unknown = [f"{name}={there[name]} there, unknown here" for name in there if name not in here]
    return found + unknown


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


def absolute(data_dir: str | None) -> str | None:
    """The folder of the data from wherever a command is started."""
    return str(pathlib.Path(data_dir).expanduser().absolute()) if data_dir else None


def check_kinds(folder: pathlib.Path) -> None:
    """Finds, before the work, files where a run's folders are to be, and the reverse.

    Raises:
      WorkdirError: for the first one.
    """
    for place in (folder, *sorted(folder.glob("repeat_*"))):
        check_folder(place)
        for name in _FOLDERS:
            check_folder(place / name)
        for name in _FILES:
            check_file(place / name)
    for path in (folder / "checkpoints").glob("[0-9]*"):
        check_folder(path)


def is_in_use(folder: pathlib.Path) -> bool:
    """Whether a process is at work in a run's folder."""
    check_file(folder / ".lock")
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


class Claim(NamedTuple):
    """A run's folder that this process alone writes to.

    Attributes:
      folder: of the run.
      lock: the open file that keeps others out; None in processes other than process 0.
    """

    folder: pathlib.Path
    lock: IO | None

    def check(self) -> None:
        """Finds that the folder was deleted or moved, before it would be made again.

        All processes of a run must call it together.

        Raises:
          WorkdirError: if it is not what was claimed.
        """
        processes.on_primary(self._check)

    def _check(self) -> None:
        path = pathlib.Path(self.lock.name)
        try:
            is_taken = not os.path.samestat(path.stat(), os.fstat(self.lock.fileno()))
        except FileNotFoundError:
            is_taken = False  # the configuration says whether the folder is gone
        if is_taken or not (self.folder / "config.json").is_file():
            raise WorkdirError(
                f"{self.folder} is gone: it, or its config.json, was deleted or moved while this "
                "process was at work in it. Nothing more is written there; what it held is where "
                "it was moved to, if it was."
            )


@contextlib.contextmanager
def claim(config: Config, dataset: Dataset) -> Iterator[Claim]:
    """Opens the work folder for writing, new or to be continued, and keeps others out meanwhile.

    Raises:
      WorkdirError: if it holds something else, another configuration or other data, or if another
        process is at work there. Nothing in it has been changed then.
    """
    folder = pathlib.Path(config.workdir).expanduser().absolute()
    with contextlib.ExitStack() as stack:

        def open_folder():
            try:
                check_kinds(folder)
            except WorkdirError as error:
                raise WorkdirError(f"--workdir={config.workdir} cannot be used: {error}") from None
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if any(folder.iterdir()) and not (folder / "config.json").exists():
                    _refuse_unless_only_a_lock(folder)
            except OSError as error:
                raise WorkdirError(
                    f"--workdir={config.workdir} cannot be used ({error})."
                ) from None
            lock = stack.enter_context(locked(folder))
            _check_or_write_config(folder, config, describe_data(dataset))
            return lock

        yield Claim(folder, processes.on_primary(open_folder))


@contextlib.contextmanager
def claim_evaluation(folder: pathlib.Path) -> Iterator[Claim]:
    """Keeps a second evaluation out of the folder of a run, which itself may be at work there.

    Raises:
      WorkdirError: as `locked`.
    """
    with contextlib.ExitStack() as stack:
        lock = processes.on_primary(
            lambda: stack.enter_context(locked(folder, ".evaluation.lock", "being evaluated"))
        )
        yield Claim(folder, lock)


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = ".lock", how: str = "in use") -> Iterator[IO]:
    """Keeps others who ask for the same lock out; yields the file that is locked.

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
        yield lock


def _refuse_unless_only_a_lock(folder: pathlib.Path) -> None:
    if (folder / "checkpoints").exists():
        raise WorkdirError(
            f"--workdir={folder} has checkpoints, but its config.json is missing: restore it, or "
            "name another folder."
        )
    if any(path.name != ".lock" for path in folder.iterdir()):
        raise WorkdirError(
            f"--workdir={folder} is not empty and holds no run of this program; "
            "name another folder."
        )


def _check_or_write_config(
    folder: pathlib.Path, config: Config, data_facts: dict[str, Any]
) -> None:
    if (folder / "config.json").exists():
        stored = contents.read_config(folder)
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
            "data_dir": absolute(config.data_dir),
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
    check_kinds(path)
    stored = contents.read_config(path)
    return path, contents.settings_of(path, stored), stored
