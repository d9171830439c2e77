"""Objectives against Eq. 1 to 5 written out in NumPy, and what they must not do."""

import itertools
import re

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import distributions, methods, objectives, samplers, types, weights
from aiwae_jax.types import Particles, phase

MODEL = lg.model()
X = jnp.asarray(lg.DATUM)


def gradient(sampler, objective, key=0, params=None):
    def value(params):
        particles, _ = sampler.draw(jax.random.key(key), params, X, sampler.init())
        return objective.value(params, particles)

    return jax.jit(jax.grad(value))(lg.params() if params is None else params)


def draw(sampler, key, params=None):
    """Particles of `X`."""
    params = lg.params() if params is None else params
    return jax.jit(sampler.draw)(jax.random.key(key), params, X, sampler.init())[0]


@pytest.mark.parametrize("num_particles", [1, 5, 50])
def test_iwae_gradient_is_equation_4_written_out_in_numpy(num_particles):
    sampler = samplers.importance(MODEL, num_particles)
    params = lg.params()
    particles = draw(sampler, 3)
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
    particles = draw(samplers.importance(MODEL, 7), 8)

    def value(params, particles):
        return objectives.log_joint(MODEL).value(params, particles)

    gradients = jax.jit(jax.grad(value, argnums=(0, 1)))
    by_params, by_particles = gradients(lg.params(), particles)
    chex.assert_trees_all_equal(by_particles.z, jnp.zeros_like(particles.z))
    chex.assert_trees_all_equal(by_particles.log_weights, jnp.zeros(7))
    w = jax.nn.softmax(particles.log_weights)
    per_particle = jax.jit(jax.vmap(jax.grad(lg.log_joint), (None, None, 0)))
    each = per_particle(lg.params().theta, X, particles.z)
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
    exact = jax.jit(jax.grad(lg.exact_log_likelihood))(lg.params().theta, X)

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
    value_and_grad = jax.jit(jax.value_and_grad(lambda p: objective.value(p, particles)))
    value, grads = value_and_grad(lg.params())
    assert value == -jnp.inf
    chex.assert_trees_all_equal(grads, jax.tree.map(jnp.zeros_like, grads))


@pytest.mark.few(2)
@pytest.mark.parametrize("particle_chunk", [1, 2, 6, 10])  # 2 and 6 divide 6, 10 is more
def test_log_joint_in_chunks_of_particles_is_the_same(particle_chunk):
    sampler = samplers.importance(MODEL, 6)
    whole = gradient(sampler, objectives.log_joint(MODEL)).theta
    chunked = gradient(sampler, objectives.log_joint(MODEL, particle_chunk=particle_chunk)).theta
    chex.assert_trees_all_close(whole, chunked, rtol=1e-5, atol=1e-6)


def test_elbo_of_particles_that_are_no_samples_of_q_is_the_mean_of_their_weights():
    particles = draw(samplers.importance(MODEL, 3), 0)
    particles = particles._replace(posterior=None)
    value = objectives.elbo(MODEL).value(lg.params(), particles)
    np.testing.assert_allclose(value, particles.log_weights.mean(), rtol=1e-6)


