"""Pictures of posteriors of two latents."""

import json

import numpy as np
import pytest

from aiwae_jax import data
from experiments import posteriors


def test_one_image_of_each_class_is_binary_and_of_its_class():
    dataset = data.load("digits", None)
    images, classes = posteriors.one_image_per_class(dataset)
    assert images.shape == (10, 64)
    assert set(np.unique(images)) == {0.0, 1.0}
    assert list(classes) == list(range(10))
    for image, label in zip(images, classes, strict=True):
        grey = dataset.test[dataset.test_labels == label][0]
        assert np.all(grey[image == 1.0] > 0)  # only a pixel with ink can be drawn as 1
    with pytest.raises(data.DataError, match="has no labels"):
        posteriors.one_image_per_class(dataset._replace(test_labels=None))


@pytest.mark.parametrize("flag", ["--latent_dim=3", "--repeats=2"])
def test_what_a_picture_cannot_show_is_refused_before_any_work(flag, tmp_path, capsys):
    folder = tmp_path / "runs"
    assert posteriors.main(["posteriors", f"--workdir={folder}", "--dataset=digits", flag]) == 2
    assert flag.partition("=")[0] in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.by_hand
def test_pictures_are_drawn_for_each_class_and_stated_with_their_divergence(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(posteriors, "_NUM_CHAINS", 200)
    arguments = [
        *("posteriors", f"--workdir={tmp_path}", "--dataset=digits", "--K=2", "--T=3"),
        *("--stages=2", "--hidden_dim=8", "--batch_size=64"),
    ]
    assert posteriors.main(arguments) == 0
    text = capfd.readouterr().out
    assert text.count("python -m experiments.run") == 2
    assert "mean KL from a Gaussian" in text
    figures = tmp_path / "figures"
    assert len(list(figures.glob("posterior-*.png"))) == 10
    assert (figures / "images.png").exists()
    content = json.loads((figures / "posteriors.json").read_text())
    assert len(content) == 2
    for found in content.values():
        for panel in found.values():
            assert panel["kl_from_gaussian"] > -1e-6
            np.testing.assert_allclose(
                panel["log_evidence_by_ais"], panel["log_evidence"], atol=0.1
            )
            assert np.linalg.eigvalsh(panel["covariance"]).min() > 0

    assert posteriors.main(arguments) == 0  # trained already; only drawn again
    assert "python -m experiments.run" not in capfd.readouterr().out
