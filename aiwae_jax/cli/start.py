"""The first seconds of a command, while libraries are loaded and nothing is at stake yet."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

from aiwae_jax.cli import streams


def begin() -> None:
    """Opens closed streams, and makes a Ctrl-C and a bad environment one line each."""
    streams.open_closed()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, _leave)
    sys.excepthook = _say
    if os.environ.get("XLA_FLAGS"):
        _try_xla_flags()


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Within, Ctrl-C is Python's KeyboardInterrupt; before and after, nothing is left to save."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.excepthook = sys.__excepthook__
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, _frame) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(128 + number)


def _say(kind: type[BaseException], error: BaseException, trace) -> None:
    """An error of loading: what the environment has wrong in one line, all else as usual."""
    line = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
    if isinstance(error, ValueError):  # JAX reads its variables as it is imported
        words = str(error).lower()
        names = (n for n in os.environ if n.startswith(("JAX_", "XLA_")) and n.lower() in words)
        line = next((f"{name}={os.environ[name]}: {error}." for name in names), None)
    if line is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def _try_xla_flags() -> None:
    """Tries them in another process, for XLA ends the one in which it dislikes some."""
    code = "from jaxlib import xla_client; xla_client.CompileOptions()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    reason = re.match(r"[EF]\d{4} [^]\n]*\] (.*)", found.stderr)  # pages of usage may follow
    if found.returncode and reason:
        print(f"error: XLA_FLAGS={os.environ['XLA_FLAGS']}: {reason[1]}", file=sys.stderr)
        sys.exit(2)


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Says which of others' packages is not installed; None for a module of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "aiwae_jax", "experiments"):
        return None
    return f"the package {package} is not installed; pip install -e '.[run]' brings what is needed."
