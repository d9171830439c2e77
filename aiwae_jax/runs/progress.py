"""Progress of long work: a bar in a terminal, a line now and then elsewhere."""

import contextlib
import contextvars
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax.parallel import processes
from aiwae_jax.runs.callbacks import Callback, Moment

_SECONDS_BETWEEN_LINES = 30.0


_is_silent: contextvars.ContextVar[bool] = contextvars.ContextVar("is_silent", default=False)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Within, no progress is shown."""
    token = _is_silent.set(True)
    try:
        yield
    finally:
        _is_silent.reset(token)


def format_seconds(seconds: float) -> str:
    """12 -> '12s', 754 -> '12m34s', 7500 -> '2h05m'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def _bar(title: str) -> Any:
    """A bar of one line; in a narrow terminal the facts are cut at their end, nothing else."""
    import rich.console
    import rich.progress
    import rich.table

    name = rich.table.Column(no_wrap=True, min_width=len(title))
    percentage = rich.table.Column(no_wrap=True, min_width=4)
    facts = rich.table.Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", table_column=name),
        rich.progress.TextColumn("{task.percentage:3.0f}%", table_column=percentage),
        rich.progress.BarColumn(bar_width=8),
        rich.progress.TextColumn("{task.fields[facts]}", table_column=facts),
        console=rich.console.Console(stderr=True),
        expand=True,
    )


class Progress:
    """Shows how far `total` units of work are, with a line of facts and the time left.

    The time left is the average pace since the first update, which has all the compilation.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total = title, total
        self._began = self._last_line = time.monotonic()
        self._first: tuple[float, int] | None = None  # time and units of the first update
        self._bar = None
        self._is_shown = processes.is_primary() and not _is_silent.get()
        if self._is_shown and sys.stderr.isatty():
            self._bar = _bar(title)
            self._task = self._bar.add_task(title, total=total, completed=done, facts="compiling")
            self._bar.start()

    def update(self, done: int, facts: str = "") -> None:
        """Moves to `done` units."""
        if not self._is_shown:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        seconds, num = now - self._first[0], done - self._first[1]
        # The first pieces are small, and slow.
        pace = num / max(seconds, 1e-9) if num >= 0.01 * self._total or seconds > 10.0 else 0.0
        text = ""  # the time comes first: a narrow terminal cuts off what comes last
        if done >= self._total:
            text = f"took {format_seconds(now - self._began)}"
        elif pace > 0:
            text = f"{format_seconds((self._total - done) / pace)} left"
        text = "  ".join(part for part in (text, facts) if part)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, facts=text)
        elif now - self._last_line > _SECONDS_BETWEEN_LINES or done >= self._total:
            self._last_line = now
            print(f"{self._title} {100 * done / self._total:3.0f}%  {text}", file=sys.stderr)

    def close(self) -> None:
        """Ends the bar's line; of a bar that was never moved nothing is left."""
        if self._bar is not None:
            self._bar.live.transient = self._first is None
            self._bar.stop()


_BOUND = ("log_likelihood_bound", "log p(x) ≥", 2)
_FACTS = (
    ("acceptance", "accept", 3),
    ("step_sizes", "step", 3),
)


class OfTraining(Callback):
    """The bar of a training: the facts of the first phase that has them, the newest validation.

    What is climbed is told where nothing bounds log p(x): beside a bound nobody could say what it
    is.
    """

    def __init__(self):
        self._bar, self._bound = None, None

    def on_start(self, moment: Moment) -> None:
        """Begins the bar."""
        self._bar = Progress("training", moment.total_steps, moment.step)

    def on_report(self, moment: Moment) -> None:
        """Remembers the validation."""
        self._bound = np.mean(moment.metrics["validation/bound"])

    def on_chunk(self, moment: Moment) -> None:
        """Moves the bar."""
        parts = [f"epoch {moment.epoch:.4g}"]
        has_bound = any(name.endswith(f"/{_BOUND[0]}") for name in moment.metrics)
        climbed = _BOUND if has_bound else ("objective", "objective", 2)
        for name, label, digits in (climbed, *_FACTS):
            found = [v for n, v in moment.metrics.items() if n.partition("/")[2] == name]
            if found:
                parts.append(f"{label} {np.mean(found[0]):.{digits}f}")
        if self._bound is not None:
            parts.append(f"validation ≥ {self._bound:.2f}")
        self._bar.update(moment.step, "  ".join([*parts, f"{moment.rows_per_second:,.0f} rows/s"]))

    def say(self, step: int, words: str) -> None:
        """Shows what is done in between, and takes its time."""
        if self._bar is not None:
            self._bar.update(step, words)

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar is not None:
            self._bar.close()


class Titled(NamedTuple):
    """A `progress_fn`, of (done, total), and that of the pilots before what it is for."""

    update: Callable[[int, int], None]
    while_tuning: Callable[[int, int], None]

    def __call__(self, done: int, total: int) -> None:
        """Shows how much is done."""
        self.update(done, total)


class Stages:
    """Bars of works that follow one another, each of so many of its own units.

    A bar begins when its work does, for the first thing that this does is to compile.

    Args:
      seconds_unseen: in which nothing is shown yet, of work that is mostly short.
    """

    _STEPS = 1000

    def __init__(self, seconds_unseen: float = 0.0):
        self._shown_from = time.monotonic() + seconds_unseen
        self._lock = threading.RLock()
        self._bar: Progress | None = None
        self._timer: threading.Timer | None = None
        self._title, self._done = "", 0

    def begin(self, title: str) -> None:
        """Shows another work, of which nothing is done yet."""
        with self._lock:
            self.close()
            self._title, self._done = title, 0
            wait = self._shown_from - time.monotonic()
            if wait <= 0.0:
                self._show()
                return
            in_context = contextvars.copy_context().run  # which knows whether it is to be silent
            self._timer = threading.Timer(wait, in_context, [self._show_late])
            self._timer.daemon = True
            self._timer.start()

    def _show(self) -> None:
        if self._bar is None:
            self._bar = Progress(self._title, self._STEPS)

    def _show_late(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():  # and no other work has begun
                self._show()

    def update(self, title: str, done: int, total: int) -> None:
        """Shows `done` of `total` units; another title or a smaller number begins a new bar."""
        with self._lock:
            if title != self._title or done < self._done:
                self.begin(title)
            self._done = done
            if time.monotonic() >= self._shown_from:
                self._show()
            if self._bar is not None:
                self._bar.update(done * self._STEPS // max(total, 1))

    def titled(self, title: str) -> Titled:
        """Begins a work of this name, and says by what it tells its progress."""
        self.begin(title)
        return Titled(
            functools.partial(self.update, title), functools.partial(self.update, "tuning")
        )

    def close(self) -> None:
        """Ends the last bar."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
