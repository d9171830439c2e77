"""Words of a report: of this run, of its data, and of nothing else."""

import math

import eight_units as eu
import jax
import numpy as np
import pytest
from test_contents import shown

from aiwae_jax import data, likelihoods, models
from aiwae_jax.report import levels, page, pictures, text

CHANCE = np.random.default_rng(0)
LEVELS = CHANCE.integers(0, 256, (20, 12)).astype(np.uint8)
TABLE = data.from_arrays(CHANCE.normal(size=(8, 4)), CHANCE.normal(size=(4, 4)), name="table")
IMAGES = data.from_arrays(LEVELS[:12], LEVELS[12:], name="mine", image_shape=(3, 4))
ROWS = data.from_arrays(LEVELS[:12], LEVELS[12:], name="mine")
OPTIONS = {"latent_size": 2, "hidden_sizes": (3,), "initialization": "torch"}
MODEL = models.bernoulli_vae(12, 2, hidden_sizes=(3,), initialization="torch")
RECORDS = [{"step": 1, "epoch": 1, "theta/objective": -3.0}]
VALIDATED = [*RECORDS, {"step": 2, "epoch": 2, "validation/bound": -3.0}]


def captions(dataset=IMAGES, model=MODEL, start="posterior", records=RECORDS, with_best=False):
    return pictures.captions(dataset, model, start, records, with_best=with_best)


def test_captions_speak_of_this_run_only():
    plain = captions()
    of_conditions = {"condition_samples.png", "condition_traversals.png", "confusion.png"}
    assert set(plain) == set(pictures.NAMES) - of_conditions
    said = " ".join(plain.values())
    for word in ("Validation", "Dashed: the epoch", "upper half", "sample of", "bits", "rows"):
        assert word not in said, word
    with_bound = [{**record, "theta/log_likelihood_bound": -2.0} for record in VALIDATED]
    assert captions(records=with_bound)["learning_curves.png"] == (
        "The model's lower bound of log p(x); higher is better. Training: averages over each epoch."
        " Validation: training images that were held out."
    )
    assert "no bound of log p(x)" in plain["learning_curves.png"]
    table = captions(TABLE, records=VALIDATED, with_best=True)["learning_curves.png"]
    assert table.endswith(
        "training rows that were held out. Dashed: the epoch of the best weights."
    )
    grey = captions(IMAGES._replace(max_level=255.0), start="prior")["reconstructions.png"]
    assert grey == (
        "Test images, drawn as bits once, and below each row the mean of p(x|z) at the mean of "
        "the prior."
    )
    binary = captions(model=eu.PREDICTOR)
    assert "the upper half of one test image" in binary["samples.png"]
    assert "at a sample of q(z|x)" in binary["reconstructions.png"]


@pytest.mark.parametrize(("dataset", "noun"), [(TABLE, "rows"), (IMAGES, "images")])
def test_a_page_calls_the_data_what_they_are(dataset, noun, tmp_path):
    content = shown(data=dataset.describe(), pictures=[])
    content["config"] |= {"model": None, "method": None}
    del content["paper"]
    description = text.describe(content)
    assert f"; 3 {noun}, " in text.table(content, description)
    written = page.render(tmp_path, content, description, captions(dataset))
    assert f"over 3 {noun};" in written
    other = {"rows": "images", "images": "rows"}[noun]
    assert f" {other}" not in written.partition("<h2>Training")[0].partition("</style>")[2]
    earlier = {name: value for name, value in content["data"].items() if name != "image_shape"}
    assert text.describe(content | {"data": earlier}).data == "data"
    assert text.noun(earlier | {"columns": ["a"]}) == "rows"


def theta_of(model):
    """Zeros, for it is only looked at."""
    shapes = jax.eval_shape(model.init, jax.random.key(0)).theta
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def model_of(likelihood):
    return models.mlp_vae(12, likelihood=likelihood, **OPTIONS)


def test_bits_per_dimension_are_those_of_the_exact_code_length(tmp_path):
    """Of uniform levels an NLL of X ln 256 is 8 bits for each."""
    model = model_of(likelihoods.discretized_logistic())
    theta = theta_of(model)
    nll = 12 * math.log(256) * np.array([0.5, 1.0, 1.5])
    found = levels.bits_per_dim(nll, IMAGES, model, theta)
    assert found["bits_per_dim"] == pytest.approx(8.0)
    assert found["bits_per_dim_se"] == pytest.approx(4.0 / math.sqrt(3))
    assert (found["num_levels"], found["num_dims"]) == (256, 12)
    content = shown(data=IMAGES.describe(), pictures=[]) | found
    content["config"] |= {"model": None, "method": None}
    del content["paper"]
    table = text.table(content, text.describe(content))
    assert "8.000 ± 2.309  NLL (test) / (12 ln 2), of 256 levels" in table
    written = page.render(tmp_path, content, text.describe(content), captions())
    assert "bits per dimension (test)</th><td>8.000 ± 2.309</td>" in written
    assert "Bits per dimension: NLL (test) / (12 ln 2), of 256 levels." in written


@pytest.mark.parametrize("case", ["no image", "real", "counts", "bits", "your own"])
def test_they_are_said_of_levels_of_images_alone(case):
    logistic = model_of(likelihoods.discretized_logistic())
    dataset, model = {
        "no image": (ROWS, logistic),
        "real": (IMAGES, model_of(likelihoods.normal())),
        "counts": (IMAGES, model_of(likelihoods.poisson())),
        "bits": (IMAGES._replace(max_level=255.0), MODEL),
        "your own": (IMAGES, logistic._replace(likelihood=None)),
    }[case]
    theta = theta_of(model)
    assert levels.bits_per_dim(np.ones(3), dataset, model, theta) == {}


def test_only_densities_have_units():
    own = "; nats are in the data's own units"
    for words, expected in (
        ("normal:a;categorical:b", own),
        ("numpyro", own),
        ("poisson:b; bernoulli", ""),
    ):
        assert text.units_words(words) == expected
    (note,) = text.likelihood_notes(
        {"arguments": {"likelihood": likelihoods.poisson().recipe.summary()}}
    )
    assert note == "the likelihood p(x|z) is poisson"


def test_what_rounds_to_zero_has_no_sign():
    assert text.number(-0.001, 0.002) == "0.00 ± 0.00"
    assert text.number(-0.006, 0.002) == "-0.01 ± 0.00"
    assert text.number(float("nan"), 0.5) == "nan ± 0.50"
