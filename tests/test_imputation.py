"""Imputation, and log p(missing | observed), against a linear Gaussian known exactly."""

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from scipy import stats

from aiwae_jax import evaluate, likelihoods, methods, models, networks, train
from aiwae_jax.likelihoods import missing
from aiwae_jax.train import imputation

SETTINGS = evaluate.Settings(num_temperatures=12, num_chains=64)
LOOSE = evaluate.Settings(num_temperatures=2, num_chains=1000)  # draws of q, by weight alone
ALPHA = 0.1


def _encode(phi, x):
    q = lg.posterior(phi, jnp.nan_to_num(x))
    return q.loc, jnp.log(q.scale)


def _decode(theta, z):
    return lg.product(theta["weight"], z) + theta["bias"]


MODEL = models.vae(
    networks.Network(lambda key: lg.params().phi, _encode, lg.X),
    networks.Network(lambda key: lg.params().theta, _decode, lg.D),
    likelihood=likelihoods.masked(likelihoods.normal(lg.NOISE)),
    latent_size=lg.D,
    data_size=lg.X,
)
RUN = train.Trained(MODEL, lg.params())
COVARIANCE = np.float64(lg.WEIGHT) @ lg.WEIGHT.T + lg.NOISE**2 * np.eye(lg.X)
WHOLE = np.random.default_rng(0).multivariate_normal(lg.BIAS, COVARIANCE, 6).astype(np.float32)
IS_GAP = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1], [1, 0, 1]], bool)
ROWS = np.where(IS_GAP, np.nan, WHOLE)


def normal_of(columns):
    return stats.multivariate_normal(lg.BIAS[columns], COVARIANCE[np.ix_(columns, columns)])


def exact_log_likelihoods(rows):
    """Of what is there."""
    found = [np.flatnonzero(~np.isnan(row)) for row in rows]
    return np.array(
        [normal_of(c).logpdf(r[c]) if len(c) else 0.0 for c, r in zip(found, rows, strict=True)]
    )


def exact_conditional(row):
    """Which columns are missing, and mean and covariance of them given the others."""
    gap, seen = np.flatnonzero(np.isnan(row)), np.flatnonzero(~np.isnan(row))
    gain = COVARIANCE[np.ix_(gap, seen)] @ np.linalg.inv(COVARIANCE[np.ix_(seen, seen)])
    mean = lg.BIAS[gap] + gain @ (row[seen] - lg.BIAS[seen])
    return gap, mean, COVARIANCE[np.ix_(gap, gap)] - gain @ COVARIANCE[np.ix_(seen, gap)]


def deviations_of_likelihoods():
    """In standard errors."""
    found = RUN.log_likelihood(ROWS, SETTINGS)
    assert found.is_reliable.all()
    return (found.log_likelihood - exact_log_likelihoods(ROWS)) / found.standard_errors


def counts_what_is_missing(self, x):
    return self.base.log_probs(jnp.where(jnp.isnan(x), self.fill, x))


@pytest.mark.slow
def test_the_likelihood_is_that_of_what_was_observed(monkeypatch):
    assert np.abs(deviations_of_likelihoods()).max() < 4
    monkeypatch.setattr(missing.Masked, "log_probs", counts_what_is_missing)
    jax.clear_caches()
    assert np.abs(deviations_of_likelihoods()).max() > 20
    jax.clear_caches()


@pytest.mark.slow
def test_simulated_data_lack_what_rows_lack_and_their_gap_is_possible():
    target = RUN.target(contexts=ROWS)
    x, _ = evaluate.simulate(jax.random.key(0), target, 200)
    patterns = {tuple(row) for row in np.isnan(x)}
    assert patterns == {tuple(row) for row in IS_GAP}
    assert not np.isnan(evaluate.simulate(jax.random.key(0), RUN.target(), 200)[0]).any()
    found = evaluate.bidirectional(jax.random.key(1), target, SETTINGS, num_data=40)
    assert found.is_possible
    assert abs(found.gap) < 4 * found.gap_standard_error + 0.01
    assert evaluate.check(target, ROWS).sentence() is None


def deviations_of_imputation(found):
    """Of means and of both ends, in standard errors; ends are quantiles of resampled latents."""
    apart = []
    for i, row in enumerate(ROWS):
        gap, mean, covariance = exact_conditional(row)
        if not len(gap):
            continue
        sd, size = np.sqrt(np.diag(covariance)), found.effective_sample_size[i]
        of_latents = np.sqrt((np.diag(covariance) - lg.NOISE**2) / size)
        apart.append((found.mean[i, gap] - mean) / of_latents)
        for end, probability in ((found.low, ALPHA / 2), (found.high, 1 - ALPHA / 2)):
            z = stats.norm.ppf(probability)
            variance = (ALPHA / 2) * (1 - ALPHA / 2) * (1 / imputation.NUM_DRAWS + 1 / size)
            apart.append((end[i, gap] - mean - z * sd) / sd * stats.norm.pdf(z) / variance**0.5)
    return np.abs(np.concatenate(apart)).max()


