"""What an installed wheel must do away from the checkout; `make wheel` runs it.

python away.py without      in an environment without the extra `run`
python away.py with         with it: fit, kill, resume to the bit, report; and from the shell
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import aiwae_jax
from aiwae_jax import data, evaluate, methods, models, report, train

ROWS = np.random.default_rng(0).integers(0, 2, (200, 12))
SMALL = {"num_examples": 10, "num_simulated": 4, "num_bound_samples": 50}


def fit(folder, epochs=400):
    """The lines of the README."""
    dataset = data.from_arrays(ROWS[:150], ROWS[150:], name="mine", image_shape=(3, 4))
    model = models.bernoulli_vae(12, 2, hidden_sizes=(8, 8), mean_image=ROWS[:150].mean(axis=0))
    method = methods.aiwae(model, 2, 3)
    options = {"batch_size": 30, "checkpoint_minutes": 0.002}
    return dataset, train.fit(method, model, dataset, folder, epochs=epochs, **options)


def parameters(folder):
    """Of a run's newest checkpoint."""
    from aiwae_jax.runs import checkpoint

    return checkpoint.Checkpoints(pathlib.Path(folder) / "checkpoints").read()[1]


def metadata():
    """What the package says of itself arrives."""
    said = importlib.metadata.metadata("aiwae_jax")
    assert said["Version"] == aiwae_jax.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert any(path.name == "py.typed" for path in importlib.metadata.files("aiwae_jax"))


def without_the_extra():
    """One sentence says what to install."""
    for call in (lambda: fit("never"), lambda: aiwae_jax.load("never")):
        said = ""
        try:
            call()
        except ImportError as error:
            said = str(error)
        assert "pip install 'aiwae_jax[run]'" in said
    assert not pathlib.Path("never").exists()


def with_the_extra(root):
    """Trained, killed, continued, measured, loaded; then the same from the shell."""
    cut, whole = root / "cut", root / "whole"
    process = subprocess.Popen([sys.executable, __file__, "fit", str(cut)])
    while not list(cut.glob("checkpoints/[0-9]*")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    was_killed = process.wait() != 0
    dataset, run = fit(cut)
    fit(whole)
    assert was_killed
    for name, array in parameters(cut).items():
        np.testing.assert_array_equal(array, parameters(whole)[name], err_msg=name)

    report.write(run, dataset, evaluate.Settings(num_temperatures=10, num_chains=4), **SMALL)
    assert (cut / "report.html").stat().st_size > 10_000
    assert aiwae_jax.load(cut).encode(ROWS[150:])[0].shape == (50, 2)

    table = np.random.default_rng(1).normal(size=(60, 3))
    np.savetxt(root / "mine.csv", table, delimiter=",", header="a,b,c", comments="")
    aiwae, folder = str(pathlib.Path(sys.executable).with_name("aiwae")), str(root / "shell")
    command = [aiwae, "fit", str(root / "mine.csv"), f"--folder={folder}", "--report"]
    command += ["--epochs=5", "--batch_size=16", "--K=2", "--T=3", "--hidden_dim=8"]
    small = ["--temperatures=10", "--chains=2", "--pilot_data=4"]
    subprocess.run(command, check=True)
    page = (root / "shell" / "report.html").read_text(encoding="utf-8")
    assert f"aiwae fit {root / 'mine.csv'}" in page
    subprocess.run([aiwae, "evaluate", folder, *small], check=True)
    assert (root / "shell" / "evaluation.json").exists()


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(sys.argv[2])
    elif sys.argv[1] == "without":
        metadata()
        without_the_extra()
    else:
        with tempfile.TemporaryDirectory() as name:
            with_the_extra(pathlib.Path(name))
        print("the wheel trains, resumes and reports")
