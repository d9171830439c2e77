"""A model that is given a condition, from a file to a report, scores, classes and draws."""

import csv
import io
import json

import numpy as np
import pytest

import aiwae_jax
from aiwae_jax import data, evaluate
from aiwae_jax.cli import main as cli

QUICK = ["--temperatures=6", "--chains=4", "--pilot_data=4"]


def write(path, num, seed, *, header="age,colour,income,member"):
    """Incomes that depend on the colour."""
    chance = np.random.default_rng(seed)
    codes = chance.integers(3, size=num)
    age, income = chance.normal(40.0, 9.0, num), 10.0 * codes + chance.normal(size=num)
    words = np.array(["blue", "green", "red"])[codes]
    rows = zip(age, words, income, chance.integers(2, size=num), strict=True)
    lines = [f"{a:.3f},{word},{i:.3f},{m}" for a, word, i, m in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a run by the command, given a class and a number."""
    folder = tmp_path_factory.mktemp("conditions")
    write(folder / "people.csv", 100, 0)
    arguments = ["fit", str(folder / "people.csv"), f"--folder={folder / 'run'}", "--method=vae"]
    arguments += ["--condition=colour,age", "--epochs=30", "--batch_size=16", "--latent_dim=2"]
    arguments += ["--hidden_dim=8", "--learning_rate=0.02", "--lr_schedule=constant"]
    assert cli.main([*arguments, "--model=sbn"]) == 2  # a model of images
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 0  # finished
    return folder


def table(capsys, *arguments):
    capsys.readouterr()
    assert cli.main(list(arguments)) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


@pytest.mark.slow
def test_a_report_states_the_accuracy_of_bayes_rule(folder, capsys):
    options = ["--examples=10", "--simulated=8", "--bound_samples=50", "--classified=9"]
    assert cli.main(["report", str(folder / "run"), *QUICK, *options]) == 0
    printed = capsys.readouterr().out
    assert "Bayes accuracy of colour" in printed
    assert "are of p(x|colour and age), conditional" in printed
    report = json.loads((folder / "run/report.json").read_text())
    bayes = report["bayes"]
    assert (bayes["column"], bayes["num_rows"]) == ("colour", 9)
    assert np.sum(bayes["confusion"]) == 9
    assert bayes["accuracy"] == np.trace(bayes["confusion"]) / 9 > 0.7
    assert "confusion.png" in report["pictures"]
    assert "Bayes accuracy" in (folder / "run/report.html").read_text()
    assert report["bidirectional"]["is_possible"]
    assert cli.main(["verify", str(folder / "run/certificate.json")]) == 0


@pytest.mark.slow
def test_the_run_classifies_rows_and_keeps_its_condition(folder):
    run = aiwae_jax.load(folder / "run")
    assert run.condition == {"colour": ("blue", "green", "red"), "age": None}
    dataset = data.reload(run.config["data"])
    settings = evaluate.Settings(num_temperatures=8, num_chains=4, num_pilot_data=4)
    codes = dataset.test[:, -2]
    hidden = dataset.test.copy()
    hidden[:, -2] = 0  # what the class is said to be does not matter
    found, same = (run.classify(rows, settings) for rows in (dataset.test, hidden))
    np.testing.assert_array_equal(found.log_likelihood, same.log_likelihood)
    assert found.accuracy(codes)[0] > 0.7
    own = run.log_likelihood(dataset.test, settings).log_likelihood
    mine = found.log_likelihood[np.arange(len(codes)), codes.astype(int)]
    assert np.abs(own - mine).max() < 2.0  # of other chains


@pytest.mark.slow
def test_new_rows_are_scored_given_their_own_condition(folder, tmp_path, capsys):
    write(tmp_path / "new.csv", 6, 1)
    of_run = [f"--workdir={folder / 'run'}", f"--data={tmp_path / 'new.csv'}"]
    scores = table(capsys, "score", *of_run, *QUICK)
    assert all(np.isfinite(float(row["log_likelihood"])) for row in scores)
    assert len(table(capsys, "encode", *of_run)) == 6
    write(tmp_path / "new.csv", 6, 1, header="age,hue,income,member")
    assert cli.main(["score", *of_run, *QUICK]) == 2
    assert "no column 'colour'" in capsys.readouterr().err
    (tmp_path / "new.csv").write_text("age,colour,income,member\n40,pink,2,1\n")
    assert cli.main(["score", *of_run, *QUICK]) == 2
    assert "'pink', which is none of the categories" in capsys.readouterr().err


@pytest.mark.slow
def test_draws_are_of_the_condition_that_is_asked_for(folder, capsys):
    of_run = ["sample", f"--workdir={folder / 'run'}", "--num=60"]
    rows = table(capsys, *of_run, "--condition=red,35")
    assert {(row["colour"], row["age"]) for row in rows} == {("red", "35.0")}
    low = table(capsys, *of_run, "--condition=blue,35")
    incomes = [np.mean([float(row["income"]) for row in each]) for each in (low, rows)]
    assert incomes[1] - incomes[0] > 10.0
    assert cli.main(of_run) == 2
    assert "of numbers nobody knows which" in capsys.readouterr().err
    assert cli.main([*of_run, "--condition=pink,35"]) == 2
    assert "--condition must be one of 'blue', 'green', 'red'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.by_hand
def test_labels_of_images_are_a_condition_of_both_commands(tmp_path, capsys):
    arguments = ["fit", "digits", "--condition=label", f"--folder={tmp_path / 'run'}"]
    arguments += ["--method=vae", "--epochs=1", "--latent_dim=2", "--hidden_dim=8"]
    assert cli.main([*arguments, "--network=conv", "--channels=2"]) == 0
    rows = table(capsys, "sample", f"--workdir={tmp_path / 'run'}", "--num=12")
    assert [row["label"] for row in rows] == [*"0123456789", "0", "1"]
    options = ["--examples=4", "--simulated=4", "--bound_samples=50", "--classified=2"]
    assert cli.main(["report", str(tmp_path / "run"), *QUICK, *options]) == 0
    pictures = json.loads((tmp_path / "run/report.json").read_text())["pictures"]
    assert {"condition_samples.png", "condition_traversals.png"} <= set(pictures)
