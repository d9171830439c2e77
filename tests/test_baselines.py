"""Densities without latents: that they are densities, of the model's own measure."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from aiwae_jax import data, evaluate, likelihoods, models
from aiwae_jax.report import baselines

CHANCE = np.random.default_rng(0)
OPTIONS = {"latent_size": 2, "hidden_sizes": (3,), "initialization": "torch"}
# Two kinds of rows, which no independent columns explain.
KIND = CHANCE.integers(0, 2, (200, 1))
BITS = (CHANCE.uniform(size=(200, 4)) < np.where(KIND, 0.9, 0.1)).astype(np.float32)
REALS = np.concatenate([3.0 * KIND + CHANCE.normal(size=(200, 1)), 50.0 * KIND + 900.0], axis=1)
REALS[:, 1] += CHANCE.normal(size=200)


def entries(rows, likelihood, nll=None, **options):
    """Baselines of the last quarter of some rows."""
    dataset = data.from_arrays(rows[:-50], rows[-50:], name="mine", **options)
    model = models.mlp_vae(rows.shape[1], likelihood=likelihood, **OPTIONS)
    theta = jax.eval_shape(model.init, jax.random.key(0)).theta
    theta = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), theta)
    nll = np.zeros(50) if nll is None else nll
    test = np.asarray(dataset.batch_fn(jax.random.key(0), dataset.test))
    found = baselines.entries(nll, test, dataset, model, theta, weights=dataset.test_weights)
    return found.get("baselines")


def densities(rows, kinds, test):
    """Log densities of rows `test` `[M, X]`, by the names of the densities."""
    made = baselines._densities(kinds, np.asarray(rows, np.float64), "columns")
    return {name: -density(np.asarray(rows, np.float64), test) for name, density in made}


def test_probabilities_of_bits_sum_to_one():
    every = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    found = densities(BITS, [("bits", 2)] * 4, every)
    assert len(found) == 2
    for name, log_probs in found.items():
        assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-9), name


def test_probabilities_of_classes_and_counts_sum_to_one():
    classes = CHANCE.integers(0, 3, (50, 1))
    (log_probs,) = densities(classes, [("classes", 5)], np.arange(5.0)[:, None]).values()
    assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-12)
    for rows in (CHANCE.negative_binomial(3, 0.2, (100, 1)), CHANCE.binomial(20, 0.5, (100, 1))):
        (log_probs,) = densities(rows, [("counts", 0)], np.arange(400.0)[:, None]).values()
        assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-6)
        mean = np.exp(log_probs) @ np.arange(400.0)
        assert mean == pytest.approx(rows.mean(), rel=0.01)


def test_densities_of_real_numbers_are_in_their_own_units():
    grid = np.linspace(-30.0, 30.0, 20_001)[:, None]
    for log_densities in densities(REALS[:, :1], [("real", 0)], grid).values():
        assert np.exp(log_densities).sum() * 0.003 == pytest.approx(1.0, abs=1e-4)
    kinds, scale = [("real", 0)] * 2, np.array([1.0, 1000.0])
    for name, found in densities(REALS, kinds, REALS).items():
        other = densities(REALS * scale, kinds, REALS * scale)[name]
        np.testing.assert_allclose(other + np.log(1000.0), found, rtol=1e-6, atol=1e-6)
    mean, deviation = REALS.mean(axis=0), REALS.std(axis=0)
    exact = stats.norm(mean, deviation).logpdf(REALS).sum(axis=1)
    np.testing.assert_allclose(densities(REALS, kinds, REALS)["independent columns"], exact)
    share = 1.0 / (1.0 + len(REALS) / 2)
    covariance = (1.0 - share) * np.cov(REALS.T, bias=True) + share * np.diag(deviation**2)
    exact = stats.multivariate_normal(mean, covariance).logpdf(REALS)
    full = densities(REALS, kinds, REALS)["one normal distribution with full covariance"]
    np.testing.assert_allclose(full, exact)


def test_the_best_one_comes_first_and_is_paired_with_the_model():
    nll = CHANCE.normal(size=50)
    first, second = entries(BITS, likelihoods.bernoulli(), nll)
    assert first["name"] == "a mixture of 7 vectors of independent columns"
    assert second["name"] == "independent columns"
    assert second["nll_test"] > first["nll_test"] + 5 * second["difference_se"]
    assert first["difference"] == pytest.approx(first["nll_test"] - nll.mean())
    of_pixels = entries(BITS, likelihoods.bernoulli(), nll, image_shape=(2, 2))
    assert of_pixels[1]["name"] == "independent pixels"
    mean, error = evaluate.mean_and_standard_error(np.full(50, second["nll_test"]) - nll)
    assert second["difference"] == pytest.approx(mean)
    assert second["difference_se"] != pytest.approx(error)  # of pairs, whose rows both share
    names = [each["name"] for each in entries(REALS, likelihoods.normal())]
    assert len(names) == 3
    assert names[-1] == "independent columns"


def test_missing_cells_count_for_nothing():
    rows = np.where(CHANCE.uniform(size=REALS.shape) < 0.2, np.nan, REALS)
    (found,) = densities(rows, [("real", 0)] * 2, rows).values()
    known = rows[:, 0][~np.isnan(rows[:, 0])]
    only = np.isnan(rows[:, 1]) & ~np.isnan(rows[:, 0])
    exact = stats.norm(known.mean(), known.std()).logpdf(rows[only, 0])
    np.testing.assert_allclose(found[only], exact)
    assert (found[np.isnan(rows).all(axis=1)] == 0).all()


def test_every_column_is_of_its_own_kind_and_what_is_not_known_has_none():
    names = ("a", "b", "c")
    mixed = likelihoods.columns(
        {
            "b": likelihoods.negative_binomial(),
            "c,a": likelihoods.masked(
                likelihoods.standardized(likelihoods.normal(), np.zeros(2), np.ones(2))
            ),
        },
        names,
    )
    kinds = {
        "mixed": (mixed, [("real", 0), ("counts", 0), ("real", 0)]),
        "levels": (likelihoods.discretized_logistic(16), [("classes", 16)] * 3),
        "classes": (likelihoods.categorical((2, 3, 4)), [("classes", n) for n in (2, 3, 4)]),
        "student": (likelihoods.student_t(), [("real", 0)] * 3),
        "library": (likelihoods.poisson(library=True), None),
    }
    for name, (likelihood, wanted) in kinds.items():
        model = models.mlp_vae(3, likelihood=likelihood, **OPTIONS)
        theta = model.init(jax.random.key(0)).theta
        assert baselines.kinds_of(model, theta, np.zeros(3, np.float32)) == wanted, name
    own = model._replace(likelihood=None)
    assert baselines.kinds_of(own, theta, np.zeros(3, np.float32)) is None


def test_a_constant_column_has_no_density():
    rows = REALS.copy()
    rows[:, 1] = 3.0
    assert entries(rows, likelihoods.normal()) is None


def test_baselines_of_weighted_rows_are_fitted_to_and_averaged_over_them_as_often_as_they_count():
    weights = np.where(KIND[:, 0] == 1, 3.0, 1.0)
    given = {"train_weights": weights[:-50], "test_weights": weights[-50:]}
    (one, *_) = entries(KIND.astype(np.float32), likelihoods.bernoulli(), **given)
    share = weights[:-50] @ KIND[:-50, 0] / weights[:-50].sum()
    of_test = weights[-50:] @ KIND[-50:, 0] / weights[-50:].sum()
    expected = -of_test * np.log(share) - (1 - of_test) * np.log(1 - share)
    assert one["nll_test"] == pytest.approx(expected, abs=0.01)
    (plain, *_) = entries(KIND.astype(np.float32), likelihoods.bernoulli())
    assert abs(plain["nll_test"] - expected) > 0.05


def test_a_column_without_a_value_to_learn_from_is_not_given_away():
    rows = np.array([[1.0, np.nan], [0.0, np.nan], [1.0, np.nan]])
    kinds = [("bits", 2)] * 2
    (found,) = densities(rows, kinds, np.array([[1.0, np.nan], [1.0, 1.0]])).values()
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
