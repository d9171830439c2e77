"""Standard streams that lose no work: closed, full, unread, or of a terminal of few signs."""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator

_READER_IS_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
_IN_ASCII = {
    **{"≥": ">=", "≤": "<=", "±": "+-", "×": "x", "·": "*", "→": "->", "∇": "grad ", "²": "^2"},
    **{"α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "θ": "theta", "μ": "mu"},
    **{"σ": "sigma", "φ": "phi", "ψ": "psi", "∂": "d", "√": "sqrt ", "½": "1/2", "∞": "inf"},
    **{"…": "~", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"'},
}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """An error handler of encodings: signs that are not to be had, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    found = (_IN_ASCII.get(s) or s.encode("ascii", "backslashreplace").decode() for s in signs)
    return "".join(found), error.end


codecs.register_error("in_ascii", _spell)


def open_closed() -> None:
    """Opens what the caller has closed (`>&-`) on the null device.

    Else the next file to be opened would get the number of a standard stream, and what libraries
    have to say would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


class _Patient(io.FileIO):
    """Writes as long as that is possible, and then nowhere; `failure` says why."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, content) -> int:
        try:
            while (num_written := super().write(content)) is None:  # somebody made it non-blocking
                select.select([], [self], [])
            return num_written
        except OSError as error:
            self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # for libraries and child processes too
            os.close(null)
            return memoryview(content).nbytes


@contextlib.contextmanager
def patient() -> Iterator[Callable[[], str | None]]:
    """Stdout and stderr that raise nothing, whatever becomes of them.

    What somebody else has put in their place (a notebook, a test) is left alone.

    Yields:
      Why what was printed has been lost, or None; a reader that has gone had enough, and lost
      nothing.
    """
    replaced = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper) or stream is not getattr(sys, f"__{name}__"):
            continue
        with contextlib.suppress(OSError):
            stream.flush()
        raw = _Patient(stream.fileno())
        ours = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors="in_ascii",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, ours)
        replaced[name] = stream, ours, raw

    def lost() -> str | None:
        _, ours, raw = replaced.get("stdout", (None, None, None))
        if ours is None:
            return None
        ours.flush()
        is_lost = raw.failure is not None and raw.failure.errno not in _READER_IS_GONE
        return raw.failure.strerror if is_lost else None

    try:
        yield lost
    finally:
        for name, (stream, ours, _) in replaced.items():
            ours.flush()
            if getattr(sys, name) is ours:
                setattr(sys, name, stream)
