"""The folder of a run: whose it is, its configuration, and whether it is still there."""

import contextlib
import fcntl
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from aiwae_jax import networks
from aiwae_jax.parallel import processes
from aiwae_jax.runs.files import WorkdirError, check_file, check_folder, write_json

_NUM_LOCK_TRIES = 3
PICTURES = ("samples.png", "reconstructions.png", "learning_curves.png", "acceptance.png")
COMMAND = "command.txt"  # the one of `aiwae fit` that ended the training
# What a run writes, and each of its repeats.
_FOLDERS = ("checkpoints", "tensorboard", *(f"evaluation-{name}" for name in networks.PRECISIONS))
_FILES = (
    *("config.json", "metrics.jsonl", "report.json", "evaluation.npz", "report.html"),
    *(
        "per_datum.csv",
        "per_datum.parquet",
        "summary.json",
        *PICTURES,
        "certificate.json",
        "looks.json",
        COMMAND,
        ".lock",
        ".evaluation.lock",
    ),
)


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
def claim(
    folder: str | os.PathLike,
    config: dict[str, Any],
    check_fn: Callable[[pathlib.Path], None],
) -> Iterator[Claim]:
    """Opens a folder for a run, new or to be continued, and keeps others out meanwhile.

    Args:
      folder: of the run.
      config: what its config.json is to hold.
      check_fn: raises WorkdirError where the config.json that is there is of another run.

    Raises:
      WorkdirError: if it holds something else, another configuration or other data, or if another
        process is at work there. Nothing in it has been changed then.
    """
    path = pathlib.Path(folder).expanduser().absolute()
    with contextlib.ExitStack() as stack:

        def open_folder():
            try:
                check_kinds(path)
            except WorkdirError as error:
                raise WorkdirError(f"`folder`={folder} cannot be used: {error}") from None
            try:
                path.mkdir(parents=True, exist_ok=True)
                if any(path.iterdir()) and not (path / "config.json").exists():
                    _refuse_unless_only_a_lock(path)
            except OSError as error:
                raise WorkdirError(f"`folder`={folder} cannot be used ({error}).") from None
            lock = stack.enter_context(locked(path))
            if (path / "config.json").exists():
                check_fn(path)
            write_json(path / "config.json", config)
            return lock

        yield Claim(path, processes.on_primary(open_folder))


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
        raise WorkdirError(f"`folder`={folder} cannot be used ({error}).") from None
    with lock:
        for _ in range(_NUM_LOCK_TRIES):  # somebody may only be asking whether it is in use
            try:
                is_taken = not take_lock(lock)
            except OSError as error:
                raise WorkdirError(
                    f"`folder`={folder} is on a disk that locks no files ({error.strerror}); use "
                    "another one."
                ) from None
            if not is_taken:
                break
            time.sleep(0.1)
        else:
            raise WorkdirError(f"`folder`={folder} is {how} by another process.")
        yield lock


def _refuse_unless_only_a_lock(folder: pathlib.Path) -> None:
    if (folder / "checkpoints").exists():
        raise WorkdirError(
            f"`folder`={folder} has checkpoints, but its config.json is missing: restore it, or "
            "name another folder."
        )
    if any(path.name != ".lock" for path in folder.iterdir()):
        raise WorkdirError(
            f"`folder`={folder} is not empty and holds no run of this program; name another folder."
        )
