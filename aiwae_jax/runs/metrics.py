"""Metrics of a run: lines of metrics.jsonl and, where tensorboardX is there, a TensorBoard file.

Both are written by callbacks, which every run has.
"""

import json
import os
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiwae_jax.runs.callbacks import Callback, Moment
from aiwae_jax.types import ChainInfo, Info

_EVENT_FILES = "events.out.tfevents.*"


def columns(averages: Mapping[str, Info], phases: Sequence[str]) -> dict[str, Any]:
    """Columns of a record: of each phase, in their order, its info and the βs of its chains."""
    found = {}
    for phase in phases:
        info = averages[phase]
        betas = {f"betas{end}": c.betas for end, c in info.chains().items() if c.betas is not None}
        found |= {f"{phase}/{name}": value for name, value in sorted({**info, **betas}.items())}
    return found


def chains(record: Mapping[str, Any]) -> dict[str, ChainInfo]:
    """Inverts `columns` for the moves of chains, by phase and the end of their columns' names.

    Lists, with None for what was not finite. Earlier versions noted no `betas`.
    """
    found = {}
    for column, acceptance in record.items():
        phase, is_there, end = column.partition("/acceptance")
        if is_there and isinstance(acceptance, list) and acceptance:
            others = [record.get(f"{phase}/{name}{end}") for name in ("step_sizes", "betas")]
            fitting = (o if np.shape(o) == np.shape(acceptance) else None for o in others)
            found[f"{phase}{end}"] = ChainInfo(acceptance, *fitting)
    return found


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them; NaN and infinities are null."""
    value = np.asarray(value)
    if value.ndim > 0:
        return [_plain(element) for element in value.ravel()]
    return value.item() if np.isfinite(value) else None


def _record(moment: Moment) -> dict[str, Any]:
    """Scalars and short vectors of a moment, as a line of the file has them."""
    values = {name: _plain(value) for name, value in moment.metrics.items()}
    return {"step": moment.step} | values


class JsonLines(Callback):
    """metrics.jsonl: a line for each epoch; what came after the step of a start is dropped."""

    def __init__(self, folder: str | os.PathLike):
        """Writes nothing before a start.

        Args:
          folder: of the run.
        """
        self._folder, self._file = pathlib.Path(folder), None

    def on_start(self, moment: Moment) -> None:
        """Keeps what is of the steps that are done."""
        path = self._folder / "metrics.jsonl"
        kept = [record for record in read(self._folder) if record["step"] <= moment.step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if not path.exists() or path.read_bytes() != text.encode():
            temporary = path.with_suffix(".jsonl.part")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        self._file = path.open("a", encoding="utf-8")

    def on_epoch(self, moment: Moment) -> None:
        """Writes a line."""
        self._file.write(json.dumps(_record(moment)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


class TensorBoard(Callback):
    """One TensorBoard file of what is in metrics.jsonl, made anew of it at each start.

    A second file beside the first would show points twice. A record is on the disk when `on_epoch`
    returns; tensorboardX's own `SummaryWriter` hands it to a thread, and a kill costs it. Without
    tensorboardX it writes nothing.
    """

    def __init__(self, folder: str | os.PathLike):
        """Writes nothing before a start.

        Args:
          folder: of the run, whose metrics.jsonl a `JsonLines` before this one writes.
        """
        self._folder, self._writer = pathlib.Path(folder), None

    def on_start(self, moment: Moment) -> None:
        """Writes what metrics.jsonl has."""
        try:
            from tensorboardX import event_file_writer
        except ImportError:
            return
        from tensorboardX.proto import event_pb2

        folder = self._folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        for path in folder.glob(_EVENT_FILES):
            path.unlink()
        self._writer = event_file_writer.EventsWriter(str(folder / "events"))
        # A TensorBoard that is looking on forgets what it has read.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=0, session_log=start))
        for record in read(self._folder):
            self._add(record)
        self._writer.flush()

    def _add(self, record: dict[str, Any]) -> None:
        from tensorboardX import summary
        from tensorboardX.proto import event_pb2, summary_pb2

        found = summary_pb2.Summary()
        for name, value in record.items():
            if name == "step" or "/betas" in name:  # the latter never change
                continue
            is_vector = isinstance(value, list)
            for i, element in enumerate(value if is_vector else [value]):
                if element is not None:
                    tag = f"{name}/{i + 1}" if is_vector else name
                    found.value.extend(summary.scalar(tag, element).value)
        event = event_pb2.Event(wall_time=time.time(), step=record["step"], summary=found)
        self._writer.write_event(event)

    def on_epoch(self, moment: Moment) -> None:
        """Adds points."""
        if self._writer is not None:
            self._add(_record(moment))
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_record(content: Any) -> bool:
    """Whether `JsonLines` writes such content."""
    return (
        isinstance(content, dict)
        and type(content.get("step")) is int
        and all(
            all(map(_is_number, value)) if isinstance(value, list) else _is_number(value)
            for value in content.values()
        )
    )


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """All records of a run's metrics.jsonl; a last line that a crash cut short is left out.

    Whatever else is no record is left out with a warning.
    """
    path = pathlib.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    records, broken = [], []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            content = json.loads(line)
        except (RecursionError, ValueError):
            content = None
        if _is_record(content):
            records.append(content)
        elif number <= text.count("\n"):
            broken.append(number)
    if broken:
        warnings.warn(
            f"{path}: {len(broken)} of its lines are no records of metrics and were left out, the "
            f"first of them line {broken[0]}.",
            stacklevel=2,
        )
    return records
