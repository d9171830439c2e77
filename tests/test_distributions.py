import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aiwae_jax import distributions
from aiwae_jax.distributions import Bernoulli, DiagNormal

Q = DiagNormal(jnp.array([0.5, -1.0, 2.0]), jnp.array([0.3, 1.5, 0.9]))
P = DiagNormal(jnp.array([0.0, 0.4, 1.0]), jnp.array([1.0, 0.7, 2.0]))


def test_diag_normal_log_prob_matches_scipy():
    z = np.array([0.1, 0.2, 0.3])
    expected = (
        scipy.stats.norm(np.asarray(Q.loc, float), np.asarray(Q.scale, float)).logpdf(z).sum()
    )
    np.testing.assert_allclose(Q.log_prob(jnp.asarray(z, jnp.float32)), expected, rtol=1e-5)


def test_transport_changes_variables():
    noise = jnp.array([0.3, -0.7, 1.1])
    z, log_det = Q.transport(noise)
    jacobian = jax.jacobian(lambda e: Q.transport(e)[0])(noise)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobian)[1], rtol=1e-5)
    base = distributions.standard_normal(3).log_prob(noise)
    np.testing.assert_allclose(Q.log_prob(z), base - log_det, rtol=1e-5)


def test_sample_has_mean_and_standard_deviation_within_4_standard_errors():
    num = 100_000
    z = jax.vmap(Q.sample)(jax.random.split(jax.random.key(0), num))
    error = Q.scale / num**0.5
    assert jnp.all(jnp.abs(z.mean(0) - Q.mean()) < 4 * error)
    assert jnp.all(jnp.abs(z.std(0) - Q.stddev()) < 4 * error)


def test_closed_form_kl_matches_monte_carlo_within_4_standard_errors():
    z, log_q = jax.vmap(Q.sample_and_log_prob)(jax.random.split(jax.random.key(1), 100_000))
    ratio = log_q - jax.vmap(P.log_prob)(z)
    error = ratio.std() / ratio.size**0.5
    assert abs(float(distributions.kl_divergence(Q, P) - ratio.mean())) < 4 * error


def test_kl_of_another_pair_is_refused():
    assert not distributions.has_closed_form_kl(Q, object())
    with pytest.raises(TypeError, match="No closed-form KL"):
        distributions.kl_divergence(Q, object())


def test_bernoulli_is_finite_at_extreme_logits_where_log_sigmoid_is_not():
    logits = jnp.array([200.0, -200.0, 17.5, 0.0])
    x = jnp.array([0.0, 1.0, 0.0, 1.0])
    value, gradient = jax.value_and_grad(lambda a: Bernoulli(a).log_prob(x))(logits)
    np.testing.assert_allclose(value, -(200 + 200 + 17.5 + np.log(2.0)), rtol=1e-6)
    chex.assert_trees_all_close(gradient, x - jax.nn.sigmoid(logits), atol=1e-7)


def test_softplus_gradient_computes_no_logarithm():
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda a: distributions.softplus(a).sum()))(jnp.ones(3)))
    compiled = jax.jit(jax.grad(lambda a: distributions.softplus(a).sum())).lower(jnp.ones(3))
    assert "logistic" in jaxpr
    assert "log-plus-one" not in compiled.compile().as_text()


def test_bernoulli_samples_have_their_mean():
    logits = jnp.array([-2.0, 0.0, 1.5])
    draws = jax.vmap(Bernoulli(logits).sample)(jax.random.split(jax.random.key(2), 50_000))
    mean = Bernoulli(logits).mean()
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert jnp.all(jnp.abs(draws.mean(0) - mean) < 4 * jnp.sqrt(mean * (1 - mean) / 50_000))


@pytest.mark.parametrize("scale", [0.5, jnp.float32(0.5), jnp.full(1, 0.5)])
def test_a_scale_that_all_coordinates_share_counts_once_for_each(scale):
    """A shared standard deviation is what one writes first for a Gaussian likelihood."""
    loc, z = jnp.arange(4.0), jnp.array([0.3, 1.0, -2.0, 5.0])
    each = distributions.DiagNormal(loc, jnp.full(4, 0.5))
    shared = distributions.DiagNormal(loc, scale)
    np.testing.assert_allclose(shared.log_prob(z), each.log_prob(z), rtol=1e-6)
    np.testing.assert_allclose(shared.transport(z)[0], each.transport(z)[0])
    np.testing.assert_allclose(shared.transport(z)[1], 4 * np.log(0.5), rtol=1e-6)
    np.testing.assert_array_equal(shared.stddev(), each.stddev())
    key = jax.random.key(0)
    np.testing.assert_array_equal(shared.sample(key), each.sample(key))
    prior = distributions.DiagNormal(jnp.zeros(4), 2.0 * jnp.ones(1))
    expected = distributions.kl_divergence(
        each, distributions.DiagNormal(jnp.zeros(4), jnp.full(4, 2.0))
    )
    np.testing.assert_allclose(distributions.kl_divergence(shared, prior), expected, rtol=1e-6)
