"""Signals that end a run: noted when they come, acted on where everything can be saved."""

import signal
import threading
from typing import Any

from aiwae_jax.parallel import processes


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """SIGINT, SIGTERM or SIGHUP arrived and everything worth keeping has been saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """Notes SIGINT, SIGTERM and SIGHUP, for loops to look at; a second one acts at once, as usual.

    Signals that are ignored stay so: SIGHUP under nohup, SIGINT in a script's background.
    """

    def __init__(self):
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def of_any_process(self) -> int | None:
        """The signal that this or another process of the run has got; all must ask together."""
        return processes.largest(self.signal_number or 0) or None

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self  # signals are none of its business
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: of no Python
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number, _frame) -> None:
        self.signal_number = number
        self._restore()
