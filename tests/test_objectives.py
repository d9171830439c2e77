"""Objectives against Eq. 1 to 5 written out in NumPy, and what they must not do."""

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import distributions, methods, objectives, samplers, weights
from aiwae_jax.types import Particles, phase

MODEL = lg.model()
X = jnp.asarray(lg.DATUM)


def gradient(sampler, objective, key=0, params=None):
    def value(params):
        particles, _ = sampler.draw(jax.random.key(key), params, X, sampler.init())
        return objective.value(params, particles)

    return jax.grad(value)(lg.params() if params is None else params)


@pytest.mark.parametrize("num_particles", [1, 5, 50])
def test_iwae_gradient_is_equation_4_written_out_in_numpy(num_particles):
    sampler = samplers.importance(MODEL, num_particles)
    params = lg.params()
    particles, _ = sampler.draw(jax.random.key(3), params, X, ())
    found = gradient(sampler, objectives.bound(), key=3)

    as64 = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float64), tree)  # noqa: E731
    theta, phi, z, x = as64(params.theta), as64(params.phi), as64(particles.z), as64(X)
    sigma = np.exp(phi["log_scale"])
    noise = (z - phi["weight"] @ x - phi["bias"]) / sigma
    residual = x - z @ theta["weight"].T - theta["bias"]
    log_p = -0.5 * (residual**2).sum(1) / lg.NOISE**2 - 0.5 * (z**2).sum(1)
    log_q = -0.5 * (noise**2).sum(1) - np.log(sigma).sum()
    w = np.exp(log_p - log_q - (log_p - log_q).max())
    w /= w.sum()

    # Eq. 5: Σ w̃ ∇_θ log p(x, z).
    by_mean = residual / lg.NOISE**2
    np.testing.assert_allclose(found.theta["bias"], w @ by_mean, rtol=2e-4)
    np.testing.assert_allclose(
        found.theta["weight"], np.einsum("k,kx,kd->xd", w, by_mean, z), rtol=2e-4, atol=1e-5
    )
    # Eq. 4 through z = μ + σ ε, where log q depends on φ only by -Σ log σ.
    by_z = by_mean @ theta["weight"] - z
    np.testing.assert_allclose(found.phi["bias"], w @ by_z, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found.phi["weight"], np.outer(w @ by_z, x), rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.phi["log_scale"], w @ (by_z * sigma * noise + 1.0), rtol=2e-4, atol=1e-5
    )


def test_iwae_with_one_particle_has_the_vae_gradient_for_theta():
    sampler = samplers.importance(MODEL, 1)
    iwae = gradient(sampler, objectives.bound(), key=4)
    vae = gradient(sampler, objectives.elbo(MODEL), key=4)
    chex.assert_trees_all_close(iwae.theta, vae.theta, rtol=1e-4, atol=1e-5)


def test_iwae_with_one_particle_has_the_vae_gradient_for_phi_in_mean():
    sampler = samplers.importance(MODEL, 1)
    num = 40_000

    def difference(key):
        def value(params):
            particles, _ = sampler.draw(key, params, X, ())
            bound = objectives.bound().value(params, particles)
            return bound - objectives.elbo(MODEL).value(params, particles)

        return jax.grad(value)(lg.params()).phi

    each = jax.jit(jax.vmap(difference))(jax.random.split(jax.random.key(5), num))
    for leaf in jax.tree.leaves(each):
        error = leaf.std(axis=0) / num**0.5
        assert np.all(np.abs(leaf.mean(axis=0)) < 4 * error + 1e-6)