def test_a_particle_without_weight_at_a_broken_place_leaves_the_gradient_clean():
    z = jnp.array([[0.1, 0.2], [jnp.nan, jnp.inf]])
    objective = objectives.log_joint(MODEL)

    def grads(z, log_weights):
        particles = Particles(X, z, log_weights)
        return jax.jit(jax.grad(lambda p: objective.value(p, particles)))(lg.params()).theta

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
                samplers.importance(MODEL, 2)._replace(gives=frozenset({"gradients"})),
                objectives.bound(),
            ),
            "only for properly weighted",
        ),
        (
            lambda: phase(("phi",), samplers.importance(MODEL, 2), objectives.dreg()),
            "`sampler` has the score of q in it",
        ),
        (
            lambda: phase(
                ("theta", "phi"), samplers.hmc_from_posterior(MODEL, 2), objectives.bound()
            ),
            "`sampler` stops gradients",
        ),
        (
            lambda: objectives.total(objectives.bound(), objectives.log_joint(MODEL)),
            "`objectives` must train different parameters",
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


def test_names_that_no_table_has_are_refused_and_known_ones_listed():
    sampler, objective = samplers.importance(MODEL, 2), objectives.bound()
    build = {
        "gives": lambda wrong: phase(("phi",), sampler._replace(gives=wrong), objective),
        "needs": lambda wrong: phase(("phi",), sampler, objective._replace(needs=wrong)),
    }
    for field, wrong in itertools.product(build, ({"gradient"}, "gradients", True)):
        got = re.escape(repr(wrong))
        message = f"`{field}` must be a set of names among gradients, log_.*; got {got}"
        with pytest.raises(ValueError, match=message):
            build[field](wrong)


def test_a_new_name_is_one_line_of_the_table_and_its_use(monkeypatch):
    monkeypatch.setitem(types.NEEDS, "antithetic", "`objective` pairs particles; pair them.")
    objective = objectives.bound()
    objective = objective._replace(needs=objective.needs | {"antithetic"})
    sampler = samplers.importance(MODEL, 2)
    with pytest.raises(ValueError, match="`objective` pairs particles; pair them"):
        phase(("phi",), sampler, objective)
    paired = sampler._replace(gives=sampler.gives | {"antithetic"})
    assert phase(("phi",), paired, objective).updates == ("phi",)
    assert "antithetic" in objectives.mean_of(a=objective, b=objectives.bound()).needs
    assert "antithetic" not in samplers.joined(a=paired, b=sampler).gives


def phi_gradients(sampler, objective, num=20_000, key=8):
    """`[num, parameters of φ]` gradients of independent sets."""

    def one(key):
        def value(params):
            particles, _ = sampler.draw(key, params, X, sampler.init())
            return objective.value(params, particles)

        leaves = jax.tree.leaves(jax.grad(value)(lg.params()).phi)
        return jnp.concatenate([leaf.ravel() for leaf in leaves])

    keys = jax.random.split(jax.random.key(key), num)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def largest_z_score(first, second):
    """Of the difference of two means, over the columns."""
    error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
    return float(np.max(np.abs(first.mean(axis=0) - second.mean(axis=0)) / error))


def test_dreg_agrees_with_iwae_in_mean_and_has_less_variance():
    iwae = phi_gradients(samplers.importance(MODEL, 5), objectives.bound())
    without_score = samplers.importance(MODEL, 5, with_score=False)
    dreg = phi_gradients(without_score, objectives.dreg(), key=9)
    assert largest_z_score(iwae, dreg) < 4.0
    assert np.all(dreg.var(axis=0) < 0.8 * iwae.var(axis=0))


@pytest.mark.slow
def test_stl_agrees_with_iwae_in_mean_for_one_particle_and_is_biased_for_five():
    scores = {}
    for num in (1, 5):
        iwae = phi_gradients(samplers.importance(MODEL, num), objectives.bound())
        stl = phi_gradients(
            samplers.importance(MODEL, num, with_score=False), objectives.bound(), key=9
        )
        scores[num] = largest_z_score(iwae, stl)
    assert scores[1] < 4.0
    assert scores[5] > 8.0


def test_stl_has_no_noise_at_the_exact_posterior():
    exact = MODEL._replace(
        posterior=lambda phi, x: distributions.FullNormal(phi["loc"], phi["factor"])
    )
    q = jax.jit(lg.exact_posterior)(lg.params().theta, X)
    params = lg.params()._replace(phi={"loc": q.loc, "factor": q.factor})
    for with_score, is_zero in ((False, True), (True, False)):
        sampler = samplers.importance(exact, 1, with_score=with_score)
        found = gradient(sampler, objectives.bound(), params=params).phi
        assert (max(np.abs(leaf).max() for leaf in jax.tree.leaves(found)) < 1e-4) == is_zero


def test_leaving_the_score_out_changes_neither_values_nor_the_theta_gradient():
    samplers_ = [samplers.importance(MODEL, 5, with_score=s) for s in (True, False)]
    first, second = (draw(s, 0) for s in samplers_)
    chex.assert_trees_all_close(first.log_weights, second.log_weights, rtol=1e-6)
    gradients = [gradient(s, objectives.bound()).theta for s in samplers_]
    chex.assert_trees_all_close(*gradients, rtol=1e-5, atol=1e-6)


def test_reweighted_wake_sleep_has_the_theta_gradient_of_iwae():
    sampler = samplers.importance(MODEL, 5)
    wake = gradient(sampler, methods.rws(MODEL, 5)[0].objective).theta
    chex.assert_trees_all_close(
        wake, gradient(sampler, objectives.bound()).theta, rtol=1e-4, atol=1e-5
    )


def test_wake_update_descends_the_inclusive_kl():
    """∇_φ E_{p(z|x)}[log q_φ(z)], with one set of many particles and a ratio's standard error."""
    num = 40_000
    sampler = samplers.importance(MODEL, num)
    particles = draw(sampler, 1)
    found = gradient(sampler, objectives.log_posterior(MODEL), key=1).phi  # drawn within
    posterior = jax.jit(lg.exact_posterior)(lg.params().theta, X)
    q = lg.posterior(lg.params().phi, X)
    # ∂/∂loc of E[log q] = (E[z] - loc)/σ², and of log σ it is E[(z - loc)²]/σ² - 1.
    shift = posterior.loc - q.loc
    by_loc = shift / q.scale**2
    by_log_scale = (posterior.stddev() ** 2 + shift**2) / q.scale**2 - 1.0
    w = np.asarray(weights.normalize(particles.log_weights), np.float64)
    z, loc, scale = (np.asarray(a, np.float64) for a in (particles.z, q.loc, q.scale))
    noise = (z - loc) / scale**2
    error = np.sqrt((w[:, None] ** 2 * (noise - np.asarray(by_loc)) ** 2).sum(axis=0))
    assert np.all(np.abs(found["bias"] - by_loc) < 4 * error)
    squares = ((z - loc) / scale) ** 2 - 1.0
    error = np.sqrt((w[:, None] ** 2 * (squares - np.asarray(by_log_scale)) ** 2).sum(axis=0))
    assert np.all(np.abs(found["log_scale"] - by_log_scale) < 4 * error)


def test_sleep_update_is_of_the_dreams_own_datum():
    """One dream at a time, against log q(z|x') written out; the datum itself does not matter."""
    sampler = samplers.ancestral(MODEL)
    params = lg.params()
    for x in (X, -X):
        particles, _ = sampler.draw(jax.random.key(3), params, x, ())
        dream_x, dream_z = lg.sample(jax.random.key(3), params.theta)
        chex.assert_trees_all_equal(particles.x, dream_x)
        value = jax.jit(objectives.log_posterior(MODEL).value)(params, particles)
        expected = lg.posterior(params.phi, dream_x).log_prob(dream_z)
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_both_updates_together_are_the_mean_of_the_two():
    phase_of_phi = methods.rws(MODEL, 4, "both")[1]
    key = jax.random.key(2)
    found = gradient(phase_of_phi.sampler, phase_of_phi.objective, key=2).phi
    keys = jax.random.split(key, 2)
    parts = []
    for each, sampler in zip(
        keys, (samplers.importance(MODEL, 4), samplers.ancestral(MODEL)), strict=True
    ):
        particles, _ = jax.jit(sampler.draw)(each, lg.params(), X, ())

        def value(phi, particles=particles):
            objective = objectives.log_posterior(MODEL)
            particles = particles._replace(posterior=None)
            return objective.value(lg.params()._replace(phi=phi), particles)

        parts.append(jax.jit(jax.grad(value))(lg.params().phi))
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), *parts)
    chex.assert_trees_all_close(found, mean, rtol=1e-4, atol=1e-5)