@pytest.mark.slow
def test_imputed_values_have_the_exact_means_and_intervals(monkeypatch):
    """By weights alone, of q's own draws: without them it is q that would be seen."""
    found = RUN.impute(ROWS, jax.random.key(2), LOOSE, num_draws=2000, level=1 - ALPHA)
    np.testing.assert_array_equal(found.is_missing, IS_GAP)
    for each in (found.mean, found.low, found.high, found.draws[:, 7]):
        np.testing.assert_array_equal(each[~IS_GAP], WHOLE[~IS_GAP])
    assert deviations_of_imputation(found) < 4
    # Draws of a row are joint: the covariance of two columns that are missing together.
    _, _, covariance = exact_conditional(ROWS[1])
    products = np.prod(found.draws[1, :, 1:] - found.mean[1, 1:], axis=1)
    size = 1 / (1 / 2000 + 1 / found.effective_sample_size[1])
    assert abs(products.mean() - covariance[0, 1]) < 4 * products.std() / np.sqrt(size)

    unweighted = evaluate.weighted_latents

    def without_weights(*args, **options):
        latents = unweighted(*args, **options)
        return latents._replace(log_weights=np.zeros_like(latents.log_weights))

    monkeypatch.setattr(evaluate, "weighted_latents", without_weights)
    wrong = RUN.impute(ROWS, jax.random.key(2), LOOSE, num_draws=2000, level=1 - ALPHA)
    assert deviations_of_imputation(wrong) > 8


@pytest.mark.slow
def test_annealed_latents_serve_as_well():
    found = RUN.impute(ROWS, jax.random.key(3), SETTINGS)
    assert found.draws.shape == (6, 10, 3)
    assert found.is_reliable.all()
    assert np.isnan(found.effective_sample_size[3])
    assert deviations_of_imputation(found) < 4


@pytest.mark.slow
def test_how_likely_missing_values_were_is_a_difference_of_two_estimates():
    found = RUN.log_likelihood_of_missing(WHOLE, ROWS, SETTINGS)
    exact = exact_log_likelihoods(WHOLE) - exact_log_likelihoods(ROWS)
    is_asked = IS_GAP.any(axis=1)
    apart = (found.log_likelihood - exact)[is_asked] / found.standard_errors[is_asked]
    assert np.abs(apart).max() < 4
    assert found.log_likelihood[3] == found.standard_errors[3] == 0.0
    np.testing.assert_array_equal(found.num_cells, IS_GAP.sum(axis=1))
    ratio, error = found.per_cell
    assert ratio == pytest.approx(found.log_likelihood.sum() / IS_GAP.sum())
    assert 0 < error < 1
    both = found.whole.standard_errors, found.observed.standard_errors
    np.testing.assert_allclose(found.standard_errors[is_asked], np.hypot(*both)[is_asked])
    # Exact draws of the missing values, not these: far from what is said of these.
    other = WHOLE + np.where(IS_GAP, 1.5, 0).astype(np.float32)
    moved = RUN.log_likelihood_of_missing(other, ROWS, SETTINGS)
    apart = (moved.log_likelihood - exact)[is_asked] / moved.standard_errors[is_asked]
    assert np.abs(apart).max() > 8


def test_rows_that_are_not_the_same_are_refused():
    with pytest.raises(ValueError, match=r"`x_observed` must be NaN or as in `x`, .* row 0, col"):
        RUN.log_likelihood_of_missing(WHOLE, WHOLE + 1)
    with pytest.raises(ValueError, match="must lack a value that `x` has"):
        RUN.log_likelihood_of_missing(WHOLE, WHOLE)
    plain = train.Trained(MODEL._replace(takes_missing=False), lg.params())
    with pytest.raises(ValueError, match=r"needs a model of rows with missing .*--missing=at_rand"):
        plain.impute(ROWS)
    with pytest.raises(ValueError, match="`level` must lie between 0 and 1"):
        RUN.impute(ROWS, level=90)


OF_CONTINUOUS = ("vae", "iwae", "stl", "dreg", "aiwae", "aiwae_wake", "hoffman", "rws")
OF_CONTINUOUS += ("persistent", "hvae", "hvi", "uha")
FAST = ("iwae",)


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in OF_CONTINUOUS],
)
def test_every_method_learns_from_rows_with_gaps(name):
    """All rows count, and what is missing may be anything: of the same key the same step."""
    method = methods.BUILDERS[name](MODEL)
    optimizers = train.adam(1e-2)
    step = train.make_train_step(method, optimizers, with_nonfinite_data=True)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    state = state._replace(kept=step.init_kept(state, ROWS))
    before = jax.device_get(state.params.theta)
    state, info = step(jax.random.key(1), state, ROWS)
    for phase in info.values():
        assert int(phase["num_nonfinite_objective"]) == int(phase["num_skipped_updates"]) == 0
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(state.params))
    assert not np.array_equal(before["weight"], state.params.theta["weight"])
