"""A run of minutes on digits, as a process that faults are done to, and what it left behind."""

import functools
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np

from aiwae_jax import data
from aiwae_jax.runs import checkpoint
from experiments import build, flags, launch

ROOT = pathlib.Path(__file__).parent.parent.parent
FLAGS = [
    *("--dataset=digits", "--K=2", "--T=3", "--L=2", "--stages=5", "--latent_dim=3"),
    *("--hidden_dim=8", "--batch_size=64", "--checkpoint_minutes=0.01", "--eval_examples=40"),
    *("--eval_temperatures=200", "--eval_chains=2", "--eval_bound_samples=50"),
    *("--eval_simulated=4", "--mesh=data:1"),
]
TIMEOUT_S = 300
NUM_KILLS = int(os.environ.get("AIWAE_FAULT_KILLS", "1"))


def command(folder, *more, module="experiments.run", prefix=()):
    """A command line; `prefix` is put before Python."""
    given = FLAGS if module == "experiments.run" else []
    given = launch.replacing([*given, f"--workdir={folder}"], more)
    return [*prefix, sys.executable, "-m", module, *given]


def start(folder, *more, **options):
    """A process at work in `folder`."""
    return subprocess.Popen(
        command(folder, *more, **options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder, *more, **options):
    """Runs to the end: (exit code, stdout, stderr)."""
    process = start(folder, *more, **options)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def marks(folder):
    """What a process at work leaves in a run's folder."""
    found = [*folder.glob("checkpoints/*"), *folder.glob("evaluation-*/*")]
    return {path.name for path in found}


def kill_at_random(folder, seed, longest_s, *more, **options):
    """Starts and kills -9 `NUM_KILLS` times, at random moments; returns how many were at work.

    Every other process is let get to work first; the others may die as they start.
    """
    chance, num_killed = random.Random(seed), 0
    for i in range(NUM_KILLS):
        before = marks(folder)
        process = start(folder, *more, **options)
        if i % 2 == 0:
            while marks(folder) == before and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            time.sleep(chance.uniform(0.3, longest_s))
        num_killed += process.poll() is None and marks(folder) != before
        process.kill()
        process.communicate()
    return num_killed


@functools.cache
def template_of(*more):
    """A state as a run with these flags saves it."""
    training = flags.parse_run(["run", *launch.replacing(FLAGS, more)]).training
    return build.build(training, data.load("digits")).init()


def state_of(folder, *more):
    """(step, leaves by name) of the newest checkpoint of a run."""
    loop_state, _ = checkpoint.Checkpoints(folder / "checkpoints").restore(template_of(*more))
    leaves = checkpoint._flatten(loop_state.train)
    return loop_state.num_steps, {name: np.asarray(leaf) for name, leaf in leaves.items()}


def numbers_of(folder):
    """What report.json and evaluation.npz measured."""
    report = json.loads((folder / "report.json").read_text())
    with np.load(folder / "evaluation.npz") as arrays:
        found = dict(arrays)
    return {key: report[key] for key in ("nll_test", "nvlb_test", "bidirectional_gap")}, found


def assert_same_run(folder, other):
    """Bit for bit: parameters, optimizers, step sizes, metrics, measured numbers."""
    (step, leaves), (other_step, other_leaves) = state_of(folder), state_of(other)
    assert step == other_step
    assert leaves.keys() == other_leaves.keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, other_leaves[name], err_msg=name)
    (numbers, arrays), (other_numbers, other_arrays) = numbers_of(folder), numbers_of(other)
    assert numbers == other_numbers
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[name], err_msg=name)
    records = [(path / "metrics.jsonl").read_text() for path in (folder, other)]
    assert records[0] == records[1]


def wait_for_checkpoint(folder, process):
    """Returns when a checkpoint has been written."""
    deadline = time.monotonic() + TIMEOUT_S
    while not list((folder / "checkpoints").glob("[0-9]*[0-9]")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
