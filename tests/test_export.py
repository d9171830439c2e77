"""A model's file is read by NumPy alone, and its decoder computed without this package."""

import json
import subprocess
import sys

import jax
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import likelihoods, models, train
from aiwae_jax.runs import files

_WITH_NUMPY_ALONE = """
import json, sys
import numpy as np

arrays = np.load(sys.argv[1])
about = json.loads(str(arrays["about"]))
hidden = np.load(sys.argv[2])
for i in range(len(about["model"]["arguments"]["hidden_sizes"])):
    layer = f"theta.hidden.{i}"
    hidden = np.tanh(hidden @ arrays[f"{layer}.kernel"] + arrays[f"{layer}.bias"])
logits = hidden @ arrays["theta.heads.0.kernel"] + arrays["theta.heads.0.bias"]
np.save(sys.argv[3], 1 / (1 + np.exp(-logits)))
print(sorted(name for name in sys.modules if name.startswith(("jax", "aiwae_jax"))))
"""


def test_numpy_alone_computes_the_mean(tmp_path):
    model = models.bernoulli_vae(6, 2, hidden_sizes=(4, 3), initialization="torch")
    run = train.Trained(model, model.init(jax.random.key(0)), max_level=16.0)
    run.export(tmp_path / "model.npz")
    z = np.random.default_rng(0).normal(size=(7, 2))
    np.save(tmp_path / "z.npy", z)
    paths = [str(tmp_path / name) for name in ("model.npz", "z.npy", "mean.npy")]
    command = [sys.executable, "-I", "-c", _WITH_NUMPY_ALONE, *paths]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), run.decode(z), rtol=1e-5)


def test_every_array_is_there_and_is_described(tmp_path):
    run = train.Trained(lg.model(), lg.params())
    run.export(tmp_path / "model.npz")
    arrays = files.read_arrays(tmp_path / "model.npz")
    about = json.loads(str(arrays.pop("about")))
    assert about["model"] is None  # of one's own
    assert about["data_size"] == lg.X
    assert about["arrays"] == {name: list(array.shape) for name, array in arrays.items()}
    np.testing.assert_array_equal(arrays["theta.weight"], lg.WEIGHT)
    np.testing.assert_array_equal(arrays["phi.log_scale"], lg.params().phi["log_scale"])


def test_a_place_that_takes_no_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    run = train.Trained(lg.model(), lg.params())
    with pytest.raises(files.WorkdirError, match=r"`path`: .* cannot be made a folder"):
        run.export(tmp_path / "file" / "model.npz")


def test_what_rows_are_standardized_by_is_there(tmp_path):
    rows = np.random.default_rng(0).normal(5.0, 3.0, (40, 3))
    of_rows = likelihoods.standardize(likelihoods.normal("per_column"), rows)
    model = models.mlp_vae(3, 2, likelihood=of_rows, hidden_sizes=(4,))
    train.Trained(model, model.init(jax.random.key(0))).export(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        names = {name.rpartition(".")[2]: name for name in arrays if name.startswith("model.")}
        np.testing.assert_allclose(arrays[names["loc"]], rows.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(arrays[names["scale"]], rows.std(axis=0), rtol=1e-5)
