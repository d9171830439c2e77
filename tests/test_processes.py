"""Two real processes on this machine: the same results as one, one set of files, one will."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from test_run import ROOT

from aiwae_jax.parallel import processes
from aiwae_jax.runs.store import FolderStore, SharedStore
from experiments import flags, launch

FLAGS = [
    *("--dataset=digits", "--K=4", "--T=3", "--L=2", "--stages=2", "--latent_dim=3"),
    *("--hidden_dim=8", "--batch_size=64", "--eval_examples=7", "--eval_temperatures=20"),
    *("--eval_chains=2", "--eval_bound_samples=50", "--eval_simulated=4"),
]
TIMEOUT_S = 200


def start(folder, *more, num_devices=1):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)}
    given = [f"--workdir={folder}", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *launch.replacing(FLAGS, given)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(folder, *more):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    where = [f"--coordinator=localhost:{port}", "--num_processes=2"]
    return [start(folder, *where, f"--process_id={i}", *more) for i in range(2)]


def end(process):
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_two_processes_agree_with_one_and_write_once(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    ends = [end(process) for process in start_two(two)]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "over a mesh data:2 of 2 x cpu" in ends[0][1]
    assert "schedule" not in ends[1][1]  # process 1 says nothing
    assert end(start(one))[0] == 0
    reports = [report_of(folder) for folder in (two, one)]
    assert reports[0]["data"] == reports[1]["data"]
    for key in ("nll_test", "nll_train", "nvlb_test", "bidirectional_gap"):
        # One flipped accept would part them, after 88 steps: within two standard errors.
        difference = abs(reports[0][key] - reports[1][key])
        assert difference < 2 * reports[1].get(f"{key}_se", 0.0) + 1e-3, key
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (two, one)]
    assert len(lines[0]) == len(lines[1]) == 4
    first = [json.loads(each[0])["theta/objective"] for each in lines]
    np.testing.assert_allclose(*first, rtol=1e-4)


@pytest.mark.by_hand
@pytest.mark.slow
def test_two_processes_validate_together_and_stop_as_one_does(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    more = ["--validation_share=0.1", "--validation_nll_every=3", "--patience=1", "--eval=none"]
    more += ["--learning_rate=0.3", "--validation_every=1", "--stages=3"]
    ends = [end(process) for process in start_two(two, *more)]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "validation: 144 of the training rows" in ends[0][1]
    assert "validation" not in ends[1][1]
    assert end(start(one, *more))[0] == 0
    each = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (two, one)]
    assert "stopped early" in ends[0][1]
    first, alone = (json.loads(lines[0]) for lines in each)
    # One flipped accept would part them, after 20 steps: within two standard errors.
    difference = abs(first["validation/bound"] - alone["validation/bound"])
    assert difference < 2 * alone["validation/bound_se"]
    found = [json.loads(lines[-1]) for lines in each]
    assert [record["epoch"] for record in found] == [len(lines) for lines in each]


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_signal_to_one_process_saves_in_both_and_one_process_continues(tmp_path):
    both = start_two(tmp_path, "--stages=4", "--eval=none")
    deadline = time.monotonic() + TIMEOUT_S
    while not (tmp_path / "metrics.jsonl").exists() or not (
        (tmp_path / "metrics.jsonl").read_text().count("\n") >= 5
    ):
        assert time.monotonic() < deadline
        assert both[0].poll() is None, end(both[0])
        time.sleep(0.1)
    both[1].send_signal(signal.SIGTERM)
    for code, _, err in map(end, both):
        assert code == 128 + signal.SIGTERM, err
        assert "Interrupted; saved at step" in err
    alone = start(tmp_path, "--stages=4", "--eval=none", num_devices=2)
    code, out, err = end(alone)
    assert code == 0, err
    assert "continuing at step" in out


@pytest.mark.slow
def test_what_process_0_refuses_ends_all(tmp_path):
    (tmp_path / "something").write_text("of somebody else")
    for code, _, err in map(end, start_two(tmp_path)):
        assert code in (1, 2), err
        assert "not empty and holds no run" in err or "process 0 has failed" in err
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_with_one_process_all_is_as_without(tmp_path):
    assert processes.is_primary()
    assert processes.largest(3) == 3
    assert processes.on_primary(lambda: 5) == 5
    assert processes.bytes_of_primary(lambda: b"abc") == b"abc"
    np.testing.assert_array_equal(processes.of_primary(np.arange(3)), np.arange(3))
    with pytest.raises(ZeroDivisionError):
        processes.on_primary(lambda: 1 // 0)
    fetched = processes.fetch({"a": jax.numpy.ones(2)})
    assert isinstance(fetched["a"], np.ndarray)
    store = SharedStore(FolderStore(pathlib.Path(tmp_path)))
    store["piece"] = {"x": np.arange(4.0), "n": np.asarray(3)}
    assert list(store) == ["piece"]
    np.testing.assert_array_equal(store["piece"]["x"], np.arange(4.0))
    assert "other" not in store
    del store["piece"]
    assert len(store) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--mesh=4"], "--mesh must be like data:4 or data:4,particle:2, got '4'"),
        (["--mesh=data:0"], "--mesh must be like"),
        (["--mesh=data:2,data:2"], "--mesh must be like"),
        (["--mesh=rows:2"], "--mesh must be like"),
        (["--mesh=data:3"], "data:3 must divide --batch_size=32"),
        (["--mesh=particle:2"], "particle:2 must divide --K=5"),
        (["--K=4", "--particle_chunk=1", "--mesh=particle:2"], "must divide --particle_chunk=1"),
        (["--num_processes=2"], "--num_processes needs the others of --coordinator"),
        (
            ["--coordinator=here:1", "--num_processes=2", "--process_id=2"],
            "--process_id must lie in 0 .. 1, got 2",
        ),
        (
            ["--coordinator=here", "--num_processes=2", "--process_id=1"],
            "--coordinator must be host:port, got 'here'",
        ),
    ],
)
def test_layouts_that_cannot_be_are_refused(given, message):
    with pytest.raises(flags.UsageError, match=message):
        flags.parse_run(["run", "--dataset=digits", *given])
