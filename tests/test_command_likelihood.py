"""`aiwae fit`: which likelihood data of each kind get, what is said of it, and what is refused."""

import html
import json

import numpy as np
import pytest

import aiwae_jax
from aiwae_jax import data, likelihoods
from aiwae_jax.cli import completion, flags, likelihood
from aiwae_jax.cli import main as cli
from aiwae_jax.cli.settings import Fitting

CHANCE = np.random.default_rng(0)
ROWS = {
    "bits": CHANCE.integers(0, 2, (40, 6)),
    "grey": CHANCE.integers(0, 256, (40, 2, 3)).astype(np.uint8),
    "counts": CHANCE.poisson(4.0, (40, 6)) + 40 * (CHANCE.random((40, 6)) < 0.02),
    "real": CHANCE.normal(size=(40, 6)) * 10,
}
NAMES = ("age", "income", "colour", "shape", "visits", "share")
TABLE = np.stack(
    [
        CHANCE.normal(40, 10, 40),
        CHANCE.normal(2000, 500, 40),
        np.arange(40) % 3,
        np.arange(40) % 2,
        CHANCE.poisson(3, 40),
        CHANCE.random(40),
    ],
    axis=1,
)


def dataset_of(rows, **options):
    return data.from_arrays(rows[:30], rows[30:], **options)


def mixed():
    categories = {"colour": ("red", "green", "blue"), "shape": ("round", "square")}
    return dataset_of(TABLE, columns=NAMES, categories=categories)


def fitting_of(**given):
    return completion.complete(Fitting, {"latent_size": 2, "hidden_size": 4, **given})


@pytest.mark.parametrize(
    ("kind", "name", "builder"),
    [
        ("bits", "bernoulli", "models.bernoulli_vae"),
        ("grey", "bernoulli", "models.bernoulli_vae"),
        ("counts", "negative_binomial", "models.mlp_vae"),
        ("real", "normal", "models.mlp_vae"),
    ],
)
def test_what_is_not_given_fits_the_data_and_is_said(kind, name, builder):
    fitting = fitting_of()
    chosen = likelihood.choose(fitting, dataset_of(ROWS[kind]))
    assert chosen.words.startswith(f"{name}, which fits these values; --likelihood=")
    assert chosen.dataset.max_level == (255.0 if kind == "grey" else None)
    model = likelihood.build_model(fitting, chosen)
    assert model.built_by.builder == builder
    if kind == "real":
        written = model.built_by.to_json()["arguments"]["likelihood"]
        assert written["builder"] == "likelihoods.standardized"
        assert written["arguments"]["base"]["arguments"]["scale"] == "per_column"


def test_columns_of_several_kinds_have_each_what_fits():
    chosen = likelihood.choose(fitting_of(), mixed())
    assert chosen.words.startswith(
        "normal:age,income,share;categorical:colour,shape;negative_binomial:visits, which fits"
    )
    assert chosen.likelihood.head_sizes(6) == (3, 5, 1)
    given = "poisson:visits;categorical:colour,shape;student_t+df=4:age,income;normal"
    chosen = likelihood.choose(fitting_of(likelihood=given), mixed())
    assert chosen.words == given
    assert chosen.likelihood.head_sizes(6) == (1, 5, 2, 1)


