"""Metrics of a run: lines of metrics.jsonl and, where tensorboardX is there, TensorBoard files."""

import json
import os
import pathlib
from typing import Any

import numpy as np


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them; NaN and infinities are null."""
    value = np.asarray(value)
    if value.ndim > 0:
        return [_plain(element) for element in value.ravel()]
    return value.item() if np.isfinite(value) else None


class MetricsWriter:
    """Appends records; reopened at an earlier step it first drops what came after it."""

    def __init__(self, workdir: str | os.PathLike, *, resume_step: int = 0):
        self._path = pathlib.Path(workdir) / "metrics.jsonl"
        kept = [record for record in read(workdir) if record["step"] <= resume_step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if not self._path.exists() or self._path.read_bytes() != text.encode():
            temporary = self._path.with_suffix(".jsonl.part")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._tensorboard = None
        try:
            import tensorboardX
        except ImportError:
            return
        self._tensorboard = tensorboardX.SummaryWriter(
            str(pathlib.Path(workdir) / "tensorboard"), purge_step=resume_step + 1
        )

    def write(self, step: int, record: dict[str, Any]) -> None:
        """Writes one record of scalars and short vectors."""
        plain = {name: _plain(value) for name, value in record.items()}
        self._file.write(json.dumps({"step": step, **plain}) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for name, value in plain.items():
                is_vector = isinstance(value, list)
                for i, element in enumerate(value if is_vector else [value]):
                    if element is not None:
                        tag = f"{name}/{i + 1}" if is_vector else name
                        self._tensorboard.add_scalar(tag, element, step)

    def close(self) -> None:
        """Closes both files."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """All whole records of a run's metrics.jsonl; a line cut short by a crash is left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records
