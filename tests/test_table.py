"""Tables: what is averaged and what is not, the paper beside; the launcher and its locks."""

import copy
import csv
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.report.text import METRICS
from experiments import flags, launch, pool
from experiments.benchmark import problem
from experiments.table import __main__ as table
from experiments.table import collect, render

ROOT = pathlib.Path(__file__).parent.parent
TINY = [
    *("--stages=1", "--latent_dim=2", "--hidden_dim=4", "--batch_size=64", "--eval_examples=4"),
    *("--eval_temperatures=3", "--eval_chains=2", "--eval_leapfrog_steps=1"),
    *("--eval_bound_samples=50", "--eval_simulated=0"),
]
DATA = {"title": "digits", "sha256": "0" * 64}


def report(seed=0, nll=84.0, method="aiwae", T=5, **changes):
    """A report as `experiments.run` writes it, without having run."""
    arguments = ["run", "--dataset=mnist", f"--method={method}", "--K=1", f"--seed={seed}"]
    if T is not None:
        arguments.append(f"--T={T}")
    config = flags.parse_run(arguments)
    content = {
        **{key: nll + i for i, key in enumerate(METRICS)},
        "num_examples": 200,
        "epochs": 40.0,
        "is_finished": True,
        "config": {
            "training": vars(config.training) | changes.pop("training", {}),
            "evaluation": vars(config.evaluation) | changes.pop("evaluation", {}),
        },
        "data": {"title": "MNIST", "sha256": "0" * 64},
        "environment": {"device": "2 x cpu", "machine": "Linux", "versions": {"jax": "1.0"}},
        "wall_time": {"training_seconds": 60.0},
        "paper": {key: {"mean": 80.0 + i, "std": 0.5} for i, key in enumerate(METRICS)},
    }
    return content | changes


def flat(text):
    """Without the spaces that align columns."""
    return re.sub(" +", " ", text)


def test_seeds_are_averaged_and_the_paper_stands_beside():
    (found,) = collect.tables([report(0, 84.0), report(1, 85.0), report(2, 89.0)])
    ((column, cell),) = found.cells.items()
    assert column[:3] == (1, "aiwae", 5)
    assert cell.values["nll_test"] == (86.0, pytest.approx(7.0**0.5), 3)
    assert cell.seeds == (0, 1, 2)
    assert cell.minutes == pytest.approx(3.0)
    assert collect.differences(cell)["nll_test"] == pytest.approx(12.0)  # (86 - 80) / 0.5
    text = flat(render.markdown([found]))
    assert "| NLL (test) | 86.00 (2.65) |" in text
    assert "80 (0.50)" in text
    assert "+12.0" in text
    assert "made by 2 x cpu on Linux, jax 1.0" in text


def test_the_same_seed_twice_is_one_repeat():
    (found,) = collect.tables([report(0, 84.0), report(0, 84.5)])
    (cell,) = found.cells.values()
    assert cell.values["nll_test"].num_repeats == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"adam_eps": 1e-8}},
        {"training": {"loss_reduction": "sum"}},
        {"evaluation": {"num_temperatures": 500}},
        {"evaluation": {"seed": 1}},
        {"epochs": 13.0},
        {"is_finished": False},
        {"data": {"title": "MNIST", "sha256": "1" * 64}},
    ],
)
def test_other_settings_are_never_averaged_but_stand_in_a_table_of_their_own(changes):
    found = collect.tables([report(0), report(1, **copy.deepcopy(changes))])
    assert len(found) == 2
    assert found[0].setting != found[1].setting


@pytest.mark.parametrize(
    "changes", [{"force_precision": "bfloat16"}, {"chain_space": "base"}, {"batch_size": 20}]
)
def test_settings_of_annealing_and_batches_are_columns(changes):
    (found,) = collect.tables([report(0), report(1, training=changes)])
    assert [cell.seeds for cell in found.cells.values()] in ([(0,), (1,)], [(1,), (0,)])
    assert str(*changes.values()) in " ".join(map(render.heading, found.cells))


