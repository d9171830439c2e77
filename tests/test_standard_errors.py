"""Standard errors of single estimates: the jackknife against NumPy, and their real spread."""

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import distributions, evaluate, weights
from aiwae_jax.evaluate import programs, verdicts

SETTINGS = evaluate.Settings(num_temperatures=6, num_chains=16, num_pilot_data=4)
TARGET = evaluate.Target.of(lg.model(), lg.params())
X = np.asarray(lg.DATUM)[None] + np.linspace(-1, 1, 8, dtype=np.float32)[:, None]


def jackknife(log_weights):
    """By leaving each weight out, in float64."""
    w = np.exp(np.float64(log_weights))
    left = np.array([np.log(np.delete(w, k).mean()) for k in range(len(w))])
    return np.sqrt((len(w) - 1) / len(w) * np.sum((left - left.mean()) ** 2))


def test_the_error_of_a_log_mean_is_the_jackknifes():
    log_weights = np.random.default_rng(0).normal(size=12).astype(np.float32)
    found = weights.log_mean_standard_error(jnp.asarray(log_weights))
    assert float(found) == pytest.approx(jackknife(log_weights), rel=1e-4)
    with_zero = np.r_[log_weights, -np.inf].astype(np.float32)
    found = weights.log_mean_standard_error(jnp.asarray(with_zero))
    assert float(found) == pytest.approx(jackknife(with_zero), rel=1e-4)
    shifted = weights.log_mean_standard_error(jnp.asarray(log_weights - 5000))
    assert float(shifted) == pytest.approx(jackknife(log_weights), rel=1e-2)


@pytest.mark.parametrize(
    ("log_weights", "error"),
    [([0.0, -np.inf, -np.inf], np.inf), ([-np.inf] * 3, np.nan), ([1.0], np.nan)],
)
def test_what_cannot_be_told_is_no_number(log_weights, error):
    found = weights.log_mean_standard_error(jnp.asarray(log_weights, jnp.float32))
    np.testing.assert_equal(float(found), error)


@pytest.mark.parametrize(("num_lost", "is_wide"), [(0, False), (2, False), (3, False), (4, True)])
def test_a_few_lost_chains_are_no_spread_of_the_others(num_lost, is_wide):
    """A twentieth of 64 is three; a chain 10,000 nats below changes no estimate."""
    log_weights = np.random.default_rng(0).normal(size=64).astype(np.float32)
    log_weights[:num_lost] = -1e4
    floor = programs._least_that_counts(jnp.asarray(log_weights))
    variance = float(programs._variance(jnp.maximum(log_weights, floor)))
    assert (variance > 1e5) == is_wide
    assert is_wide or 0.5 < variance < 1.5


def test_of_few_chains_every_one_counts():
    log_weights = jnp.asarray([*np.zeros(15), -1e4], jnp.float32)
    assert programs._least_that_counts(log_weights) == -1e4


@pytest.mark.slow
def test_errors_are_of_the_size_of_the_spread_over_keys():
    """One datum many times over: the rows are the repetitions."""
    x = np.repeat(lg.DATUM[None], 400, axis=0)
    found = evaluate.log_likelihood(jax.random.key(0), TARGET, x, SETTINGS)
    spread = found.log_likelihood.std(ddof=1)
    # The standard deviation of 400 normal variables has an error of 3.5%, that of the jackknife's
    # variance, of 16 chains each, is smaller; the log's skewness takes a little more.
    assert np.sqrt(np.mean(found.standard_errors**2)) == pytest.approx(spread, rel=0.15)
    assert found.is_reliable.all()


@pytest.mark.slow
def test_too_few_temperatures_are_not_relied_on():
    far = 30.0 * np.ones((3, 3), np.float32)
    settings = evaluate.Settings(num_temperatures=2, num_chains=8)
    with pytest.warns(UserWarning, match="are unreliable, and so is their mean: standard errors"):
        found = evaluate.log_likelihood(jax.random.key(0), TARGET, np.r_[X, far], settings)
    assert not found.is_reliable[len(X) :].any()
    single = evaluate.Settings(num_temperatures=2, num_chains=1)
    found = evaluate.log_likelihood(jax.random.key(0), TARGET, X, single)
    assert np.isnan(found.standard_errors).all()
    assert not found.is_reliable.any()  # nothing tells


@pytest.mark.slow
@pytest.mark.by_hand
def test_numbers_take_a_datum_to_its_chains_wherever_it_stands():
    key, numbers = jax.random.key(0), np.array([7, 3, 2**32 - 1, 0, 5, 11, 3, 2])
    plan = evaluate.tune(key, TARGET, X, SETTINGS)

    def score(rows, **options):
        options = {"numbers": numbers[rows], "plan": plan} | options
        found = evaluate.log_likelihood(key, TARGET, X[rows], SETTINGS, **options)
        return found.log_likelihood

    rows = np.random.default_rng(0).permutation(8)
    whole = score(np.arange(8))
    np.testing.assert_allclose(score(rows), whole[rows], rtol=1e-5)
    np.testing.assert_allclose(score(rows[:3], chunk_size=2), whole[rows[:3]], rtol=1e-5)
    # The planted fault: numbers by place.
    assert np.abs(score(rows, numbers=None) - whole[rows]).max() > 1e-3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.zeros(7, int), r"`numbers` must be one for each of the 8 data, got shape \[7\]"),
        (np.full(8, -1), r"`numbers` must lie in 0 \.\. 2\*\*32 - 1, got -1 to -1"),
    ],
)
def test_numbers_that_are_no_keys_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        evaluate.log_likelihood(jax.random.key(0), TARGET, X, SETTINGS, numbers=numbers)


@pytest.mark.slow
def test_chains_that_hardly_move_are_not_relied_on_and_agree_with_each_other():
    assert verdicts.slowest(np.ones(100)) == pytest.approx(1.0)
    assert verdicts.slowest(np.where(np.arange(100) < 50, 0.8, 0.1)) == pytest.approx(0.1)
    assert verdicts.slowest(np.full(15, 0.1)) == 1.0  # too few to tell

    narrow = distributions.DiagNormal(jnp.zeros(2), jnp.full(2, 0.5))
    target = evaluate.Target(
        lambda x, z: narrow.log_prob(z), lambda x: distributions.standard_normal(2)
    )
    settings = evaluate.Settings(num_temperatures=100, num_chains=64, chain_space="latent")
    x = np.zeros((3, 1), np.float32)
    plan = evaluate.tune(jax.random.key(0), target, x, settings)
    too_long = plan._replace(step_sizes=20.0 * plan.step_sizes)
    found = [evaluate.log_likelihood(jax.random.key(1), target, x, settings, plan=plan)]
    with pytest.warns(UserWarning, match="acceptance down to 0"):
        found.append(evaluate.log_likelihood(jax.random.key(1), target, x, settings, plan=too_long))
    assert [each.is_reliable.all() for each in found] == [True, False]
    assert not found[1].is_reliable.any()
