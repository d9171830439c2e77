"""TensorBoard's file, read back record by record as TensorBoard does."""

import struct

import numpy as np
import pytest

from aiwae_jax import train
from aiwae_jax.runs import metrics

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def events_of(folder):
    """All whole events of the one file in a run's tensorboard folder."""
    (path,) = (folder / "tensorboard").iterdir()
    content, events = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        events.append(event_pb2.Event.FromString(content[12 : 12 + size]))
        content = content[12 + size + 4 :]
    return events


def points_of(folder):
    """tag -> [(step, value), ...], in the order of the file."""
    points = {}
    for event in events_of(folder):
        for value in event.summary.value:
            points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


def moment(folder, step, **metrics):
    return train.Moment(step, 10, 1.0, metrics, folder)


def writers(folder, step=0):
    found = metrics.JsonLines(folder), metrics.TensorBoard(folder)
    for writer in found:
        writer.on_start(moment(folder, step))
    return found


def write(writers, folder, *steps, scale=1.0):
    for step in steps:
        constant = {"theta/betas": [0.5, 1.0]}  # no curve
        moving = {"loss": scale * step, "rates": [0.5, np.nan, step], "lost": np.nan}
        for writer in writers:
            writer.on_epoch(moment(folder, step, **moving, **constant))


def close(writers):
    for writer in writers:
        writer.close()


def test_an_epoch_is_in_the_file_when_it_was_written_whatever_comes_then(tmp_path):
    both = writers(tmp_path)
    for last in (1, 2, 3):
        write(both, tmp_path, last)
        assert points_of(tmp_path)["loss"] == [(step, float(step)) for step in range(1, last + 1)]
    close(both)


def test_after_a_restart_there_is_one_file_with_each_point_once(tmp_path):
    killed = writers(tmp_path)  # never closed
    write(killed, tmp_path, 1, 2, 3)
    (tmp_path / "tensorboard" / "events.out.tfevents.1.of-an-earlier-version").write_bytes(b"x")
    both = writers(tmp_path, 2)
    write(both, tmp_path, 3, 4, scale=10.0)
    points = points_of(tmp_path)
    assert points["loss"] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]
    assert points["rates/3"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert set(points) == {"loss", "rates/1", "rates/3"}
    first, second, *_ = events_of(tmp_path)
    assert first.file_version == "brain.Event:2"
    # What tells a TensorBoard that is looking on to forget all that it has read.
    assert (second.session_log.status, second.step) == (event_pb2.SessionLog.START, 0)
    close(both)
    close(killed)


def test_lines_that_are_no_records_are_left_out_and_said(tmp_path):
    good = '{"step": 1, "loss": 1.0, "rates": [null, 2]}\n'
    wrong = [
        '{"step": "1"}',
        "[]",
        "null",
        '{"step": 2, "loss": {}}',
        '{"step": true}',
        '{"step": 2',
    ]
    path = tmp_path / "metrics.jsonl"
    for line in wrong:
        path.write_text(f"{line}\n{good}")
        with pytest.warns(UserWarning, match=r"metrics.jsonl: 1 of its lines .* line 1\."):
            assert metrics.read(tmp_path) == [{"step": 1, "loss": 1.0, "rates": [None, 2]}]
    path.write_text(f'{good}{{"step": 2, "lo')  # what a kill leaves
    assert len(metrics.read(tmp_path)) == 1
