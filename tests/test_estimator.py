"""The estimator for scikit-learn: its contract, its numbers, and rows each for itself."""

import json
import pathlib
import pickle
import re

import numpy as np
import own_table
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import aiwae_jax
from aiwae_jax import data, evaluate, likelihoods, train

FEW = evaluate.Settings(
    num_temperatures=3, num_chains=2, num_leapfrog_steps=1, num_pilot_data=2, num_pilot_chains=2
)
QUICK = {
    "method": "vae",
    "epochs": 2,
    "hidden_sizes": (4,),
    "start": "posterior",
    "evaluation": FEW,
}


def quick(**changed):
    return aiwae_jax.AIWAE(**QUICK | changed)


# At most five, each with its reason.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "A row that is repeated is met by other "
    "random numbers each time, in other batches: only the mean gradient is that of a weight, which "
    "test_row_weights.py compares."
}


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.filterwarnings("ignore:`train` is constant")
@parametrize_with_checks([quick()], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_few_checks_are_expected_to_fail():
    assert len(EXPECTED_FAILURES) <= 5


@pytest.fixture(scope="module")
def rows():
    return own_table.table().train.astype(np.float64)


@pytest.fixture(scope="module")
def fitted(rows):
    return quick().fit(rows)


@pytest.mark.slow
def test_a_row_is_scored_alike_in_any_order_and_company(fitted, rows):
    scores = fitted.score_samples(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_array_equal(fitted.score_samples(rows[order]), scores[order])
    np.testing.assert_array_equal(fitted.score_samples(rows[7:8]), scores[7:8])
    more = np.concatenate([rows[:5], rows[::-1], 3.0 + rows])  # more than one chunk
    np.testing.assert_array_equal(fitted.score_samples(more)[:5], scores[:5])
    means = fitted.transform(rows)
    np.testing.assert_array_equal(fitted.transform(rows[order]), means[order])
    np.testing.assert_array_equal(fitted.transform(rows[7:8]), means[7:8])
    signed = np.zeros((2, rows.shape[1]))
    signed[0] = -0.0
    assert len(np.unique(fitted.score_samples(signed))) == 1


@pytest.mark.slow
def test_equal_fits_are_equal_and_what_is_pickled_is_the_same(fitted, rows):
    scores = fitted.score_samples(rows)
    again = clone(fitted).fit(rows)
    np.testing.assert_array_equal(again.score_samples(rows), scores)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.score_samples(rows), scores)
    np.testing.assert_array_equal(loaded.sample(3), fitted.sample(3))
    assert not np.array_equal(fitted.sample(3), fitted.sample(3, random_state=1))


@pytest.mark.slow
def test_the_score_is_the_likelihood_of_a_normal_where_the_model_is_one():
    """Without latents of use, of x ~ N(5, diag(1, 100)): in x's own units, standardized inside."""
    chance = np.random.default_rng(0)
    mean, stddev = np.array([5.0, -300.0]), np.array([1.0, 100.0])
    rows = mean + stddev * chance.normal(size=(600, 2))
    settings = evaluate.Settings(num_temperatures=30)
    estimator = aiwae_jax.AIWAE(
        "vae", latent_size=1, hidden_sizes=(8,), epochs=60, evaluation=settings, learning_rate=3e-3
    ).fit(rows)
    new = mean + stddev * chance.normal(size=(400, 2))
    noise = (new - mean) / stddev
    exact = -0.5 * (noise**2 + np.log(2 * np.pi * stddev**2)).sum(axis=1)
    difference = estimator.score_samples(new) - exact
    # What learning 600 rows costs: about half a nat per 600 for each of its few effective numbers.
    assert abs(difference.mean()) < 0.05 + 3 * difference.std() / np.sqrt(len(new))
    assert estimator.score(new) == pytest.approx(estimator.score_samples(new).mean())
    found = estimator.log_likelihood(new)
    assert found.is_reliable.all()
    assert found.standard_errors.shape == (400,)
    drawn = estimator.sample(4000)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.15 * stddev.max(), rtol=0.05)
    np.testing.assert_allclose(drawn.std(axis=0), stddev, rtol=0.1)