def test_elbo_is_the_exact_bound_in_mean():
    """E[elbo] = log p(x) - KL(q || p(z|x)), both known here."""
    params = lg.params()
    sampler = samplers.importance(MODEL, 1)
    num = 50_000
    draws = jax.jit(
        jax.vmap(
            lambda key: objectives.elbo(MODEL).value(params, sampler.draw(key, params, X, ())[0])
        )
    )(jax.random.split(jax.random.key(6), num))
    weight = np.asarray(params.theta["weight"], np.float64)
    precision = np.eye(lg.D) + weight.T @ weight / lg.NOISE**2
    mean = np.linalg.solve(precision, weight.T @ (X - params.theta["bias"]) / lg.NOISE**2)
    q = lg.posterior(params.phi, X)
    variance = np.asarray(q.scale, np.float64) ** 2
    shift = np.asarray(q.loc, np.float64) - mean
    kl = 0.5 * (
        np.trace(precision * variance[None, :])
        + shift @ precision @ shift
        - lg.D
        - np.linalg.slogdet(precision)[1]
        - np.log(variance).sum()
    )
    exact = float(lg.exact_log_likelihood(params.theta, X)) - kl
    assert abs(float(draws.mean()) - exact) < 4 * float(draws.std()) / num**0.5


def test_elbo_without_closed_form_kl_agrees_in_mean():
    class Opaque:
        """The same q, hidden from the closed form."""

        def __init__(self, q):
            self._q = q

        def __getattr__(self, name):
            return getattr(self._q, name)

    hidden = MODEL._replace(posterior=lambda phi, x: Opaque(lg.posterior(phi, x)))
    q = lg.posterior(lg.params().phi, X)
    assert not distributions.has_closed_form_kl(Opaque(q), distributions.standard_normal(2))

    def values(model, key):
        sampler = samplers.importance(model, 1)
        particles, _ = sampler.draw(key, lg.params(), X, ())
        return objectives.elbo(model).value(lg.params(), particles)

    keys = jax.random.split(jax.random.key(7), 20_000)
    difference = jax.jit(jax.vmap(lambda k: values(hidden, k) - values(MODEL, k)))(keys)
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 20_000**0.5


def test_log_joint_gradient_is_the_weighted_mean_and_stops_at_z_and_weights():
    particles, _ = samplers.importance(MODEL, 7).draw(jax.random.key(8), lg.params(), X, ())

    def value(params, particles):
        return objectives.log_joint(MODEL).value(params, particles)

    by_params, by_particles = jax.grad(value, argnums=(0, 1))(lg.params(), particles)
    chex.assert_trees_all_equal(by_particles.z, jnp.zeros_like(particles.z))
    chex.assert_trees_all_equal(by_particles.log_weights, jnp.zeros(7))
    w = jax.nn.softmax(particles.log_weights)
    each = jax.vmap(jax.grad(lg.log_joint), (None, None, 0))(lg.params().theta, X, particles.z)
    np.testing.assert_allclose(by_params.theta["bias"], w @ each["bias"], rtol=1e-4)
    chex.assert_trees_all_equal(by_params.phi, jax.tree.map(jnp.zeros_like, by_params.phi))


def theta_gradient_z_score(method, num_sets=10, num_particles=2000):
    """θ-gradient of a method's own first phase against the exact one, over large sets of particles.

    With 2,000 particles a set the self-normalization bias is far below the error of ten sets' mean.
    """
    theta_phase = method[0]

    def gradient_of_set(key):
        def value(theta):
            params = lg.params()._replace(theta=theta)
            particles, _ = theta_phase.sampler.draw(key, params, X, jnp.full(3, 0.5))
            return theta_phase.objective.value(params, particles)

        return jax.grad(value)(lg.params().theta)

    keys = jax.random.split(jax.random.key(11), num_sets)
    found = jax.jit(lambda keys: jax.lax.map(gradient_of_set, keys))(keys)
    exact = jax.grad(lg.exact_log_likelihood)(lg.params().theta, X)

    def score(g, e):
        return np.abs(g.mean(0) - e) / (np.std(g, axis=0, ddof=1) / num_sets**0.5)

    scores = jax.tree.map(score, found, exact)
    return max(float(np.max(score)) for score in jax.tree.leaves(scores))


