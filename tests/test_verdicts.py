"""Results that cannot be trusted say so: impossible gaps, broken chains, bad rows."""

import dataclasses

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate
from aiwae_jax.evaluate import gap, verdicts

PARAMS = lg.params()
LOG_JOINT = Partial(lg.log_joint, PARAMS.theta)
POSTERIOR = Partial(lg.posterior, PARAMS.phi)
PRIOR = Partial(lambda x: distributions.standard_normal(lg.D))
KEY = jax.random.key(0)
SMALL = evaluate.Settings(
    num_temperatures=6,
    num_chains=2,
    num_leapfrog_steps=2,
    num_pilot_data=2,
    num_pilot_chains=2,
)
DATA = np.asarray(jax.vmap(lambda key: lg.sample(key, PARAMS.theta)[0])(jax.random.split(KEY, 12)))


def sample_fn(key):
    return lg.sample(key, PARAMS.theta)


TARGET = evaluate.Target(LOG_JOINT, POSTERIOR, sample_fn)


def turned_round(key):
    x, z = sample_fn(key)
    return x, z[::-1]


def of_other_weights(key):
    return lg.sample(key, jax.tree.map(lambda a: 10.0 * a, PARAMS.theta))


def too_wide(key):
    x, z = sample_fn(key)
    return x, 2.0 * z


def enclose(sample_fn, num_data=60, initial=POSTERIOR, settings=SMALL):
    target = evaluate.Target(LOG_JOINT, initial, sample_fn)
    return evaluate.bidirectional(KEY, target, settings, num_data=num_data)


def with_gaps(gaps, level=-100.0):
    """A `Bidirectional` of given gaps."""
    lower = np.full(len(gaps), level)
    rounding = np.full(len(gaps), np.spacing(np.float32(abs(level))), np.float64)

    def likelihood(values):
        fields = dict.fromkeys(evaluate.Likelihood._fields)
        return evaluate.Likelihood(**fields | {"log_likelihood": values, "rounding": rounding})

    upper = lower + np.asarray(gaps)
    return evaluate.Bidirectional(likelihood(lower), likelihood(upper), 0)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "wrong_fn", [pytest.param(turned_round, marks=pytest.mark.slow), of_other_weights, too_wide]
)
def test_samples_of_another_model_give_an_impossible_gap_which_is_said(wrong_fn):
    with pytest.warns(UserWarning, match=r"gap of -\d.* is impossible .*`sample` does not draw"):
        found = enclose(wrong_fn)
    assert not found.is_possible
    assert found.gap < 0.0


@pytest.mark.slow
def test_an_impossible_gap_is_never_reached():
    """Nor searched for any longer: no number of temperatures will mend it."""
    target = evaluate.Target(LOG_JOINT, POSTERIOR, turned_round)
    with pytest.warns(UserWarning, match="is impossible") as caught:
        found = evaluate.reach_gap(KEY, target, SMALL, num_data=240, max_temperatures=50)
    assert len(caught) == 1
    assert found.result.gap_upper_end <= found.target_gap
    assert not found.is_reached
    assert len(found.search) == 1