def test_a_category_that_no_training_row_has_is_one_all_the_same():
    rows = np.stack([np.arange(40) // 30, np.arange(40) % 2], axis=1)
    dataset = dataset_of(rows, columns=("a", "b"), categories={"a": "xyz", "b": "uv"})
    assert likelihood.choose(fitting_of(), dataset).likelihood.head_sizes(2) == (5,)


def test_a_constant_column_is_said():
    with pytest.warns(UserWarning, match="`train` is constant in column 'flat'"):
        likelihood.choose(
            fitting_of(),
            dataset_of(np.stack([TABLE[:, 0], np.full(40, 0.5)], 1), columns=("age", "flat")),
        )


def test_levels_of_images_may_be_seen_as_they_are():
    fitting = fitting_of(likelihood="discretized_logistic", network="conv", channels="3")
    chosen = likelihood.choose(fitting, dataset_of(ROWS["grey"], max_level=255))
    assert chosen.dataset.max_level is None
    model = likelihood.build_model(fitting, chosen)
    assert model.built_by.builder == "models.conv_vae"
    assert model.built_by.arguments["channels"] == (3,)
    again = likelihood.as_trained(
        dataset_of(ROWS["grey"], max_level=255), {"data": {"max_level": None}}
    )
    assert again.max_level is None


def test_a_library_is_a_column_that_the_model_is_given():
    plain = dataset_of(ROWS["counts"] + 1)
    fitting = fitting_of(likelihood="negative_binomial+library=true")
    chosen = likelihood.choose(fitting, plain)
    np.testing.assert_array_equal(chosen.dataset.train[:, -1], plain.train.sum(axis=1))
    model = likelihood.build_model(fitting, chosen)
    assert model.is_conditional
    config = {"data": {}, "model": model.built_by.to_json()}
    again = likelihood.as_trained(plain, config)
    np.testing.assert_array_equal(again.test, chosen.dataset.test)
    with pytest.raises(flags.UsageError, match="positive total each, got 0 in row 2"):
        likelihood.choose(fitting, dataset_of(ROWS["counts"] * (np.arange(40) != 2)[:, None]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"likelihood": "gauss"}, "--likelihood must be one of bernoulli, normal, "),
        ({"likelihood": "normal:age;poisson:age"}, "'age' twice"),
        ({"likelihood": "normal:size;poisson"}, "a column 'size', and there is none"),
        ({"likelihood": "poisson"}, r"`train` must be whole numbers .* in row 0, column 'age'"),
        ({"likelihood": "poisson:visits", "standardize": True}, "--standardize is for columns"),
        ({"network": "conv", "likelihood": "normal"}, "--network=conv is for images"),
        ({"channels": "3,4"}, "--channels belongs to --network=conv"),
        ({"hidden_sizes": "3,0"}, "--hidden_sizes must be positive numbers"),
        (
            {"hidden_sizes": "3", "hidden_size": 3},
            "--hidden_sizes stands in the place of --hidden_dim",
        ),
        ({"num_components": 3}, "--prior_components belongs to --prior=mixture"),
        (
            {"model": "two_layer", "prior": "mixture"},
            "--prior does not belong to --model=two_layer",
        ),
        ({"model": "sbn", "likelihood": "normal"}, "--likelihood does not belong to --model=sbn"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(given, message):
    def fit():
        fitting = completion.complete(Fitting, given)
        likelihood.build_model(fitting, likelihood.choose(fitting, mixed()))

    with pytest.raises(flags.UsageError, match=message):
        fit()


def test_networks_are_the_ones_asked_for():
    fitting = completion.complete(
        Fitting,
        {"latent_size": 2, "hidden_sizes": "5,3", "activation": "relu", "prior": "mixture"},
    )
    assert fitting.hidden_size is None
    chosen = likelihood.choose(fitting, dataset_of(ROWS["bits"]))
    arguments = likelihood.build_model(fitting, chosen).built_by.arguments
    assert arguments["hidden_sizes"] == (5, 3)
    assert arguments["activation"] == "relu"
    assert arguments["prior"] == "mixture"
    plain = completion.complete(Fitting, {"latent_size": 2, "hidden_sizes": "5,3"})
    paper = likelihood.build_model(plain, likelihood.choose(plain, dataset_of(ROWS["bits"])))
    assert paper.built_by.builder == "models.bernoulli_vae"
    assert paper.built_by.arguments["hidden_sizes"] == (5, 3)


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_table_is_fitted_reported_and_loaded_by_one_command_each(tmp_path, capsys):
    path, folder = tmp_path / "table.npz", tmp_path / "run"
    np.savez(path, train=TABLE[:30], test=TABLE[30:])
    given = ["fit", str(path), f"--folder={folder}", "--hidden_sizes=6", "--latent_dim=2"]
    given += ["--likelihood=categorical:2,3;negative_binomial:4;normal", "--batch_size=10"]
    given += ["--method=vae", "--epochs=2", "--activation=silu", "--prior=mixture"]
    assert cli.main(given) == 0
    assert "likelihood: categorical:2,3;negative_binomial:4;normal\n" in capsys.readouterr().out
    small = ["--temperatures=5", "--chains=2", "--simulated=2", "--bound_samples=50"]
    assert cli.main(["report", str(folder), "--examples=4", *small]) == 0
    said = capsys.readouterr().out
    assert "p(x|z) is categorical of 2,3; negative_binomial of 4; normal (scale per_col" in said
    assert "nats are in the data's own units" in said
    content = json.loads((folder / "report.json").read_text())
    assert "samples.png" not in content["pictures"]
    assert "in the data's own units" in html.unescape((folder / "report.html").read_text())
    run = aiwae_jax.load(folder)
    assert run.decode(np.zeros((3, 2))).shape == (3, 6)
    assert isinstance(run.model.built_by.arguments["likelihood"], likelihoods.Likelihood)


def test_columns_of_bits_among_real_ones_are_bits():
    rows = np.stack([TABLE[:, 0], TABLE[:, 5], TABLE[:, 3]], axis=1)
    named = dataset_of(rows, columns=("age", "share", "smoker"))
    assert likelihood.choose(fitting_of(), named).text == "normal:age,share;bernoulli:smoker"
    assert likelihood.choose(fitting_of(), dataset_of(rows[:, :2], columns="ab")).text == "normal"
    assert likelihood.choose(fitting_of(), dataset_of(rows)).text == "normal"
