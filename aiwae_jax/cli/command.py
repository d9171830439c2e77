"""Exit codes, errors of one line and interruption, for every command."""

import errno
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence

import jax

from aiwae_jax import data
from aiwae_jax.cli import devices, sources, start, streams
from aiwae_jax.cli.flags import UsageError, in_flags
from aiwae_jax.parallel import processes
from aiwae_jax.runs import checkpoint, extras, files
from aiwae_jax.runs.interruption import Interrupted
from aiwae_jax.train.trainer import NonFiniteError

# Full, read-only or broken: nothing that the program could mend, and nothing that is lost.
_OF_THE_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
)


def _print_warning(message, *_args, **_kwargs) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _say_no_more() -> None:
    """Threads and exit hooks of libraries will fail at the same broken disk; once is enough."""
    sys.unraisablehook = threading.excepthook = lambda *_: None


def _drop_late_callbacks(unraisable) -> None:
    """Drops what storage threads tell an event loop that a damaged file has ended."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


# Arguments of the library, as the flags that gave them.
_FLAGS = {"folder": "workdir", "batch_size": "batch_size", "data_dir": "data_dir", **sources.FLAGS}


def exit_codes(
    main: Callable[[Sequence[str]], None] | None = None, *, names: Mapping[str, str] = _FLAGS
) -> Callable:
    """Decorates `main(argv)`, so that it returns an exit code: 2 and a line for a user's mistake.

    0 means that the work is done and on the disk, also if nobody read to the end what was printed
    of it (`| head -1`); 1 that it could not be done, or its output not be printed; 128 + n that
    signal n ended it, after it had saved itself.

    Args:
      main: the command.
      names: argument of the library -> flag that gave it.
    """
    if main is None:
        return functools.partial(exit_codes, names=names)

    @functools.wraps(main)
    def wrapped(argv: Sequence[str]) -> int:
        streams.open_closed()
        with start.at_work(), streams.patient() as lost:
            code = _run(main, argv, names)
            reason = lost()
            if code == 0 and reason is not None:
                print(
                    f"error: stdout: {reason}; what belongs on the disk is there.", file=sys.stderr
                )
                return 1
            return code

    return wrapped


def _with_flags(error: Exception, names: Mapping[str, str]) -> str:
    """Names flags where an error speaks of arguments, and not of what a file says."""
    return in_flags(str(error), names) if str(error).startswith("`") else str(error)


def _run(
    main: Callable[[Sequence[str]], None], argv: Sequence[str], names: Mapping[str, str]
) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            # Orbax's threads may have a word on an error after it has been raised.
            for name in checkpoint.NARRATORS:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            sys.unraisablehook = _drop_late_callbacks
            devices.configure()
            main(argv)
    except (UsageError, data.DataError, files.WorkdirError, extras.MissingError) as error:
        print(f"error: {_with_flags(error, names)}", file=sys.stderr)
        return 2
    except (
        checkpoint.CheckpointError,
        NonFiniteError,
        files.RefusedError,
        processes.OtherProcessError,
    ) as error:
        _say_no_more()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    except KeyboardInterrupt:
        print("Interrupted; what was saved before stays as it is.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, TypeError | ValueError) and str(error).startswith("`"):  # an argument
            print(f"error: {in_flags(str(error), names)}", file=sys.stderr)
            return 2
        code, line = _of_the_machine(error)
        if line is None:
            raise
        _say_no_more()
        print(f"error: {line}", file=sys.stderr)
        return code
    return 0


def _of_the_machine(error: Exception) -> tuple[int, str | None]:
    """Exit code and line for an error that is no fault of the program's, or (1, None)."""
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        place = f": {error.filename}" if error.filename else ""
        return 1, (
            f"{error.strerror}{place}. What was saved before is intact; start the same command "
            "again when that is mended."
        )
    if isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    ):
        reason = str(error).splitlines()[0] if str(error) else "no memory left"
        return 1, (
            f"{reason}. --dry_run says what a run needs; --particle_chunk, fewer particles or a "
            "smaller batch need less."
        )
    if isinstance(error, ModuleNotFoundError):
        return 2, start.missing_package(error)
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return 2, "the current folder has been deleted; change to another one."
    return 2, devices.why_none()


def _has_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
