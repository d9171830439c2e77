"""Evaluation against the exact likelihood of the linear-Gaussian model."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import ais, distributions, evaluate, population

PARAMS = lg.params()
LOG_JOINT = Partial(lg.log_joint, PARAMS.theta)
POSTERIOR = Partial(lg.posterior, PARAMS.phi)
PRIOR = Partial(lambda x: distributions.standard_normal(lg.D))
DATA = np.asarray(
    jax.vmap(lambda key: lg.sample(key, PARAMS.theta)[0])(jax.random.split(jax.random.key(0), 30))
)
EXACT = np.asarray(jax.vmap(partial(lg.exact_log_likelihood, PARAMS.theta))(DATA), np.float64)


def estimate(key=0, initial=POSTERIOR, **options):
    options = {"num_temperatures": 30, "num_chains": 8, "num_leapfrog_steps": 4} | options
    return evaluate.log_likelihood(jax.random.key(key), LOG_JOINT, initial, DATA, **options)


def largest_bias_z_score():
    """Largest |mean of p̂(x) / p(x) - 1| in standard errors, over replications of four data."""
    found = evaluate.log_likelihood(
        jax.random.key(1),
        LOG_JOINT,
        POSTERIOR,
        np.tile(DATA[:4], (500, 1)),
        num_temperatures=6,
        num_chains=8,
        num_leapfrog_steps=4,
        chunk_size=2000,
    )
    ratio = np.exp(found.log_likelihood.astype(np.float64).reshape(500, 4) - EXACT[:4])
    error = ratio.std(axis=0, ddof=1) / 500**0.5
    return float(np.max(np.abs(ratio.mean(axis=0) - 1) / error))


def test_likelihood_estimates_are_unbiased_over_replications():
    """E[p̂(x)] = p(x): the pilots tune, the weights stay unbiased."""
    assert largest_bias_z_score() < 4.0


@pytest.mark.parametrize("initial", [POSTERIOR, PRIOR])
def test_estimates_approach_the_exact_values(initial):
    few = estimate(initial=initial, num_temperatures=4).log_likelihood - EXACT
    many = estimate(initial=initial, num_temperatures=200).log_likelihood - EXACT
    assert np.abs(many).mean() < 0.5 * np.abs(few).mean()
    assert np.abs(many).mean() < 0.15


def test_acceptance_is_near_its_target_at_every_temperature():
    found = estimate(num_temperatures=40)
    assert found.acceptance.shape == found.step_sizes.shape == (38,)
    assert found.acceptance.min() > 0.4
    assert 0.55 < found.acceptance.mean() < 0.85


def test_results_do_not_depend_on_chunks_or_segments(monkeypatch):
    whole = estimate(chunk_size=30)
    monkeypatch.setattr(population.Pace, "num_moves", lambda self: 1)
    cut = estimate(chunk_size=7)
    np.testing.assert_allclose(whole.log_likelihood, cut.log_likelihood, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(whole.step_sizes, cut.step_sizes, rtol=1e-5)


def test_evaluation_chains_match_run_chain():
    """The population loop and `ais.run_chain` give the same weights for the same keys."""
    found = estimate(num_chains=1, num_temperatures=5)
    run_key = jax.random.split(jax.random.key(0))[1]
    q = lg.posterior(PARAMS.phi, jnp.asarray(DATA[3]))
    keys = jax.random.split(jax.random.fold_in(run_key, 3), (2, 1))
    _, log_weight, _ = ais.run_chain(
        keys[1, 0],
        q.sample(keys[0, 0]),
        q.log_prob,
        lambda z: LOG_JOINT(jnp.asarray(DATA[3]), z),
        found.betas,
        found.step_sizes,
        num_leapfrog_steps=4,
        with_last_move=False,
    )
    np.testing.assert_allclose(found.log_likelihood[3], log_weight, rtol=1e-4, atol=1e-5)


def test_neither_new_parameters_nor_more_temperatures_need_a_new_compilation():
    estimate()
    size = population._anneal._cache_size()
    theta = jax.tree.map(lambda a: 0.9 * a, PARAMS.theta)
    evaluate.log_likelihood(
        jax.random.key(0),
        Partial(lg.log_joint, theta),
        POSTERIOR,
        DATA,
        num_temperatures=50,
        num_chains=8,
        num_leapfrog_steps=4,
    )
    assert population._anneal._cache_size() == size


def test_progress_is_reported_up_to_the_total():
    calls = []
    found = estimate(progress_fn=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (found.num_gradients, found.num_gradients)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(calls))


def test_importance_bound_is_below_and_close():
    bound = evaluate.importance_bound(
        jax.random.key(2), LOG_JOINT, POSTERIOR, DATA, num_samples=5000, chunk_size=8
    )
    assert bound.bound.shape == (30,)
    assert bound.num_zero_weight == 0
    assert np.abs(bound.bound - EXACT).max() < 0.2
    loose = evaluate.importance_bound(
        jax.random.key(2), LOG_JOINT, POSTERIOR, np.tile(DATA, (50, 1)), num_samples=1, block_size=1
    )
    gap = np.tile(EXACT, 50) - loose.bound
    assert gap.mean() > 4 * gap.std() / len(gap) ** 0.5


def test_broken_samples_of_the_importance_bound_are_counted():
    def half_broken(x, z):
        return jnp.where(z[0] > 0, LOG_JOINT(x, z), jnp.nan)

    found = evaluate.importance_bound(
        jax.random.key(2), half_broken, POSTERIOR, DATA, num_samples=100
    )
    assert np.isfinite(found.bound).any()
    assert 0 < found.num_zero_weight < 3000


def test_pilots_have_keys_of_their_own(monkeypatch):
    keys = []
    real = population.run

    def run(key, *args, **kwargs):
        keys.append(tuple(np.asarray(jax.random.key_data(key))))
        return real(key, *args, **kwargs)

    monkeypatch.setattr(population, "run", run)
    estimate()
    assert len(keys) == len(set(keys)) == 3


def test_diagnostics_leave_out_what_fills_up_the_last_chunk():
    data = DATA[:11].copy()
    data[-1] = 40.0  # an outlier, whose repeats would dominate the last chunk
    options = {"num_temperatures": 30, "num_chains": 8, "num_leapfrog_steps": 4}
    whole, cut = (
        evaluate.log_likelihood(
            jax.random.key(0), LOG_JOINT, POSTERIOR, data, chunk_size=size, **options
        )
        for size in (11, 10)
    )
    np.testing.assert_allclose(whole.acceptance, cut.acceptance, atol=2e-3)


@pytest.mark.slow
def test_unbiasedness_test_catches_a_step_size_that_depends_on_the_particle(monkeypatch):
    real = ais.step

    def step(key, state, beta, step_size, *args, **kwargs):
        step_size = step_size * jnp.where(state.position[0] > 0, 2.0, 0.5)
        return real(key, state, beta, step_size, *args, **kwargs)

    monkeypatch.setattr(ais, "step", step)
    jax.clear_caches()
    try:
        assert largest_bias_z_score() > 6.0
    finally:
        jax.clear_caches()


def test_active_units_counts_varying_means():
    def initial(x):
        loc = jnp.array([x[0], 0.05 * x[0], 0.0])
        return distributions.DiagNormal(loc, jnp.ones(3))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32))
    num, activity = evaluate.active_units(initial, x)
    assert num == 1
    np.testing.assert_allclose(activity, [x[:, 0].var(), 0.0025 * x[:, 0].var(), 0], rtol=1e-3)


def test_mean_and_standard_error():
    mean, error = evaluate.mean_and_standard_error(np.array([1.0, 2.0, 3.0]))
    assert (mean, round(error, 6)) == (2.0, round(1 / 3**0.5, 6))
    assert np.isnan(evaluate.mean_and_standard_error(np.array([1.0]))[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_chains": 0}, "`num_chains` must be at least 1"),
        ({"num_temperatures": 1}, "`num_temperatures` counts both"),
        ({"num_leapfrog_steps": 0}, "`num_leapfrog_steps` must be at least 1"),
    ],
)
def test_impossible_counts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimate(**options)


def test_samples_that_fill_no_block_are_refused():
    with pytest.raises(ValueError, match="positive multiple of `block_size`=50, got 70"):
        evaluate.importance_bound(jax.random.key(0), LOG_JOINT, POSTERIOR, DATA, num_samples=70)
