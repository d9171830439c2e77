"""The two parts of log p(x) - ELBO against closed forms of the linear-Gaussian model."""

from functools import partial

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate

# Latents that pull at the same data, so that no independent coordinates fit their posterior.
WEIGHT = jnp.asarray([[1.0, 0.9], [0.5, 0.6], [-0.2, -0.3]])
THETA = lg.params().theta | {"weight": WEIGHT}
X = np.asarray([lg.sample(key, THETA)[0] for key in jax.random.split(jax.random.key(0), 12)])
SETTINGS = evaluate.Settings(num_temperatures=100, num_chains=16, num_pilot_data=4)
FEW = {"num_steps": 300, "num_samples": 2000}


class Normal(distributions.FullNormal):
    """Any covariance, with the moments of a posterior."""

    def stddev(self):
        return jnp.sqrt(jnp.sum(self.factor**2, axis=1))


def best(x):
    """The best Gaussian with independent coordinates: the mean, and one over the precisions."""
    exact = lg.exact_posterior(THETA, x)
    precision = jnp.linalg.inv(exact.factor @ exact.factor.T)
    return exact.loc, jnp.diag(precision) ** -0.5


def posterior(knobs, x):
    """That one, shifted and widened; or the true posterior."""
    shift, widening, is_true = knobs
    loc, scale = best(x)
    factor = jnp.where(is_true, lg.exact_posterior(THETA, x).factor, jnp.diag(widening * scale))
    return Normal(loc + shift, factor)


PLANTED, TRUE = (0.8, 1.5, False), (0.0, 1.0, True)


def divergence(mean, scale, x):
    """KL of N(mean, diag scale²) from the true posterior, in closed form, nats."""
    exact = lg.exact_posterior(THETA, x)
    precision = jnp.linalg.inv(exact.factor @ exact.factor.T)
    offset = mean - exact.loc
    log_dets = -jnp.linalg.slogdet(precision)[1] - 2 * jnp.sum(jnp.log(scale))
    spread = jnp.sum(jnp.diag(precision) * scale**2)
    return 0.5 * (log_dets + spread - lg.D + offset @ precision @ offset)


def of_all(fn):
    return np.asarray(jax.vmap(fn)(X), np.float64)


def _planted_divergence(x):
    loc, scale = best(x)
    return divergence(loc + PLANTED[0], PLANTED[1] * scale, x)


EXACT = of_all(partial(lg.exact_log_likelihood, THETA))
BEST_ELBO = EXACT - of_all(lambda x: divergence(*best(x), x))
ELBO = EXACT - of_all(_planted_divergence)


LOG_JOINT = Partial(lg.log_joint, THETA)


def target_of(knobs):
    start = Partial(posterior, tuple(map(jnp.asarray, knobs)))
    return evaluate.Target(LOG_JOINT, start)


def audited(knobs, **options):
    return evaluate.audit(jax.random.key(1), target_of(knobs), X, SETTINGS, **(FEW | options))


@pytest.fixture(scope="module")
def found():
    return audited(PLANTED)


def z_scores(found, name, exact):
    return (getattr(found, name) - exact) / getattr(found, f"{name}_se")


@pytest.mark.slow
def test_both_gaps_are_the_exact_ones_within_their_errors(found):
    for name, exact in {
        "log_likelihood": EXACT,
        "elbo": ELBO,
        "best_elbo": BEST_ELBO,
        "amortization_gap": BEST_ELBO - ELBO,
        "family_gap": EXACT - BEST_ELBO,
    }.items():
        z = z_scores(found, name, exact)
        assert np.abs(z).max() < 4, name
        assert np.abs(z.mean()) < 4 / np.sqrt(len(X)), name
    assert (BEST_ELBO - ELBO).min() > 0.5
    assert (EXACT - BEST_ELBO).min() > 0.3
    assert found.is_optimized.all()
    assert found.is_reliable.all()
    assert not found.num_skipped.any()


@pytest.mark.slow
def test_the_parts_are_the_whole(found):
    whole = found.log_likelihood - found.elbo
    np.testing.assert_allclose(found.amortization_gap + found.family_gap, whole, atol=1e-5)
    assert repr(found) == f"Audit({found.summary})"
    assert found.summary.endswith("nats, of 12 data")


@pytest.mark.slow
def test_a_search_that_stops_too_early_is_far_out(found):
    """The planted fault."""
    short = audited(PLANTED, num_steps=3)
    assert z_scores(short, "best_elbo", BEST_ELBO).min() < -10
    assert short.family_gap.mean() > found.family_gap.mean() + 0.3


@pytest.mark.slow
def test_a_richer_q_is_kept_and_said():
    """The true posterior, whose covariance no independent coordinates have."""
    likelihood = evaluate.log_likelihood(jax.random.key(2), target_of(TRUE), X, SETTINGS)
    with pytest.warns(UserWarning, match=r"At 12 of 12 data .* q is better than the Gaussian"):
        kept = audited(TRUE, likelihood=likelihood)
    assert not kept.is_optimized.any()
    np.testing.assert_array_equal(kept.best_elbo, kept.elbo)
    np.testing.assert_array_equal(kept.amortization_gap, 0.0)
    np.testing.assert_array_equal(kept.log_likelihood, likelihood.log_likelihood)
    assert "q is better than the optimized Gaussian at 12" in kept.summary


def test_what_cannot_be_audited_is_refused():
    for options, error, message in (
        ({"num_samples": 70}, ValueError, "`num_samples` must be a positive multiple of 50"),
        ({"num_steps": 0}, ValueError, "`num_steps` must be at least 1"),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` must be positive"),
        ({"likelihood": 3.0}, ValueError, "`likelihood` must be what `log_likelihood` found"),
    ):
        with pytest.raises(error, match=message):
            audited(PLANTED, **options)
    with pytest.raises(TypeError, match="what it returns has no `mean`"):
        evaluate.audit(jax.random.key(1), evaluate.Target(LOG_JOINT, lambda x: _Bare()), X)


class _Bare:
    def sample(self, key):
        return jax.random.normal(key, (lg.D,))

    def log_prob(self, z):
        return distributions.standard_normal(lg.D).log_prob(z)
