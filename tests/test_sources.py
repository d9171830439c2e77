"""Data of your own on the command lines: trained, continued, found again, refused in one line."""

import html
import json
import shlex

import numpy as np
import pytest
from test_run import TINY, main

from aiwae_jax import data
from aiwae_jax.cli import main as cli
from aiwae_jax.cli import sources
from experiments import completion, evaluate, workdir

BITS = np.random.default_rng(0).integers(0, 2, (60, 6))
SMALL = [flag for flag in TINY if not flag.startswith(("--dataset", "--batch_size"))]
SMALL += ["--method=vae", "--batch_size=16", "--epochs=2"]
SMALLER = ["--eval_temperatures=3", "--eval_chains=2", "--eval_simulated=2"]
QUICK = ["--temperatures=5", "--chains=2", "--simulated=2", "--bound_samples=50", "--examples=4"]
FITTED = ["--method=vae", "--hidden_dim=4", "--latent_dim=2", "--batch_size=16", "--epochs=2"]


BITS_ONLY = ["--likelihood=bernoulli"]
LARGE = ["--batch_size=100"]  # in the place of the size in FITTED


def csv(path, rows=BITS):
    names = ",".join(f"c{i}" for i in range(rows.shape[1]))
    np.savetxt(path, rows, fmt="%g", delimiter=",", header=names, comments="")
    return path


@pytest.mark.slow
def test_a_csv_is_trained_and_known_again_by_the_installed_command(tmp_path, capsys):
    path, folder = csv(tmp_path / "mine.csv"), tmp_path / "run"
    given = ["fit", str(path), f"--folder={folder}", "--test_share=0.25", *FITTED]
    assert cli.main(given) == 0
    printed = capsys.readouterr().out
    assert "data: mine, 45 training and 15 test rows" in printed
    assert "a share of 0.25 of the rows is for testing" in printed
    assert "values: bits, 0 or 1; bernoulli fits" in printed
    assert cli.main([*given[:3], "--test_share=0.5", *FITTED]) == 2
    assert "train_images 45 there, 30 here" in capsys.readouterr().err
    stored = json.loads((folder / "config.json").read_text())["data"]
    assert stored["origin"] == {"file": str(path), "test_share": 0.25}
    assert stored["columns"] == [f"c{i}" for i in range(6)]
    csv(path, 1 - BITS)
    assert cli.main(given) == 2
    assert "data: mine of another content" in capsys.readouterr().err


@pytest.mark.by_hand
@pytest.mark.slow
def test_the_report_of_a_run_finds_its_data_again(tmp_path, capsys):
    path, folder = csv(tmp_path / "mine.csv"), tmp_path / "run"
    assert cli.main(["fit", str(path), f"--folder={folder}", "--test_share=0.25", *FITTED]) == 0
    assert cli.main(["report", str(folder), *QUICK]) == 0
    command = shlex.join(["aiwae", "fit", str(path), f"--folder={folder}", "--test_share=0.25"])
    assert command in html.unescape((folder / "report.html").read_text())
    path.rename(tmp_path / "other.csv")
    assert cli.main(["report", str(folder), *QUICK]) == 2
    assert "--data must say where the data of the run, mine, are now" in capsys.readouterr().err
    given = ["report", str(folder), f"--data={tmp_path / 'other.csv'}", *QUICK, "--seed=2"]
    assert cli.main(given) == 0


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_report_of_a_named_set_looks_where_the_run_did(real_data_dir, tmp_path):
    given = [f"--data_dir={real_data_dir}", f"--folder={tmp_path / 'run'}", *FITTED[:-2]]
    assert cli.main(["fit", "omniglot", *given, "--batch_size=8000", "--epochs=1"]) == 0
    assert cli.main(["report", str(tmp_path / "run"), *QUICK]) == 0


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_csv_is_trained_measured_and_moved_by_the_papers_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "mine.csv")
    assert main("--dataset=mine.csv", *SMALL) == 0
    printed = capsys.readouterr().out
    assert "data: mine, 48 training and 12 test rows" in printed
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-vae-K1-")
    report = json.loads((folder / "report.json").read_text())
    assert report["config"]["training"]["dataset"] == str(tmp_path / "mine.csv")
    assert f"--dataset={tmp_path / 'mine.csv'}" in (folder / "report.html").read_text()
    (tmp_path / "there").mkdir()
    (tmp_path / "mine.csv").rename(tmp_path / "there" / "mine.csv")
    assert main("--dataset=there/mine.csv", f"--workdir={folder}", *SMALL) == 0
    (tmp_path / "there").rename(tmp_path / "far")
    assert evaluate.main(["evaluate", f"--workdir={folder}", "--eval_seed=1"]) == 2
    assert "--dataset must be one of" in capsys.readouterr().err
    again = ["evaluate", f"--workdir={folder}", f"--data_dir={tmp_path / 'far'}"]
    assert evaluate.main([*again, "--eval_examples=4", "--eval_temperatures=5"]) == 0


