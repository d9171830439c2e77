"""`aiwae evaluate`: a run's NLL on its test data, or on a file's rows, as JSON."""

import json

import numpy as np
import pytest

from aiwae_jax import data, evaluate, fingerprint, methods, models, report, train
from aiwae_jax.cli import main as cli
from aiwae_jax.report import certificate, images, measure

QUICK = ["--temperatures=6", "--chains=4", "--pilot_data=4"]
SETTINGS = evaluate.Settings(num_temperatures=6, num_chains=4, num_pilot_data=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on grey levels of a file, 6 of 30 of which are for testing."""
    folder = tmp_path_factory.mktemp("evaluate")
    levels = np.random.default_rng(0).integers(0, 256, (30, 5)).astype(np.uint8)
    np.save(folder / "mine.npy", levels)
    dataset = data.from_file(folder / "mine.npy").as_bits()
    model = models.bernoulli_vae(5, 2, hidden_sizes=(4,), mean_image=dataset.mean_image())
    return train.fit(methods.vae(model), model, dataset, folder / "run", epochs=2, batch_size=8)


@pytest.fixture
def evaluated(run):
    """Calls the command, and reads the file that it has written."""

    def call(*arguments, code=0, out=run.folder / "evaluation.json"):
        assert cli.main(["evaluate", str(run.folder), *QUICK, *arguments]) == code
        return json.loads(out.read_text()) if code == 0 else None

    yield call
    for name in ("evaluation.json", certificate.LEDGER):
        (run.folder / name).unlink(missing_ok=True)


def check_nll(content, run, rows):
    """It is that of these very rows, within the errors of the chains, which alone differ."""
    assert content["asked"]["rows"] == fingerprint.sha256(rows)
    assert content["num_examples"] == len(rows)
    found = run.log_likelihood(rows, SETTINGS)
    error = np.sqrt(2 * np.sum(found.standard_errors**2)) / len(rows)
    assert abs(content["nll"] + found.mean) < 5 * error
    assert content["nll_at_most"] > content["nll"]


@pytest.mark.slow
def test_the_nll_is_that_of_all_test_data_with_its_bound(run, evaluated, monkeypatch, capsys):
    content = evaluated()
    dataset = data.reload(train.load(run.folder).config["data"])
    evaluation = report.Evaluation.of(SETTINGS, num_examples=6, num_simulated=0)
    check_nll(content, run, images.choose_images(dataset, evaluation).test)
    assert "NLL at most" in capsys.readouterr().out
    assert len(json.loads((run.folder / certificate.LEDGER).read_text())) == 1  # a look is counted

    # The same question is answered once, and another one needs another file.
    monkeypatch.setattr(measure.Watch, "update", None)  # no chain runs again
    assert evaluated() == content
    assert "already evaluated" in capsys.readouterr().out
    evaluated("--examples=4", code=2)
    err = capsys.readouterr().err
    assert "--out must be another file" in err
    assert "holds an evaluation of other rows;" in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.by_hand
def test_levels_of_a_file_are_drawn_and_measured_in_their_place(run, evaluated, tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (7, 5)).astype(np.uint8)
    np.save(tmp_path / "new.npy", levels)
    out = tmp_path / "new.json"
    content = evaluated(f"--rows={tmp_path / 'new.npy'}", f"--out={out}", out=out)
    key = images.keys_of(report.Evaluation.of(SETTINGS, num_simulated=0)).test_pixels
    check_nll(content, run, run.rows(levels, key))


@pytest.mark.slow
def test_mistakes_are_one_line_before_the_work(run, evaluated, tmp_path, capsys):
    for arguments, message in (
        (["--out=a.csv"], "--out must end in .json, got 'a.csv'"),
        (["--rows=none.npy"], "There is no file"),
        (["--rows=new.npy", "--examples=3"], "--examples is of the run's own data, and --rows"),
        (["--examples=-1"], "--examples must be at least 0, got -1"),
        (["--examples=1"], "--examples must be 0 (all) or at least 2, got 1"),
        (["--start=q"], "--start must be one of posterior, prior"),
        ([f"--data={tmp_path / 'gone.npy'}"], "--data must say where the data of the run"),
    ):
        evaluated(*arguments, code=2)
        captured = capsys.readouterr()
        assert message in captured.err, captured.err
        assert captured.err.count("\n") == 1
    assert cli.main(["evaluate"]) == 2
    assert "RUN is missing" in capsys.readouterr().err
    assert not (run.folder / "evaluation.json").exists()
