"""A table with gaps, from its file to a report, scores and imputed values."""

import csv
import io
import json

import interrupting
import jax
import numpy as np
import pytest

import aiwae_jax
from aiwae_jax import data, likelihoods, methods, models, train
from aiwae_jax.cli import main as cli

NAMES = ("age", "income", "colour", "member")
QUICK = ["--temperatures=6", "--chains=4", "--pilot_data=4"]


def write(path, num, seed):
    """Rows of which a fifth is missing; returns them as they are."""
    chance = np.random.default_rng(seed)
    age = chance.normal(size=num)
    words = np.array(["blue", "green", "red"])[chance.integers(3, size=num)]
    rows = [
        [f"{a:.3f}", f"{a + chance.normal():.3f}", word, str(int(a > 0))]
        for a, word in zip(age, words, strict=True)
    ]
    gaps = chance.random((num, len(NAMES))) < 0.2
    shown = [
        ["" if gap else v for gap, v in zip(*each, strict=True)]
        for each in zip(gaps, rows, strict=True)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *shown])
    return gaps, rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a run by the command."""
    folder = tmp_path_factory.mktemp("gaps")
    write(folder / "people.csv", 80, 0)
    arguments = ["fit", str(folder / "people.csv"), f"--folder={folder / 'run'}", "--method=aiwae"]
    arguments += ["--K=2", "--T=3", "--epochs=3", "--batch_size=16", "--latent_dim=2"]
    arguments += ["--hidden_dim=8", "--validation_share=0.2", "--validation_nll_every=2"]
    assert cli.main(arguments) == 2  # without being told what gaps are
    assert cli.main([*arguments, "--missing=at_random"]) == 0
    assert cli.main([*arguments, "--missing=at_random"]) == 0  # finished
    return folder


@pytest.mark.slow
def test_a_run_learns_of_it_and_is_measured(folder, capsys):
    run = aiwae_jax.load(folder / "run")
    assert run.model.takes_missing
    assert run.config["data"]["missing"] == "at_random"
    metrics = [json.loads(line) for line in (folder / "run/metrics.jsonl").open()]
    assert all(np.isfinite(line["validation/bound"]) for line in metrics)
    assert sum(line["theta/num_nonfinite_objective"] for line in metrics) == 0
    options = ["--examples=10", "--simulated=8", "--bound_samples=50"]
    assert cli.main(["report", str(folder / "run"), *QUICK, *options]) == 0
    assert "NLL (test)" in capsys.readouterr().out
    report = json.loads((folder / "run/report.json").read_text())
    assert report["bidirectional"]["is_possible"]
    assert np.isfinite([report["nll_test"], report["nvlb_test"]]).all()
    assert cli.main(["verify", str(folder / "run/certificate.json")]) == 0


@pytest.mark.slow
def test_new_rows_are_scored_and_filled_in(folder, tmp_path, capsys):
    gaps, rows = write(tmp_path / "new.csv", 12, 1)
    of_run = [f"--workdir={folder / 'run'}", f"--data={tmp_path / 'new.csv'}"]

    def table(*arguments):
        capsys.readouterr()
        assert cli.main([*arguments, *of_run]) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    scores = table("score", *QUICK)
    assert all(np.isfinite(float(row["log_likelihood"])) for row in scores)
    filled = table("impute", *QUICK, "--intervals")
    assert not {"colour_low", "colour_high"} & set(filled[0])  # words have no interval
    for of_file, gap, row in zip(rows, gaps, filled, strict=True):
        for name, value, is_gap in zip(NAMES, of_file, gap, strict=True):
            if name == "colour":
                assert row[name] in ("blue", "green", "red") if is_gap else row[name] == value
            elif is_gap:
                assert float(row[f"{name}_low"]) <= float(row[f"{name}_high"])
            else:
                assert float(row[name]) == float(row[f"{name}_low"]) == np.float32(value)
    drawn = table("impute", *QUICK, "--samples=3")
    assert len(drawn) == 36
    assert {row["member"] for row in drawn} <= {"0.0", "1.0"}
    assert cli.main(["impute", *of_run, "--samples=3", "--intervals"]) == 2


@pytest.mark.slow
def test_training_that_is_interrupted_ends_as_if_it_had_not_been(tmp_path):
    chance = np.random.default_rng(0)
    rows = np.where(chance.random((48, 3)) < 0.3, np.nan, chance.normal(size=(48, 3)))
    dataset = data.from_arrays(rows[:40], rows[40:], missing="at_random")
    likelihood = likelihoods.masked(likelihoods.standardize(likelihoods.normal(), rows[:40]))
    model = models.mlp_vae(3, 2, likelihood=likelihood, hidden_sizes=(4,))

    def fit(name):
        method, folder = methods.iwae(model, 3), tmp_path / name
        return train.fit(method, model, dataset, folder, batch_size=8, epochs=4)

    at_once = fit("at_once")
    with interrupting.after_chunks(1, "saved at step 1 of 20"):
        fit("in_two")
    in_two = fit("in_two")
    for one, other in zip(*(jax.tree.leaves(r.params) for r in (at_once, in_two)), strict=True):
        np.testing.assert_array_equal(one, other)
    again = aiwae_jax.load(tmp_path / "in_two")
    np.testing.assert_array_equal(again.encode(rows[40:])[0], in_two.encode(rows[40:])[0])


@pytest.mark.slow
def test_grey_images_with_missing_pixels_are_drawn_as_bits_with_the_same_gaps(tmp_path):
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (40, 4, 4)).astype(float)
    images[chance.random(images.shape) < 0.3] = np.nan
    dataset = data.from_arrays(images[:32], images[32:], max_level=255, missing="at_random")
    likelihood = likelihoods.masked(likelihoods.bernoulli())
    model = models.conv_vae((4, 4), 2, likelihood=likelihood, channels=(4,), hidden_size=8)
    run = train.fit(methods.vae(model), model, dataset, tmp_path / "run", epochs=2, batch_size=8)
    rows = images[32:].reshape(8, 16)
    bits = run.rows(rows)
    np.testing.assert_array_equal(np.isnan(bits), np.isnan(rows))
    assert set(bits[~np.isnan(bits)]) == {0.0, 1.0}
    with pytest.raises(data.DataError, match="must be bits, or grey levels"):
        run.rows(np.where(np.isnan(rows), 256.0, rows))
