"""Posteriors on a grid against the linear-Gaussian model's, and against annealed particles."""

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import distributions, models, samplers, weights
from aiwae_jax.evaluate import grid


def test_linear_gaussian_posterior_on_a_grid_is_the_exact_one():
    params, x = lg.params(), jnp.asarray(lg.DATUM)
    found = grid.posterior_on_grid(lambda z: lg.log_joint(params.theta, x, z))
    np.testing.assert_allclose(found.density.sum() * found.cell_area, 1.0, rtol=1e-9)
    exact = lg.exact_log_likelihood(params.theta, x)
    np.testing.assert_allclose(found.log_evidence, exact, atol=1e-4)
    weight = np.asarray(params.theta["weight"], np.float64)
    precision = np.eye(2) + weight.T @ weight / lg.NOISE**2
    residual = np.asarray(x, np.float64) - np.asarray(params.theta["bias"], np.float64)
    mean, covariance = found.moments()
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=1e-3, atol=1e-5)
    expected = np.linalg.solve(precision, weight.T @ residual / lg.NOISE**2)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    assert abs(found.divergence_from_gaussian()) < 1e-4


@pytest.mark.parametrize(("centre", "scale"), [(8.0, 0.1), (0.3, 0.002), (-30.0, 1.0)])
def test_the_grid_finds_mass_far_out_and_in_a_narrow_place(centre, scale):
    """z ~ N(0, I) and x = z + N(0, s²) with x = (c, 0): all in closed form."""
    x = np.array([centre, 0.0])

    def log_joint(z):
        likelihood = distributions.DiagNormal(z, jnp.full(2, scale, z.dtype)).log_prob(
            jnp.asarray(x, z.dtype)
        )
        return likelihood + distributions.standard_normal(2).log_prob(z)

    found = grid.posterior_on_grid(log_joint)
    mean, covariance = found.moments()
    shrunk = 1.0 / (1.0 + scale**2)
    np.testing.assert_allclose(mean, shrunk * x, atol=0.02 * scale)
    np.testing.assert_allclose(covariance, scale**2 * shrunk * np.eye(2), atol=0.02 * scale**2)
    exact = -0.5 * (x @ x) * shrunk - np.log(2 * np.pi / shrunk)
    np.testing.assert_allclose(found.log_evidence, exact, rtol=1e-4, atol=0.01)


def test_a_density_without_a_mode_is_refused():
    with pytest.raises(ValueError, match="mass reaches the edge of every grid"):
        grid.posterior_on_grid(lambda z: 0.0 * jnp.sum(z))


@pytest.mark.slow
def test_annealed_particles_have_the_moments_of_the_grid_posterior():
    """A decoder with sharp, curved likelihood; weighted moments within 4 standard errors."""
    model = models.bernoulli_vae(16, 2, hidden_sizes=(8, 8), initialization="torch")
    params = jax.tree.map(lambda a: 4.0 * a, model.init(jax.random.key(3)))
    x = model.sample(jax.random.key(1), params.theta)[0]
    found = grid.posterior_on_grid(lambda z: model.log_joint(params.theta, x, z))
    assert found.divergence_from_gaussian() > 0.01  # not just another Gaussian

    sampler = samplers.annealed(model, 20_000, 20, 5, initial_step_size=0.2)
    params = params._replace(phi=jax.tree.map(jnp.zeros_like, params.phi))  # q = N(0, I)
    particles, _ = jax.jit(sampler.draw)(jax.random.key(2), params, x, sampler.init())
    w = np.asarray(weights.normalize(particles.log_weights), np.float64)
    z = np.asarray(particles.z, np.float64)
    mean, covariance = found.moments()
    second = covariance + np.outer(mean, mean)
    for values, exact in (
        *((z[:, i], mean[i]) for i in range(2)),
        *((z[:, i] * z[:, j], second[i, j]) for i, j in ((0, 0), (0, 1), (1, 1))),
    ):
        standard_error = np.sqrt(np.sum(w**2 * (values - exact) ** 2))
        assert abs(np.sum(w * values) - exact) < 4.0 * standard_error
    log_mean_weight = weights.log_mean_exp(particles.log_weights)
    relative_error = np.sqrt(len(w) * np.sum(w**2) - 1.0) / np.sqrt(len(w))
    assert abs(log_mean_weight - found.log_evidence) < 4.0 * relative_error + 1e-4
