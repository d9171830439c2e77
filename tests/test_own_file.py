"""Tests of `--model=FILE.py:FUNCTION`: a model of one's own on the command line."""

import hashlib
import json

import jax
import pytest
from test_run import TINY, main

from aiwae_jax import train
from experiments import evaluate, flags

SOURCE = """
from aiwae_jax import models


def small(data_size, mean_image):
    return models.bernoulli_vae(data_size, {latent_size}, hidden_sizes=(5,), mean_image=mean_image)
"""
GIVEN = [flag for flag in TINY if not flag.startswith(("--latent_dim", "--hidden_dim"))]
GIVEN += ["--method=aiwae", "--K=2", "--T=3", "--L=2", "--epochs=0.2"]


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_model_of_ones_own_file_is_trained_measured_loaded_and_known_again(tmp_path, capsys):
    path, folder = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(SOURCE.format(latent_size=3))
    given = [*GIVEN, f"--model={path}:small", f"--workdir={folder}"]
    assert main(*given) == 0
    report = json.loads((folder / "report.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert report["config"]["training"]["model"] == f"{path}:small@{digest}"
    page = (folder / "report.html").read_text()
    assert f"--model={path}:small@{digest}" in page
    assert f"mine.py:small@{digest} aiwae K=2" in page
    run = train.load(folder)
    assert run.encode(run.sample(jax.random.key(0), 2)[0])[0].shape == (2, 3)

    path.write_text(SOURCE.format(latent_size=3) + "# changed\n")
    assert main(*given) == 2
    assert f"small@{digest} there, " in capsys.readouterr().err
    assert evaluate.main(["evaluate", f"--workdir={folder}", "--eval_seed=1"]) == 2
    assert "mine.py has changed, its SHA-256 begins with" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_model_for_images_of_one_size_is_built_with_the_data(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from aiwae_jax import models\n\n\ndef fixed(mean_image):\n"
        "    return models.bernoulli_vae(64, 3, hidden_sizes=(5,), mean_image=mean_image)\n"
    )
    given = [*GIVEN, f"--model={path}:fixed", f"--workdir={tmp_path / 'run'}", "--eval=none"]
    assert main(*given) == 0


def test_an_error_of_the_file_names_it(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("def broken():\n    return (1,) + None\n")
    assert main(*GIVEN, f"--model={path}:broken", f"--workdir={tmp_path / 'run'}") == 2
    error = capsys.readouterr().err
    assert f"broken in {path} failed (TypeError: " in error
    assert len(error.splitlines()) == 1


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
