"""What is told while a run trains, and to whom: the run's own writers, and callbacks of yours."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where a run is: plain numbers, and the weights for whoever asks.

    Attributes:
      step: steps done.
      total_steps: steps of the whole run.
      epoch: passes over the data that the steps are.
      metrics: name -> number, or list of numbers, as metrics.jsonl names them; NaN where there is
        none. In the middle of an epoch averages since it began; at the start of a run none.
      folder: of the run, or of one of its repeats.
      repeat: which of several seeds that are trained side by side; None of one alone.
      rows_per_second: of the chunk of steps that has just been made; 0 before the first.
    """

    step: int
    total_steps: int
    epoch: float
    metrics: Mapping[str, Any]
    folder: pathlib.Path
    repeat: int | None = None
    rows_per_second: float = 0.0
    run_fn: Callable[[], Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def run(self) -> Any:
        """The model with a copy of the weights as they are now, a `train.Trained`.

        To be called while the callback is told: the next steps take the weights' memory.

        Raises:
          RuntimeError: if they have.
        """
        if self.run_fn is None:
            raise RuntimeError("`run` is of moments of a training, and this is none.")
        return self.run_fn()


class Callback:
    """Is told how a training goes; each method does nothing until it is overridden.

    All are called by process 0 alone, between two chunks of steps, and the training waits for them.
    Where several are due they come in the order of `on_report`, `on_epoch`, `on_chunk`, after the
    run's own files have been written; of several seeds, seed by seed.
    """

    def on_start(self, moment: Moment) -> None:
        """Training begins, or goes on, after `moment.step` steps.

        What was told of later steps, before the process was killed, is told again: forget it here.
        """

    def on_chunk(self, moment: Moment) -> None:
        """Some steps are done, about a second of them."""

    def on_epoch(self, moment: Moment) -> None:
        """An epoch or a leg is at its end, or a last look has been made at rows held out."""

    def on_report(self, moment: Moment) -> None:
        """Held-out rows were looked at, or a report was written; `metrics` says what was found."""

    def close(self) -> None:
        """Training ends, is interrupted, or has failed."""


def check(callbacks: Iterable[Any]) -> tuple[Callback, ...]:
    """The callbacks as a tuple.

    Raises:
      TypeError: for what is none.
    """
    if isinstance(callbacks, Callback):
        raise TypeError("`callbacks` must be a list of callbacks, got one; put it into brackets.")
    for i, each in enumerate(callbacks := tuple(callbacks)):
        if not isinstance(each, Callback):
            is_class = isinstance(each, type) and issubclass(each, Callback)
            found = f"the class {each.__name__}; call it" if is_class else type(each).__name__
            raise TypeError(f"`callbacks[{i}]` must be a `train.Callback`, got {found}.")
    return callbacks


def numbers_of(content: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by themselves of what a report says."""
    is_number = {name: type(value) in (int, float) for name, value in content.items()}
    return {name: value for name, value in content.items() if is_number[name]}


def plain(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as numbers and lists of Python's own."""
    return {name: np.asarray(value).tolist() for name, value in columns.items()}