# The largest of nine Student-t scores with nine degrees of freedom passes 8 once in 5,000.
def test_theta_gradients_of_iwae_and_aiwae_are_those_of_the_log_likelihood():
    assert theta_gradient_z_score(methods.iwae(MODEL, 2000)) < 8.0
    assert theta_gradient_z_score(methods.aiwae(MODEL, 2000, 4, 3)) < 8.0


@pytest.mark.slow
def test_theta_gradient_test_catches_weights_that_are_not_used(monkeypatch):
    """Equal weights at T=2 make AIWAE's gradient the VAE's, which is another one."""
    monkeypatch.setattr(weights, "normalize", lambda w: jnp.full(w.shape, 1.0 / w.size))
    method = methods.aiwae(MODEL, 2000, 2, 1)
    frozen = method[0]._replace(sampler=method[0].sampler._replace(draw=_without_moves(method)))
    assert theta_gradient_z_score((frozen,)) > 16.0


def _without_moves(method):
    draw = method[0].sampler.draw
    return lambda key, params, x, state: draw(key, params, x, jnp.zeros(1))


def test_without_any_weight_log_joint_is_minus_infinity_without_gradient():
    particles = Particles(X, jnp.full((3, lg.D), jnp.nan), jnp.full(3, -jnp.inf))
    objective = objectives.log_joint(MODEL)
    value, grads = jax.value_and_grad(lambda p: objective.value(p, particles))(lg.params())
    assert value == -jnp.inf
    chex.assert_trees_all_equal(grads, jax.tree.map(jnp.zeros_like, grads))


@pytest.mark.parametrize("particle_chunk", [1, 2, 6, 10])  # 2 and 6 divide 6, 10 is more
def test_log_joint_in_chunks_of_particles_is_the_same(particle_chunk):
    sampler = samplers.importance(MODEL, 6)
    whole = gradient(sampler, objectives.log_joint(MODEL)).theta
    chunked = gradient(sampler, objectives.log_joint(MODEL, particle_chunk=particle_chunk)).theta
    chex.assert_trees_all_close(whole, chunked, rtol=1e-5, atol=1e-6)


def test_elbo_without_a_posterior_at_hand_asks_the_model():
    particles, _ = samplers.importance(MODEL, 3).draw(jax.random.key(0), lg.params(), X, ())
    value = objectives.elbo(MODEL).value
    assert value(lg.params(), particles) == value(lg.params(), particles._replace(posterior=None))


def test_a_particle_without_weight_at_a_broken_place_leaves_the_gradient_clean():
    z = jnp.array([[0.1, 0.2], [jnp.nan, jnp.inf]])
    objective = objectives.log_joint(MODEL)

    def grads(z, log_weights):
        particles = Particles(X, z, log_weights)
        return jax.grad(lambda p: objective.value(p, particles))(lg.params()).theta

    chex.assert_trees_all_close(
        grads(z, jnp.array([0.3, -jnp.inf])), grads(z[:1], jnp.array([0.3])), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: phase(("theta",), samplers.annealed(MODEL, 2, 3), objectives.bound()),
            "`sampler` stops gradients",
        ),
        (
            lambda: phase(("phi",), samplers.annealed(MODEL, 2, 3), objectives.elbo(MODEL)),
            "`sampler` stops gradients",
        ),
        (
            lambda: phase(("phi",), samplers.importance(MODEL, 2), objectives.log_joint(MODEL)),
            "has a gradient for",
        ),
        (
            lambda: phase(
                ("theta",),
                samplers.importance(MODEL, 2)._replace(is_properly_weighted=False),
                objectives.bound(),
            ),
            "only for properly weighted",
        ),
        (
            lambda: phase(("gamma",), samplers.importance(MODEL, 2), objectives.bound()),
            "`updates` must name parameters",
        ),
    ],
)
def test_mismatched_phases_are_refused_when_built(build, message):
    with pytest.raises(ValueError, match=message):
        build()
