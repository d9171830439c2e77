"""Paired comparison of two models against exact likelihoods of linear-Gaussian ones."""

import dataclasses
import types
from functools import partial

import jax
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import evaluate, models
from aiwae_jax.train.trained import Trained

PARAMS = lg.params()
OTHER = PARAMS._replace(theta=PARAMS.theta | {"bias": PARAMS.theta["bias"] + 0.3})
TARGETS = [evaluate.Target.of(lg.model(), params) for params in (PARAMS, OTHER)]
SETTINGS = evaluate.Settings(num_temperatures=30, num_chains=8, num_pilot_data=8)
X = np.asarray(evaluate.simulate(jax.random.key(0), TARGETS[0], 40)[0])
EXACT = [
    np.asarray(jax.vmap(partial(lg.exact_log_likelihood, params.theta))(X), np.float64)
    for params in (PARAMS, OTHER)
]


@pytest.fixture(scope="module")
def found():
    return evaluate.compare(*TARGETS, X, SETTINGS, key=jax.random.key(1))


@pytest.mark.slow
def test_differences_are_the_exact_ones_within_their_errors(found):
    """The mean of 40 squares of z-scores has a standard error of √(2/40) = 0.22."""
    exact = EXACT[0] - EXACT[1]
    z = (found.differences - exact) / found.standard_errors
    assert np.mean(z**2) < 1 + 4 * 0.22
    assert np.abs(z.mean()) < 4 / np.sqrt(len(X))
    of_mean = np.sqrt(np.sum(found.standard_errors**2)) / len(X)
    assert found.mean == pytest.approx(exact.mean(), abs=4 * of_mean)
    # The planted fault, the other way round, is far out.
    assert np.mean(((-found.differences - exact) / found.standard_errors) ** 2) > 10


def test_errors_are_those_of_both_estimates_and_over_the_data(found):
    first, second = found.found
    np.testing.assert_allclose(
        found.standard_errors, np.hypot(first.standard_errors, second.standard_errors)
    )
    assert found.standard_error == pytest.approx(found.differences.std(ddof=1) / np.sqrt(len(X)))
    unpaired = np.hypot(first.standard_error, second.standard_error)
    assert found.standard_error < 0.6 * unpaired  # what pairing is for
    assert not np.allclose(first.log_likelihood - EXACT[0], second.log_likelihood - EXACT[1])


def test_data_that_neither_model_explains_are_left_out_and_named():
    both = np.array([[-2.0, -np.inf, -4.0], [-3.0, -np.inf, -3.5]])
    pair = evaluate.Comparison.of(both, np.full((2, 3), 0.1), [[True, False, True]] * 2)
    assert pair.mean == pytest.approx(0.25)
    assert pair.standard_error == pytest.approx(0.75)
    assert "left out, for neither model explains them: 1 of 3 data (row 1)" in pair.summary
    none = evaluate.Comparison.of(both[:, 1:2], np.ones((2, 1)), [[False], [False]])
    assert np.isnan(none.mean)
    assert "neither model explains them: 1 of 1 data" in none.summary


def test_a_datum_on_which_one_model_breaks_is_not_left_out_in_its_favour():
    both = np.array([[-1.0, np.nan, -3.0], [-2.0, -1.0, -3.0]])
    pair = evaluate.Comparison.of(both, np.full((2, 3), 0.1), np.ones((2, 3), bool))
    assert np.isnan(pair.mean)
    assert "NaN under a model: 1 of 3 data (row 1)" in pair.summary
    assert "neither" not in pair.summary
    one = evaluate.Comparison.of([[-np.inf, -1.0], [-3.0, -3.0]], np.ones((2, 2)), np.ones((2, 2)))
    assert one.mean == -np.inf  # the other model explains it