@pytest.mark.slow
def test_an_initial_whose_density_is_not_that_of_its_draws_is_found_out():
    class Wrong(distributions.DiagNormal):
        def log_prob(self, z):
            return distributions.DiagNormal(self.loc, self.scale / 3.0).log_prob(z)

    def initial(x):
        return Wrong(*POSTERIOR(x))

    settings = dataclasses.replace(SMALL, chain_space="latent", num_temperatures=3)
    with pytest.warns(UserWarning, match=r"or `log_prob` of what `start` returns is not that"):
        assert not enclose(sample_fn, initial=initial, settings=settings).is_possible


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("num_temperatures", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("initial", [POSTERIOR, PRIOR])
def test_exact_draws_are_never_called_impossible(initial, num_temperatures):
    """In 100 to 500 replicates of each of three sizes, cut from one run."""
    settings = dataclasses.replace(SMALL, num_chains=1, num_temperatures=num_temperatures)
    found = enclose(sample_fn, 3000, initial, settings)
    gaps = found.reverse.log_likelihood - found.forward.log_likelihood
    for size in (6, 12, 30):
        replicates = gaps[: 3000 // size * size].reshape(-1, size)
        assert all(with_gaps(replicate, 0.0).is_possible for replicate in replicates)


def test_gaps_are_judged_by_their_spread_their_sum_and_the_rounding():
    noise = np.random.default_rng(0).normal(size=100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)  # a standard error of 0.1
    assert with_gaps(noise - 0.08).is_possible
    assert not with_gaps(noise - 0.45).is_possible  # by more than 4 standard errors
    assert with_gaps([-5.0, -5.3], 0.0).is_possible
    assert not with_gaps([-5.0, -5.5], 0.0).is_possible  # by their sum, -10.4
    assert with_gaps(np.full(20, -0.01), -1e5).is_possible  # eps·1e5 = 0.01
    assert not with_gaps(np.full(20, -0.01), -100.0).is_possible
    assert with_gaps([np.inf, *np.full(20, -1.0)]).is_possible  # the datum says nothing


@pytest.mark.parametrize("num_degrees", [9, 29, 199])
def test_students_quantile_at_four_standard_errors(num_degrees):
    expected = scipy.stats.t.ppf(scipy.stats.norm.cdf(4.0), num_degrees)
    assert gap._student_t(4.0, num_degrees) == pytest.approx(expected, rel=1e-9)


def dropped(key):
    return sample_fn(KEY)


def half_dropped(key):
    x, _ = sample_fn(key)
    return x, sample_fn(KEY)[1]


def one_of(key):
    x, z = sample_fn(key)
    return x, z[:1]


def none_of(key):
    x, z = sample_fn(key)
    return x, z[0]


@pytest.mark.parametrize(
    ("wrong_fn", "message"),
    [
        (dropped, "`sample` ignores its key: all of its 2 draws have the same z"),
        (half_dropped, "`sample` ignores its key"),
        (one_of, r"`sample` draws z of shape \[1\] and `start` of \[2\]"),
        (none_of, r"z of `sample` must be a vector \[D\], .*got shape \[\]"),
        (lambda key: sample_fn(key)[0], r"`sample` must return a pair \(x, z\), got float32"),
        (lambda key: sample_fn(key)[::-1], r"of shape \[2\], as `sample` draws it"),
        (lambda key: jax.tree.map(lambda a: a * jnp.nan, sample_fn(key)), "that are not finite"),
        (lambda theta, key: sample_fn(key), "`sample` fails with a key: .*missing 1 required"),
        (None, r"`sample` must be a function `key -> \(x, z\)`, got NoneType"),
    ],
)
def test_what_is_no_exact_draw_is_refused(wrong_fn, message):
    with pytest.raises((TypeError, ValueError), match=message):
        enclose(wrong_fn)
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate.reach_gap(KEY, evaluate.Target(LOG_JOINT, POSTERIOR, wrong_fn), SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_gap": np.inf}, "`target_gap` must be finite, got inf"),
        ({"target_gap": "0.1"}, "`target_gap` must be a number, got str"),
        ({"max_temperatures": 2.5}, r"`max_temperatures` must be an integer, got 2\.5"),
        ({"num_data": 2.5}, r"`num_data` must be an integer, got 2\.5"),
        ({"x": DATA[:, :2]}, r"`x` has data of shape \[2\], and `sample` draws .* \[3\]"),
        ({"x": DATA.tolist()}, r"`x\[0\]\[0\]` must be an array"),
    ],
)
def test_founds_of_wrong_arguments_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate.reach_gap(KEY, TARGET, SMALL, **options)


def naively_masked(x, z):
    """Right values, and the gradient NaN: `where` comes after the arithmetic."""
    mean = PARAMS.theta["weight"] @ z + PARAMS.theta["bias"]
    terms = -0.5 * jnp.square((x - mean) / lg.NOISE)
    return jnp.sum(jnp.where(jnp.isnan(x), 0.0, terms)) + PRIOR(x).log_prob(z)


def masked(x, z):
    return jnp.where(jnp.isnan(x), 0.0, 1.0) @ (
        -0.5
        * jnp.square(
            (jnp.where(jnp.isnan(x), 0.0, x) - PARAMS.theta["weight"] @ z - PARAMS.theta["bias"])
            / lg.NOISE
        )
    ) + PRIOR(x).log_prob(z)


@pytest.mark.slow
def test_missing_values_that_break_every_move_are_named():
    """Rows 3 and 8 lack a value; the others are measured as without them."""
    x = DATA.copy()
    x[[3, 8], 1] = np.nan
    moves = 12 * SMALL.num_chains * (SMALL.num_temperatures - 2)
    message = (
        rf"estimates of 2 of 12 data \(rows 3, 8\) say nothing: \d+ of all {moves} moves .*"
        r"`jnp.where` needs safe values inside both branches"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        found = evaluate.log_likelihood(KEY, evaluate.Target(naively_masked, PRIOR), x, SMALL)
    assert sum("say nothing" in str(each.message) for each in caught) == 1
    assert np.flatnonzero(found.is_broken).tolist() == [3, 8]
    assert found.num_nonfinite >= 2 * SMALL.num_chains * (SMALL.num_temperatures - 2)
    target = evaluate.Target(masked, PRIOR)
    mended = evaluate.log_likelihood(KEY, target, x, SMALL, plan=found.plan)
    assert not mended.is_broken.any()
    assert mended.num_nonfinite == 0
    others = ~found.is_broken
    np.testing.assert_allclose(
        found.log_likelihood[others], mended.log_likelihood[others], rtol=1e-4
    )


def test_a_plan_of_pilots_that_cannot_move_says_so():
    x = np.where(np.arange(lg.X) == 1, np.nan, DATA)
    with pytest.warns(UserWarning, match=r"moves of the pilot chains were rejected .*says nothing"):
        evaluate.tune(KEY, evaluate.Target(naively_masked, PRIOR), x, SMALL)


def test_one_bad_row_is_named_and_leaves_the_rest_alone():
    x = DATA.copy()
    x[5] = np.nan
    plan = evaluate.tune(KEY, TARGET, DATA, SMALL)
    whole = evaluate.log_likelihood(KEY, TARGET, DATA, SMALL, plan=plan)
    with pytest.warns(UserWarning, match=r"1 of 12 data \(row 5\) say nothing"):
        found = evaluate.log_likelihood(KEY, TARGET, x, SMALL, plan=plan)
    others = np.arange(12) != 5
    np.testing.assert_array_equal(found.log_likelihood[others], whole.log_likelihood[others])
    assert found.log_likelihood[5] == found.mean == -np.inf
    options = {"num_samples": 50}
    whole = evaluate.importance_bound(KEY, TARGET, DATA, **options)
    with pytest.warns(UserWarning, match=r"All samples of 1 of 12 data \(row 5\) have weight zero"):
        found = evaluate.importance_bound(KEY, TARGET, x, **options)
    np.testing.assert_array_equal(found.bound[others], whole.bound[others])


@pytest.mark.parametrize("bad", [[3], [0, 11], list(range(11))])
def test_active_units_leave_out_bad_rows_and_name_them(bad):
    x = DATA.copy()
    x[bad] = np.nan
    message = rf"posterior mean of {len(bad)} of 12 data \(rows? {bad[0]}.* is not finite"
    with pytest.warns(UserWarning, match=message):
        found = evaluate.active_units(TARGET, x)
    num, activity = evaluate.active_units(TARGET, np.delete(DATA, bad, axis=0))
    assert found[0] == num
    np.testing.assert_allclose(found[1], activity, rtol=1e-6)
    with pytest.raises(ValueError, match="`start` has no finite mean for any of the 12 data"):
        evaluate.active_units(TARGET, np.full_like(x, np.nan))


def test_shares_are_those_that_are_stated():
    """More than half of the moves, more than 9 of 10 chains, of the datum in question."""
    broken = verdicts.is_broken(
        num_nonfinite=np.array([0, 50, 51, 0, 0]),
        num_zero_weight=np.array([0, 0, 0, 9, 10]),
        num_chains=10,
        num_moves=10,
    )
    assert broken.tolist() == [False, False, True, False, True]