@pytest.mark.slow
@pytest.mark.by_hand
def test_rows_with_gaps_are_scored_by_what_they_have(rows):
    gaps = np.where(np.random.default_rng(0).random(rows.shape) < 0.2, np.nan, rows)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        quick().fit(gaps)
    estimator = quick(missing="at_random", start="prior").fit(gaps)
    assert "likelihoods.masked" in json.dumps(estimator.model_)
    scores = estimator.score_samples(gaps)
    np.testing.assert_array_equal(estimator.score_samples(gaps[::-1]), scores[::-1])
    few = np.full((1, rows.shape[1]), np.nan)
    assert estimator.score_samples(few)[0] == pytest.approx(0.0, abs=1e-5)  # log p of nothing
    assert estimator.transform(gaps).shape == (60, 2)
    filled = estimator.impute(gaps[:5])
    is_there = ~np.isnan(gaps[:5])
    np.testing.assert_array_equal(filled[is_there], gaps[:5][is_there].astype(np.float32))
    assert np.isfinite(filled).all()
    bits = np.where(np.isnan(gaps), np.nan, gaps > 0)
    dataset = data.from_arrays(bits, bits, missing="at_random")
    given = quick(likelihood=likelihoods.bernoulli(), missing="at_random")
    for each in (given, quick(missing="at_random")):
        assert "likelihoods.bernoulli" in each._describe(dataset)


def test_means_there_and_back_have_the_shapes_of_the_data(fitted, rows):
    latents = fitted.transform(rows)
    assert latents.shape == (60, 2)
    assert fitted.inverse_transform(latents).shape == rows.shape
    assert fitted.get_feature_names_out().tolist() == ["aiwae0", "aiwae1"]
    with pytest.raises(ValueError, match="`z` must be rows of the 2 numbers"):
        fitted.inverse_transform(rows)


def test_bits_are_bernoulli_and_a_likelihood_may_be_given():
    bits = np.random.default_rng(0).integers(0, 2, (40, 4))
    assert "likelihoods.bernoulli" in quick()._describe(data.from_arrays(bits, bits))
    assert "likelihoods.normal" in quick()._describe(data.from_arrays(bits / 2, bits))
    counts = 3 + bits
    likelihood = likelihoods.poisson()
    for given in ("poisson", likelihood, clone(quick(likelihood=likelihood)).likelihood):
        found = quick(likelihood=given)._describe(data.from_arrays(counts, counts))
        assert "likelihoods.poisson" in found


@pytest.mark.slow
@pytest.mark.by_hand
def test_the_run_is_kept_where_a_folder_is_given(rows, tmp_path, capsys):
    estimator = quick(folder=tmp_path / "run", verbose=True).fit(rows)
    assert "training 100%" in capsys.readouterr().err
    run = aiwae_jax.load(tmp_path / "run")
    assert isinstance(run, train.Run)
    np.testing.assert_allclose(run.encode(rows)[0], estimator.transform(rows), rtol=1e-5)
    quick(folder=tmp_path / "run").fit(rows)  # finished
    with pytest.raises(ValueError, match="holds a run of another configuration"):
        quick(folder=tmp_path / "run", epochs=3).fit(rows)
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_line(rows):
    for changed, message in (
        ({"method": "gan"}, "`method` must be one of vae, .*; got 'gan'"),
        ({"start": "q"}, "`start` must be one of posterior, prior, tighter; got 'q'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"likelihood": "norml"}, "`likelihood` must be one of"),
        ({"epochs": 0}, "`epochs` must be positive, got 0"),
        ({"latent_size": 0}, "`latent_size`"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(**changed).fit(rows)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        quick().fit(np.full_like(rows, np.nan))
    with pytest.raises(ValueError, match="must not be blank"):
        quick().fit(np.ones_like(rows))


@pytest.mark.slow
@pytest.mark.by_hand
def test_it_is_searched_and_piped(rows):
    half = FunctionTransformer(lambda x: x / 2)
    pipe = make_pipeline(half, quick())
    search = GridSearchCV(pipe, {"aiwae__latent_size": [1, 2]}, cv=2).fit(rows)
    assert search.best_params_["aiwae__latent_size"] in (1, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
@pytest.mark.by_hand
def test_what_the_document_shows_runs(rows):
    page = (pathlib.Path(__file__).parent.parent / "docs" / "trained.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if ">>>" not in b]
    found = {"aiwae_jax": aiwae_jax, "np": np, "rows": rows, "new": rows[50:]}
    exec(compile(block, "trained.md", "exec"), found)
    assert found["estimator"].start_ in ("posterior", "prior")
    assert found["latents"].shape == (10, 2)