@pytest.mark.by_hand
@pytest.mark.slow
def test_real_numbers_are_trained_and_measured_by_the_papers_command(tmp_path, capsys):
    path, folder = tmp_path / "table.csv", tmp_path / "run"
    rows = np.random.default_rng(0).normal(3.0, 2.0, (60, 3))
    csv(path, rows)
    assert main(f"--dataset={path}", f"--workdir={folder}", *SMALL) == 0
    printed = capsys.readouterr().out
    assert "likelihood: normal, which fits these values" in printed
    report = json.loads((folder / "report.json").read_text())
    # Near the entropy of what the rows were drawn from, in their own units.
    entropy = 3 * (0.5 * np.log(2 * np.pi * np.e) + np.log(2.0))
    assert abs(report["nll_test"] - entropy) < 4
    assert evaluate.main(["evaluate", f"--workdir={folder}", "--eval_examples=2", *SMALLER]) == 0
    assert main(f"--dataset={path}", f"--workdir={folder}", *SMALL, "--likelihood=student_t") == 2
    assert "--likelihood=normal there, student_t here" in capsys.readouterr().err


def test_a_file_gives_its_folder_a_name(tmp_path):
    path = csv(tmp_path / "my data.v2.csv")
    training = completion.complete({"dataset": str(path), "label": "c 0", "test_share": 0.1})
    name = workdir.default_workdir(training)
    assert name.startswith("runs/my_data-aiwae-")
    assert "test_share0.1" in name
    assert "label_columnc_0" in name


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("a,b\n1,x\n2,3\n", [], "line 2, column 'b': 'x' is no number"),
        ("a,b\n1,\n2,3\n", [], "column 'b': the value is missing"),
        (
            "a,b\n1.5,2\n-1,3\n",
            BITS_ONLY,
            "must be bits, or grey levels that are drawn as bits, for",
        ),
        (
            None,
            LARGE,
            "--batch_size=100 is larger than the 48 training rows of mine",
        ),
        (None, ["--test_share=2"], "--test_share must be below 1, got 2"),
        (None, ["--label_column=x"], "--label_column=x must be a column of "),
        (None, ["--layer=x"], "--layer=x: "),
    ],
)
def test_data_that_cannot_be_trained_on_are_one_line(content, flags, message, tmp_path, capsys):
    path, folder = csv(tmp_path / "mine.csv"), tmp_path / "run"
    if content is not None:
        path.write_text(content)
    fitted = FITTED if flags != LARGE else [flag for flag in FITTED if "batch" not in flag]
    assert cli.main(["fit", str(path), f"--folder={folder}", *fitted, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert main(f"--dataset={path}", f"--workdir={folder}", *SMALL, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not folder.exists()


def test_how_a_file_is_read_is_nothing_to_a_named_set(tmp_path, capsys):
    for flag in ("--test_share=0.5", "--max_level=16", "--label_column=a", "--layer=b"):
        name = flag.partition("=")[0]
        expected = f"{name} is for files of yours, not for digits; leave it out"
        assert main("--dataset=digits", flag, f"--workdir={tmp_path / 'run'}") == 2
        assert expected in capsys.readouterr().err
        assert cli.main(["fit", "digits", flag, f"--folder={tmp_path / 'run'}"]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [10, 33])
@pytest.mark.by_hand
def test_few_rows_a_row_left_over_and_constant_columns_are_trained_on(num_rows, tmp_path):
    rows = BITS[:num_rows].copy()
    rows[:, 2] = 1
    np.savez(tmp_path / "a.npz", train=rows, test=rows[:1])
    folder = tmp_path / "run"
    sizes = ["--batch_size=8" if num_rows == 10 else "--batch_size=16", *FITTED[:3], FITTED[4]]
    assert cli.main(["fit", str(tmp_path / "a.npz"), f"--folder={folder}", *sizes]) == 0


@pytest.mark.slow
@pytest.mark.by_hand
def test_one_column_is_trained_on(tmp_path):
    np.save(tmp_path / "a.npy", BITS[:, :1])
    given = ["fit", str(tmp_path / "a.npy"), f"--folder={tmp_path / 'run'}", *FITTED]
    assert cli.main(given) == 0
    assert data.from_file(tmp_path / "a.npy").train.shape == (48, 1)


def test_a_large_file_is_said_to_be_read(tmp_path, capsys):
    with (tmp_path / "mine.csv").open("wb") as file:
        file.truncate(60_000_000)
    (tmp_path / "small.csv").write_text("1,2")
    for where, line in (
        (tmp_path / "mine.csv", f"reading {tmp_path}/mine.csv (60 MB)\n"),
        (tmp_path, f"reading {tmp_path} (60 MB)\n"),
        (tmp_path / "small.csv", ""),
        (tmp_path / "none.csv", ""),
        (None, ""),
    ):
        sources.say_reading(where)
        captured = capsys.readouterr()
        assert (captured.err, captured.out) == (line, "")


def test_numbers_in_another_spelling_are_no_categories_though_some_repeat(tmp_path):
    path = tmp_path / "spelt.csv"
    for spell in ("2024-01-{:02}".format, "{}.5%".format, "1,{:03}.25".format):
        rows = [f'{number}.5,"{spell(max(number, 1))}"' for number in range(28)]  # one twice
        path.write_text("\n".join(["income,when", *rows]))
        with pytest.raises(data.DataError, match=r"column 'when' holds text, 27 .* in 28 rows"):
            data.from_file(path)
    path.write_text("\n".join(["income,town", *(f"{n}.5,town {n % 9}" for n in range(28))]))
    assert len(data.from_file(path).categories["town"]) == 9


def test_what_a_file_is_taken_for_is_said(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("\n".join(f"{n}.5,{n * n}.25" for n in range(20)))
    assert "columns: 2, without names" in sources.describe(data.from_file(path))
    path.write_text("\n".join(["income,town", *(f"{n}.5,{'abc'[n % 3]}" for n in range(28))]))
    assert sources.describe(data.from_file(path)).endswith("categories: town (3)")
