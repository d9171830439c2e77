"""Sequential Monte Carlo: what resampling keeps, unbiased estimates, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_plans import normal

from aiwae_jax import ais, evaluate, weights
from aiwae_jax.evaluate import resampling

SETTINGS = evaluate.Settings(
    num_temperatures=16, num_chains=32, momentum_persistence=0.0, resampling=0.5
)
DATA = np.zeros((500, 1), np.float32)


def states_of(log_weights, offset=0.0):
    """Chains at positions 0, 1, ... with given log weights at β=0.5."""
    log_weights = jnp.asarray(log_weights, jnp.float32)
    num = len(log_weights)
    end = ais.End(jnp.zeros(num), jnp.zeros((num, 1)))
    offsets = offset * jnp.arange(num, dtype=jnp.float32)
    work = weights.RunningSum.of(log_weights - 0.5 * offsets)
    position = jnp.arange(num, dtype=jnp.float32)[:, None]
    return ais.AISState(position, end, end, jnp.full(num, 0.5), offsets, work)


@pytest.fixture(scope="module")
def plan():
    target = normal(1.0, [0.2] * 3)
    return target, evaluate.tune(jax.random.key(0), target, DATA[:32], SETTINGS)


def estimates(plan, **changes):
    target, found = plan
    settings = dataclasses.replace(SETTINGS, **changes)
    return evaluate.log_likelihood(jax.random.key(1), target, DATA, settings, plan=found)


def deviation_of_mean_weight(found):
    """Of E[w] from 1, in standard errors."""
    mean, error = evaluate.mean_and_standard_error(np.exp(found.log_likelihood))
    return (mean - 1.0) / error


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_copies_are_in_proportion_to_weights_and_a_populations_sum_is_kept(offset):
    shares = np.array([0.7, 0.2, 0.1, 0.0])
    with np.errstate(divide="ignore"):
        log_weights = 1000.0 + np.log(np.concatenate([shares, np.full(4, 0.25)]))
    keys = jax.random.split(jax.random.key(0), (4000, 8))
    moved = jax.vmap(
        lambda keys: resampling.resample(keys, 3, states_of(log_weights, offset), 2, 0.9)
    )(keys)
    copies = np.asarray(moved.position[..., 0])
    for chain, share in enumerate(shares):
        each = (copies[:, :4] == chain).sum(axis=1)
        assert np.abs(each - 4 * share).max() < 1.0  # systematic: the nearest whole numbers
        assert abs(each.mean() - 4 * share) <= 4 * each.std() / np.sqrt(len(each))
    # The other population weighs evenly, and stays; sums of both are what they were.
    np.testing.assert_array_equal(copies[:, 4:], np.tile(np.arange(4, 8), (len(copies), 1)))
    found = np.asarray(moved.log_weight)
    np.testing.assert_allclose(found[:, :4], 1000.0 + np.log(0.25), atol=2e-4)
    np.testing.assert_allclose(found[:, 4:], np.tile(log_weights[4:], (len(found), 1)), atol=2e-4)


@pytest.mark.slow
def test_populations_of_weight_zero_stay_and_none_is_drawn():
    log_weights = [0.0, -np.inf, -np.inf, -np.inf] + [-np.inf] * 4
    keys = jax.random.split(jax.random.key(1), 8)
    moved = resampling.resample(keys, 1, states_of(log_weights), 2, 0.5)
    np.testing.assert_array_equal(moved.position[:, 0], [0, 0, 0, 0, 4, 5, 6, 7])
    np.testing.assert_allclose(moved.log_weight[:4], np.log(0.25), rtol=1e-6)
    assert np.all(moved.log_weight[4:] == -np.inf)


@pytest.mark.slow
def test_estimates_by_a_frozen_plan_are_unbiased_and_vary_less(plan):
    found, alone = estimates(plan), estimates(plan, resampling=0.0)
    assert abs(deviation_of_mean_weight(found)) < 4
    assert abs(deviation_of_mean_weight(alone)) < 4
    assert found.is_unbiased
    deviations = [each.log_likelihood.std() for each in (found, alone)]
    error = np.linalg.norm(deviations) / np.sqrt(2 * len(DATA))  # of normal ones
    assert deviations[1] - deviations[0] > 2 * error
    # Errors come from the populations: root mean square as estimates spread.
    stated = np.sqrt(np.mean(np.square(found.standard_errors)))
    np.testing.assert_allclose(stated, found.log_likelihood.std(), rtol=0.3)


@pytest.mark.slow
def test_a_resampling_that_forgets_the_mean_weight_is_caught(plan, monkeypatch):
    monkeypatch.setattr(weights, "log_mean_exp", jnp.max)
    jax.clear_caches()
    found = estimates(plan, num_populations=8)
    monkeypatch.undo()
    jax.clear_caches()
    assert abs(deviation_of_mean_weight(found)) > 4


@pytest.mark.slow
def test_both_bounds_hold_where_both_directions_resample():
    def log_joint(x, z):
        return jax.scipy.stats.norm.logpdf(x, z, 0.1).sum() + jax.scipy.stats.norm.logpdf(z).sum()

    def sample(key):
        of_z, of_x = jax.random.split(key)
        z = jax.random.normal(of_z, (3,))
        return z + 0.1 * jax.random.normal(of_x, (3,)), z

    target = evaluate.Target(log_joint, normal(0.0, [1.0] * 3).start, sample)
    found = evaluate.bidirectional(jax.random.key(2), target, SETTINGS, num_data=200)
    x, _ = jax.vmap(sample)(jax.random.split(jax.random.key(3), 20_000))
    expected = float(jnp.mean(jax.scipy.stats.norm.logpdf(x, scale=jnp.sqrt(1.01)).sum(axis=1)))
    for bound, sign in ((found.forward, 1), (found.reverse, -1)):
        # Of other data than the expectation: within their spread; on its side, by the jackknife.
        assert sign * (expected - bound.mean) > -4 * bound.standard_error
    assert found.is_possible
    assert 0.0 <= found.gap + 4 * found.gap_standard_error < 3.0


@pytest.mark.slow
def test_temperatures_are_as_many_as_the_conditional_sample_size_needs():
    target = normal(1.0, [0.2] * 3)
    numbers = {}
    for share in (0.5, 0.9):
        settings = dataclasses.replace(
            SETTINGS, num_temperatures=500, conditional_sample_size=share
        )
        found = evaluate.log_likelihood(jax.random.key(4), target, DATA[:50], settings)
        numbers[share] = len(found.plan.betas)
        assert found.acceptance.shape == (numbers[share] - 2,)
        assert found.num_gradients == 50 * 32 * 3 * (numbers[share] - 2)
        assert abs(deviation_of_mean_weight(found)) < 4
    ratio = (numbers[0.9] - 1) / (numbers[0.5] - 1)
    np.testing.assert_allclose(ratio, np.sqrt(np.log(0.5) / np.log(0.9)), rtol=0.1)
    # Of an increment of the Gaussian path, exactly: the share is near what was asked.
    betas = found.plan.betas
    precisions = 1.0 + betas * (0.2**-2 - 1.0)
    means = betas * 0.2**-2 / precisions
    quadratic, linear = 0.5 * (1.0 - 0.2**-2), 0.2**-2  # log f_n - log f_0, of z and z²
    variance = 3 * (
        2 * quadratic**2 / precisions**2 + (2 * quadratic * means + linear) ** 2 / precisions
    )
    shares = np.exp(-np.square(np.diff(betas)) * variance[:-1])
    assert 0.8 < shares.min() < 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_chains": 30}, "must be a multiple of `num_populations`=4"),
        ({"num_chains": 4}, "at least twice as many"),
        ({"num_populations": 3}, "`num_populations` must be at least 4, got 3"),
        ({"resampling": 1.5}, "`resampling` must be at most 1, got 1.5"),
        (
            {"conditional_sample_size": 0.9, "schedule": "linear"},
            "needs `schedule='adaptive'`, got 'linear'",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_searches_for_temperatures_refuse_to_share_the_choice():
    settings = dataclasses.replace(SETTINGS, conditional_sample_size=0.9)
    target = normal(0.0, [1.0])
    with pytest.raises(ValueError, match=r"leave it None, got 0\.9"):
        evaluate.within(target, DATA[:2], 1.0, settings)
