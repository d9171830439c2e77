"""Tests of `--model=FILE.py:FUNCTION`: a model of one's own on the command line."""

import json

import jax
import pytest
from test_run import TINY, main

from aiwae_jax import train
from experiments import flags

SOURCE = """
from aiwae_jax import models


def small(data_size, mean_image):
    return models.bernoulli_vae(data_size, {latent_size}, hidden_sizes=(5,), mean_image=mean_image)
"""
GIVEN = [flag for flag in TINY if not flag.startswith(("--latent_dim", "--hidden_dim"))]
GIVEN += ["--method=aiwae", "--K=2", "--T=3", "--L=2", "--epochs=0.2"]


def test_a_model_of_ones_own_file_is_trained_measured_loaded_and_known_again(tmp_path, capsys):
    path, folder = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(SOURCE.format(latent_size=3))
    given = [*GIVEN, f"--model={path}:small", f"--workdir={folder}"]
    assert main(*given) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["config"]["training"]["model"] == f"{path}:small"
    assert f"--model={path}:small" in (folder / "report.html").read_text()
    run = train.load(folder)
    assert run.encode(run.sample(jax.random.key(0), 2)[0])[0].shape == (2, 3)

    path.write_text(SOURCE.format(latent_size=3) + "# changed\n")
    assert main(*given) == 2
    assert "--model: its file had another content" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nope", "--model must be one of one_layer, two_layer, sbn, conditional, or FILE.py:FUN"),
        ("{folder}/none.py:small", "none.py cannot be read (No such file or directory)"),
        ("{folder}/mine.py:big", "mine.py has no function big"),
    ],
)
def test_what_is_no_model_is_one_line(model, message, tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE.format(latent_size=3))
    with pytest.raises(flags.UsageError) as caught:
        flags.parse_run(["run", f"--model={model.format(folder=tmp_path)}"])
    assert message in str(caught.value)


def test_options_of_our_models_are_not_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE.format(latent_size=3))
    with pytest.raises(flags.UsageError, match="--latent_dim does not belong to --model="):
        flags.parse_run(["run", f"--model={tmp_path}/mine.py:small", "--latent_dim=3"])