def test_one_line_says_it_and_names_the_data_not_to_be_relied_on(found):
    assert found.num_unreliable == 0
    assert repr(found) == f"Comparison({found.summary})"
    assert found.summary.endswith("nats over 40 data")
    marked = evaluate.Comparison.of(
        [[-2.0, -3.0, -4.0], [-3.0, -3.0, -3.0]],
        np.full((2, 3), 0.1),
        [[True, True, False], [True, False, False]],
    )
    np.testing.assert_array_equal(marked.is_reliable, [True, False, False])
    assert marked.summary == (
        "log p(x) -3.00 and -3.00, paired difference +0.00 ± 0.58 nats over 3 data; not to be "
        "relied on: 2 of 3 data (rows 1, 2)"
    )
    far = np.concatenate([X[:-1], 40.0 + X[:1]])
    few = dataclasses.replace(SETTINGS, num_temperatures=2)
    compared = evaluate.compare(*TARGETS, far, few)
    np.testing.assert_array_equal(compared.is_reliable[-1:], [False])


def test_what_a_model_sees_of_the_data_is_drawn_once_for_both(found):
    rows = {"rows": lambda x, key: x + jax.random.normal(key, x.shape)}
    noisy = [types.SimpleNamespace(target=lambda t=target: t, **rows) for target in TARGETS]
    compared = evaluate.compare(*noisy, X, SETTINGS, key=jax.random.key(1))
    pixel_key, *keys = jax.random.split(jax.random.key(1), 3)
    seen = X + np.asarray(jax.random.normal(pixel_key, X.shape))
    expected = evaluate.log_likelihood(keys[1], TARGETS[1], seen, SETTINGS)
    np.testing.assert_array_equal(compared.log_likelihoods[1], expected.log_likelihood)
    with pytest.raises(ValueError, match="do not see the same data of `x`"):
        evaluate.compare(noisy[0], TARGETS[1], X, SETTINGS)


@pytest.mark.slow
def test_runs_of_grey_levels_see_the_same_bits():
    levels = np.random.default_rng(0).integers(0, 4, (10, 6)).astype(np.uint8)
    model = models.bernoulli_vae(6, 2, hidden_sizes=(4,), initialization="torch")
    runs = [Trained(model, model.init(jax.random.key(i)), max_level=3.0) for i in range(2)]
    settings = evaluate.Settings(num_temperatures=5, num_chains=2, num_pilot_data=2)
    compared = evaluate.compare(*runs, levels, settings, key=jax.random.key(3))
    pixel_key, *keys = jax.random.split(jax.random.key(3), 3)
    bits = runs[0].rows(levels, pixel_key)
    expected = evaluate.log_likelihood(keys[1], runs[1].target(), bits, settings)
    np.testing.assert_array_equal(compared.log_likelihoods[1], expected.log_likelihood)
    with pytest.raises(ValueError, match="do not see the same data of `x`"):
        evaluate.compare(runs[0], runs[1].target(), levels, settings)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(TypeError, match=r"`run_b` must be an `evaluate\.Target`, or have a"):
        evaluate.compare(TARGETS[0], lg.model(), X)
    whole, part = (
        types.SimpleNamespace(
            target=lambda: TARGETS[0], model=types.SimpleNamespace(is_conditional=is_conditional)
        )
        for is_conditional in (False, True)
    )
    with pytest.raises(ValueError, match="`run_b` is of a part of each datum given the rest"):
        evaluate.compare(whole, part, X)
    more = types.SimpleNamespace(
        target=part.target, model=types.SimpleNamespace(is_conditional=True, num_given=2)
    )
    with pytest.raises(ValueError, match="`run_a` is given 0 and `run_b` is given 2 columns"):
        evaluate.compare(part, more, X)
    with pytest.raises(ValueError, match=r"`standard_errors` must be two rows .* \[2, N\]"):
        evaluate.Comparison.of(np.zeros((2, 3)), np.zeros(3), np.ones((2, 3)))
    with pytest.raises(TypeError, match="`key` must be one random key"):
        evaluate.compare(*TARGETS, X, key=3)
