"""The queue of long runs: what it says, what is done already, and a stop in between."""

import csv
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from aiwae_jax.cli.flags import UsageError
from experiments import long

ROOT = pathlib.Path(__file__).parents[1]
QUEUE = """
commit = "HEAD"
[[runs]]
name = "recipe"
flags = "--dataset=digits --method=vae --epochs=3"
seeds = [0, 1]
[[runs]]
name = "paper"
flags = "--dataset=digits --method=iwae"
stages = [1, 2]
"""


def test_a_queue_is_every_run_for_every_seed_up_to_every_report(tmp_path):
    path = tmp_path / "queue.toml"
    path.write_text(QUEUE)
    queue = long.read_queue(path)
    assert queue.core is None
    assert [(e.name, e.seed, e.stages, e.folder) for e in queue.entries] == [
        ("recipe", 0, None, "recipe-seed0"),
        ("recipe", 1, None, "recipe-seed1"),
        ("paper", 0, 1, "paper-seed0"),
        ("paper", 0, 2, "paper-seed0"),
    ]
    assert queue.entries[1].arguments == (
        "--dataset=digits",
        "--method=vae",
        "--epochs=3",
        "--seed=1",
    )
    assert queue.entries[3].arguments[-2:] == ("--seed=0", "--stages=2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs = []", "must say the `commit`"),
        ("commit = ", "queue.toml: "),
        ('commit = "HEAD"\n[[runs]]\nname = "a"', "has `name`, `flags`"),
        ('commit = "HEAD"\n[[runs]]\nname = "a"\nflags = ""\nseed = 1', "got name, flags, seed"),
    ],
)
def test_what_is_no_queue_is_refused(tmp_path, text, message):
    path = tmp_path / "queue.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        long.read_queue(path)


def test_a_row_of_the_table_says_that_a_run_is_done(tmp_path):
    path = tmp_path / "a.csv"
    long.write_table(path, [{"seed": 3, "stages": "", "nll_test": 1.0}])
    rows = long.rows_of(path)
    assert long.is_done(long.Entry("a", 3, None, ()), rows)
    assert not long.is_done(long.Entry("a", 4, None, ()), rows)
    assert not long.is_done(long.Entry("a", 3, 2, ()), rows)
    assert long.rows_of(tmp_path / "none.csv") == []


def test_a_curve_is_thinned_and_ends_where_the_training_is(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {
            "step": 7 * i,
            "epoch": i,
            "theta/log_likelihood_bound": -i,
            "theta/acceptance": [0.5, 0.7],
        }
        for i in range(1, 502)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"half a li')
    curve = long.curve_of(path)
    assert 100 < len(curve) <= 201
    assert curve[-1]["epoch"] == 501
    assert curve[0]["epoch"] == 3
    assert curve[0]["acceptance"] == pytest.approx(0.6)
    assert curve[0]["leg"] == ""


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_queue_that_is_stopped_continues_and_finishes(tmp_path):
    short = "--eval_temperatures=20 --eval_examples=20 --eval_simulated=10"
    (tmp_path / "queue.toml").write_text(
        QUEUE.replace("--epochs=3", f"--epochs=20 {short}").replace("=iwae", f"=iwae {short}")
    )
    command = [
        *(sys.executable, "-m", "experiments.long", f"--queue={tmp_path}/queue.toml"),
        *(f"--workdir={tmp_path}/runs", f"--out={tmp_path}/out"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "runs" / "recipe-seed0" / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text().count("\n"):
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Interrupted at recipe-seed0" in said
    assert (tmp_path / "out" / "recipe-seed0-training.csv").exists()
    subprocess.run(command, cwd=ROOT, check=True, timeout=500)
    with (tmp_path / "out" / "recipe.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert all(float(row["epochs"]) == 20 and len(row["commit"]) == 40 for row in rows)
    with (tmp_path / "out" / "paper.csv").open() as file:
        assert [float(row["epochs"]) for row in csv.DictReader(file)] == [1, 4]
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
