import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import weights

LOG_WEIGHTS = jnp.array([-1000.0, -1001.0, -jnp.inf, -999.5])


def test_log_mean_exp_matches_float64():
    expected = np.log(np.mean(np.exp(np.asarray(LOG_WEIGHTS, np.float64) + 1000))) - 1000
    np.testing.assert_allclose(weights.log_mean_exp(LOG_WEIGHTS), expected, rtol=1e-6)


def test_log_mean_exp_gradient_is_the_normalized_weights():
    gradient = jax.grad(weights.log_mean_exp)(LOG_WEIGHTS)
    chex.assert_trees_all_close(gradient, weights.normalize(LOG_WEIGHTS), atol=1e-6)


def test_normalized_weights_sum_to_one_and_zero_stays_zero():
    normalized = weights.normalize(LOG_WEIGHTS)
    np.testing.assert_allclose(normalized.sum(), 1.0, rtol=1e-6)
    assert normalized[2] == 0.0


def test_all_zero_weights_give_zero_gradient_and_no_nan():
    nothing = jnp.full(3, -jnp.inf)
    value, gradient = jax.value_and_grad(weights.log_mean_exp)(nothing)
    assert value == -jnp.inf
    chex.assert_trees_all_equal(gradient, jnp.zeros(3))
    chex.assert_trees_all_equal(weights.normalize(nothing), jnp.zeros(3))
    assert weights.effective_sample_size(nothing) == 0.0


def test_effective_sample_size_between_one_and_k():
    np.testing.assert_allclose(weights.effective_sample_size(jnp.zeros(7)), 7.0, rtol=1e-6)
    one = jnp.array([0.0, -200.0, -jnp.inf])
    np.testing.assert_allclose(weights.effective_sample_size(one), 1.0, rtol=1e-6)