def test_aiwae_wake_without_annealing_is_the_wake_update():
    """T = 2 and a step size of 0: the particles of importance sampling, with its weights."""
    annealed = methods.aiwae_wake(MODEL, 5, 2)[0]
    particles, _ = jax.jit(annealed.sampler.draw)(jax.random.key(4), lg.params(), X, jnp.zeros(1))
    q = lg.posterior(lg.params().phi, X)
    by_importance = particles._replace(
        log_weights=jax.jit(
            jax.vmap(lambda z: lg.log_joint(lg.params().theta, X, z) - q.log_prob(z))
        )(particles.z),
        posterior=None,
    )
    wake = methods.rws(MODEL, 5)[0].objective

    def drawn_within(params):
        drawn, _ = annealed.sampler.draw(jax.random.key(4), params, X, jnp.zeros(1))
        return annealed.objective.value(params, drawn)

    chex.assert_trees_all_close(
        jax.jit(jax.grad(drawn_within))(lg.params()),
        jax.jit(jax.grad(lambda params: wake.value(params, by_importance)))(lg.params()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_hoffman_without_moves_is_the_theta_update_of_the_vae():
    theta_phase = methods.hoffman(MODEL, 0)[0]
    particles, _ = jax.jit(theta_phase.sampler.draw)(
        jax.random.key(5), lg.params(), X, jnp.zeros(0)
    )
    q = lg.posterior(lg.params().phi, X)
    log_q = jax.vmap(q.log_prob)(particles.z)
    gradients = [
        jax.jit(jax.grad(lambda theta, o=o, p=p: o.value(lg.params()._replace(theta=theta), p)))(
            lg.params().theta
        )
        for o, p in (
            (theta_phase.objective, particles),
            (objectives.elbo(MODEL), particles._replace(posterior=q, log_weights=-log_q)),
        )
    ]
    chex.assert_trees_all_close(*gradients, rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(particles.z[0] - q.loc) < 5 * q.scale)


def test_hoffman_with_many_moves_has_the_theta_gradient_of_the_log_likelihood():
    """The mean over 20,000 chains of one particle each."""
    theta_phase = methods.hoffman(MODEL, 30, 3)[0]
    num = 20_000

    def one(key):
        def value(theta):
            params = lg.params()._replace(theta=theta)
            particles, _ = theta_phase.sampler.draw(key, params, X, jnp.full(30, 0.3))
            return theta_phase.objective.value(params, particles)

        return jax.grad(value)(lg.params().theta)

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(6), num))
    exact = jax.jit(jax.grad(lg.exact_log_likelihood))(lg.params().theta, X)
    for name, values in found.items():
        error = np.asarray(values).std(axis=0) / num**0.5
        assert np.all(np.abs(values.mean(axis=0) - exact[name]) < 4 * error), name


def test_base_and_latent_space_are_the_same_chain_where_q_has_unit_scale():
    unit = MODEL._replace(posterior=lambda phi, x: distributions.DiagNormal(x[:2], jnp.ones(2)))
    found = []
    for space in ("latent", "base"):
        sampler = samplers.annealed(unit, 6, 5, 3, chain_space=space)
        draw = jax.jit(sampler.draw)
        particles, _ = draw(jax.random.key(7), lg.params(), X, jnp.full(4, 0.4))
        found.append((particles.z, particles.log_weights))
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-4)