def test_reports_of_earlier_versions_are_read_as_if_they_were_new(tmp_path):
    content = report(0)
    for name in ("schedule", "chain_space", "force_precision", "particle_chunk", "num_repeats"):
        del content["config"]["training"][name]
    del content["config"]["evaluation"]["force_precision"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    (found,) = collect.tables([*collect.read_reports(tmp_path), report(1)])
    (cell,) = found.cells.values()
    assert cell.seeds == (0, 1)


def test_a_number_that_is_null_in_a_report_is_not_a_number_in_the_table():
    (found,) = collect.tables([report(0), report(1, nll_test=None)])
    assert "| NLL (test) | nan (nan) |" in flat(render.markdown([found]))


def test_batch_sizes_and_methods_are_columns_in_the_papers_order():
    reports = [
        report(0, T=8),
        report(0, T=5, training={"batch_size": 20}),
        report(0, T=5),
        report(0, method="iwae", T=None),
    ]
    (found,) = collect.tables(reports)
    headings = [render.heading(column) for column in found.cells]
    assert headings == [
        "K=1 IWAE b20",
        "K=1 AIWAE T=5 b20",
        "K=1 AIWAE T=5 b128",
        "K=1 AIWAE T=8 b128",
    ]


def test_a_stand_in_is_named_and_has_no_paper():
    title = "omniglot (1-bit stand-in)"
    content = report(0, data={"title": title, "sha256": "2" * 64})
    del content["paper"]
    (found,) = collect.tables([content])
    for text in (render.markdown([found]), render.latex([found])):
        assert title in text
        assert "paper" not in text.replace("lr schedule paper", "")
    assert {row["data"] for row in collect.long_rows([found])} == {title}


def test_latex_is_escaped():
    text = render.latex(collect.tables([report(0, data={"title": "a_b % c$", "sha256": "0" * 8})]))
    text = flat(text)
    assert r"a\_b \% c\$ & K=1 AIWAE T=5 b128" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


# ---------------------------------------------------------------------------------------- launcher


def launched(root, *arguments):
    usual = [f"--workdir={root}", "--dataset=digits", "--methods=iwae", "--K=1,2"]
    return table.main(["table", *launch.replacing(usual, arguments)])


@pytest.mark.slow
@pytest.mark.by_hand
def test_plan_names_each_cell_and_the_cheapest_comes_first(tmp_path, capsys):
    arguments = ["--methods=aiwae,iwae", "--K=5,1", "--T=8,5", "--stages=1"]
    assert launched(tmp_path / "runs", "--dry_run", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  digits-")]
    assert names == [
        "digits-iwae-K1-b32-seed0",
        "digits-iwae-K5-b32-seed0",
        "digits-aiwae-K1-T5-b32-seed0",
        "digits-aiwae-K1-T8-b32-seed0",
        "digits-aiwae-K5-T5-b32-seed0",
        "digits-aiwae-K5-T8-b32-seed0",
    ]
    assert lines[-1].startswith("6 of 6 cells to run, about")
    assert not (tmp_path / "runs").exists()


def name_of(num_particles):
    """Folder of a cell; the flags of `TINY` that are not as usual stand in it."""
    return f"digits-iwae-K{num_particles}-latent_dim2-hidden_dim4-b64-seed0"


@pytest.mark.slow
def test_launcher_runs_what_is_missing_once_and_writes_the_table(tmp_path, capfd):
    assert launched(tmp_path, "--launch", "--jobs=2", *TINY) == 0
    text = capfd.readouterr().out
    assert text.count("python -m experiments.run") == 2
    assert text.count("ended with code 0") == 2
    for num in (1, 2):
        assert (
            "report and pictures"
            in (tmp_path / f"digits-iwae-K{num}-latent_dim2-hidden_dim4-b64-seed0.log").read_text()
        )
    assert "| NLL (test) |" in flat((tmp_path / "table.md").read_text())
    assert r"\toprule" in (tmp_path / "table.tex").read_text()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = tmp_path / name_of(2)
    made = json.loads((last / "report.json").read_text())
    (row,) = (r for r in rows if r["metric"] == "nll_test" and r["num_particles"] == "2")
    assert float(row["mean"]) == made["nll_test"]

    assert launched(tmp_path, "--launch", *TINY) == 0
    text = capfd.readouterr().out
    assert "python -m experiments.run" not in text
    assert "0 of 2 cells to run" in text

    # A cell that another launcher holds is left to it.
    (tmp_path / name_of(2) / "report.json").unlink()
    with (tmp_path / f".{name_of(2)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert launched(tmp_path, "--launch", *TINY) == 0
        assert "another launcher is at it" in capfd.readouterr().out
    assert launched(tmp_path, "--launch", *TINY) == 0  # trained already, measured again
    assert capfd.readouterr().out.count("python -m experiments.run") == 1


@pytest.mark.by_hand
@pytest.mark.slow
def test_slurm_array_runs_the_missing_cells(tmp_path, capsys):
    script = tmp_path / "array.sh"
    arguments = [f"--slurm={script}", "--eval=none", *TINY]
    assert launched(tmp_path / "runs", *arguments) == 0
    assert "2 tasks: sbatch" in capsys.readouterr().out
    text = script.read_text()
    assert "#SBATCH --array=0-1\n" in text
    assert "#SBATCH --signal=B:TERM@120\n" in text  # to the shell, which `exec` makes the run
    for task in range(2):
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash", str(script)], env=environment, cwd=ROOT, check=True, timeout=200)
    names = sorted(path.name for path in (tmp_path / "runs").glob("digits-*"))
    assert names == [
        "digits-iwae-K1-latent_dim2-hidden_dim4-b64-seed0",
        name_of(2),
    ]
    assert launched(tmp_path / "runs", *arguments) == 2  # nothing left to submit
    assert "all cells are finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cell_finished_meanwhile_is_not_run_again(tmp_path, monkeypatch, capsys):
    dataset = data.load("digits", None)
    planned = launch.plan(
        tmp_path, dataset, [["--dataset=digits", "--eval=none", "--stages=1"]], 1e9
    )
    (cell,) = planned
    assert not cell.found.is_finished
    folder = tmp_path / cell.name
    (folder / "checkpoints" / "44").mkdir(parents=True)
    content = {"training": vars(cell.config.training), "data": DATA, "data_dir": None}
    (folder / "config.json").write_text(json.dumps(content))
    monkeypatch.setattr(pool.subprocess, "Popen", lambda *a, **k: pytest.fail("it ran"))
    assert pool.run(tmp_path, planned, len(dataset.train)) == []
    assert "finished by another launcher" in capsys.readouterr().out


def test_a_folder_of_another_setting_is_not_taken_for_a_finished_cell(tmp_path):
    num = len(data.load("digits", None).train)
    config = flags.parse_run(["run", "--dataset=digits", "--eval=none", "--stages=1"])
    (tmp_path / "checkpoints" / "1760").mkdir(parents=True)
    content = {"training": vars(config.training), "data": DATA, "data_dir": None}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert launch.look(tmp_path, config, num).is_finished
    for flag in ("--adam_eps=1e-8", "--init=torch", "--hidden_dim=7", "--preset=paper"):
        other = flags.parse_run(["run", "--dataset=digits", "--eval=none", "--stages=1", flag])
        assert launch.look(tmp_path, other, num) == (0.0, False)


def test_each_method_gets_the_flags_that_it_takes():
    shared = ["--L=3", "--chain_space=base", "--adam_eps=1e-8"]
    assert launch.cells_of(["vae", "iwae", "aiwae"], ["1", "5"], ["8"], shared) == [
        ["--method=vae", "--K=1", "--adam_eps=1e-8"],
        ["--method=iwae", "--K=1", "--adam_eps=1e-8"],
        ["--method=iwae", "--K=5", "--adam_eps=1e-8"],
        ["--method=aiwae", "--K=1", "--T=8", *shared],
        ["--method=aiwae", "--K=5", "--T=8", *shared],
    ]


@pytest.mark.slow
def test_operations_are_counted_as_the_benchmark_does():
    """MNIST's sizes: the draw of AIWAE dominates, and is the benchmark's least arithmetic."""
    rows = np.zeros((128, 784), np.uint8)
    dataset = data.load("digits", None)._replace(train=rows, test=rows)
    arguments = ["run", "--K=50", "--T=11", "--batch_size=128", "--stages=1", "--eval=none"]
    training, evaluating = launch.operations(flags.parse_run(arguments), dataset)
    least = problem.training_operations(problem.Size(50, 11))
    assert least < training < 1.05 * least
    assert evaluating == 0


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_signal_to_the_launcher_lets_the_cell_save_itself(tmp_path):
    arguments = [
        *(sys.executable, "-m", "experiments.table", f"--workdir={tmp_path}", "--launch"),
        *("--dataset=digits", "--methods=aiwae", "--K=2", "--T=5", "--stages=6", "--eval=none"),
    ]
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics = tmp_path / "digits-aiwae-K2-T5-b32-seed0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved at step" in output
    assert "has saved itself" in output
    assert list((metrics.parent / "checkpoints").glob("[0-9]*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=/tmp/nowhere", "--out=/tmp/table"], "no report.json below"),
        ([], "--workdir is needed"),
        (["--workdir=/tmp", "--stage=3"], "Unknown flag --stage=3"),
        (["--workdir=/tmp", "--K=7"], "--K says what to --launch"),
        (["--workdir=/tmp", "--launch", "--K="], "--K must name at least one"),
        (["--workdir=/tmp", "--launch", "--method=vae"], "are --methods=iwae,aiwae"),
        (["--workdir=/tmp", "--out=/dev/null/x"], "cannot be made a folder"),
        (["--workdir=/tmp", "--launch", "--K=0"], "--K must be at least 1"),
        (["--workdir=/tmp", "--launch", "--nosuch=1"], "Unknown command line flag 'nosuch'"),
        (["--workdir=/tmp", "digits"], "Unexpected argument 'digits'"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, capsys):
    assert table.main(["table", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
