"""Hamiltonian flows on the linear-Gaussian model: proper weights, bounds, limits, memory."""

import chex
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import (
    differentiable,
    distributions,
    hamiltonian,
    methods,
    objectives,
    samplers,
    train,
)

MODEL = lg.model()
EXACT = MODEL._replace(posterior=lambda phi, x: lg.exact_posterior(lg.params().theta, x))
X = jnp.asarray(lg.DATUM)
LOG_P = float(jax.jit(lg.exact_log_likelihood)(lg.params().theta, X))
SAMPLERS = {
    "hvae": lambda m: differentiable.hvae(m, 1, 3, tempering="none", initial_step_size=0.3),
    "hvae tempered": lambda m: differentiable.hvae(m, 1, 3, initial_step_size=0.3),
    "hvae learned": lambda m: differentiable.hvae(
        m, 1, 3, tempering="learned", initial_temperature=3.0, initial_step_size=0.3
    ),
    "hvi": lambda m: differentiable.hvi(m, 1, 2, 2, hidden_size=4, initial_step_size=0.3),
    "uha": lambda m: differentiable.uha(m, 1, 4, 2, initial_step_size=0.3),
    "uha base": lambda m: differentiable.uha(
        m, 1, 4, 2, initial_step_size=0.4, chain_space="base", schedule="sigmoid"
    ),
}


def log_weights_of(sampler, num=40_000, model=MODEL, key=0):
    """`[num]` log weights of one-particle sets, float64."""
    params = lg.params()._replace(psi=sampler.init_params(jax.random.key(7)))
    keys = jax.random.split(jax.random.key(key), num)

    def draw(key):
        return sampler.draw(key, params, X, sampler.init())[0].log_weights[0]

    return np.asarray(jax.jit(jax.vmap(draw))(keys), np.float64)


def weighting_z_score(name):
    """(mean weight / p(x) - 1) in standard errors."""
    w = np.exp(log_weights_of(SAMPLERS[name](MODEL)) - LOG_P)
    return abs(w.mean() - 1.0) / (w.std(ddof=1) / w.size**0.5)


@pytest.mark.few(3)
@pytest.mark.parametrize("name", SAMPLERS)
def test_mean_weight_is_the_evidence_and_mean_log_weight_below_it(name):
    log_w = log_weights_of(SAMPLERS[name](MODEL))
    w = np.exp(log_w - LOG_P)
    assert abs(w.mean() - 1.0) < 4.0 * w.std(ddof=1) / w.size**0.5
    assert log_w.mean() < LOG_P - 4.0 * log_w.std() / log_w.size**0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_weighting_test_catches_a_momentum_of_the_wrong_density(name, monkeypatch):
    """Half of its log density, before and after the flow; the reverse model has all of it."""
    log_normal = hamiltonian._log_normal
    monkeypatch.setattr(hamiltonian, "_log_normal", lambda v: 0.5 * log_normal(v))
    assert weighting_z_score(name) > 6.0


@pytest.mark.slow
def test_weighting_test_catches_a_momentum_that_starts_cold(monkeypatch):
    monkeypatch.setattr(jnp, "prod", lambda a: jnp.ones(()))
    assert weighting_z_score("hvae tempered") > 6.0


@pytest.mark.parametrize(
    "sampler",
    [
        differentiable.hvae(MODEL, 3, 0, tempering="none"),
        differentiable.hvi(MODEL, 3, 0, 1),
    ],
)
def test_without_moves_the_weights_are_those_of_importance_sampling(sampler):
    params = lg.params()._replace(psi=sampler.init_params(jax.random.key(7)))
    particles, _ = jax.jit(sampler.draw)(jax.random.key(0), params, X, ())
    q = lg.posterior(params.phi, X)
    log_weight = jax.jit(jax.vmap(lambda z: lg.log_joint(params.theta, X, z) - q.log_prob(z)))
    expected = log_weight(particles.z)
    np.testing.assert_allclose(particles.log_weights, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["importance", "annealed", "annealed in base space"])
def test_exact_posterior_makes_every_weight_the_evidence(kind):
    build = {
        "importance": lambda: samplers.importance(EXACT, 50),
        "annealed": lambda: samplers.annealed(EXACT, 50, 4, 3),
        "annealed in base space": lambda: samplers.annealed(EXACT, 50, 4, 3, chain_space="base"),
    }
    sampler = build[kind]()
    particles, _ = jax.jit(sampler.draw)(jax.random.key(0), lg.params(), X, sampler.init())
    np.testing.assert_allclose(particles.log_weights, LOG_P, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hvae", "uha"])
def test_at_the_exact_posterior_the_gap_falls_with_the_step_size(kind):
    build = {
        "hvae": lambda **o: differentiable.hvae(EXACT, 1, 4, tempering="none", **o),
        "uha": lambda **o: differentiable.uha(EXACT, 1, 4, 2, **o),
    }[kind]
    gaps, errors = [], []
    for step_size in (0.8, 0.4, 0.1):
        sampler = build(initial_step_size=step_size, largest_step_size=1.5)
        log_w = log_weights_of(sampler, 20_000)
        gaps.append(LOG_P - log_w.mean())
        errors.append(log_w.std() / log_w.size**0.5)
    assert gaps[0] > 4 * errors[0]
    assert gaps[0] > 4 * gaps[1]
    assert abs(gaps[2]) < 4 * errors[2] < 0.01


@pytest.mark.by_hand
@pytest.mark.slow
def test_uha_approaches_the_evidence_as_temperatures_grow_and_steps_shrink():
    gaps, errors = [], []
    for num, step_size in ((4, 0.4), (32, 0.25), (256, 0.15)):
        sampler = differentiable.uha(MODEL, 1, num, 3, initial_step_size=step_size)
        log_w = log_weights_of(sampler, 8_000)
        gaps.append(LOG_P - log_w.mean())
        errors.append(log_w.std() / log_w.size**0.5)
    for i in range(2):  # falls each time, by more than chance
        assert gaps[i] - gaps[i + 1] > 4.0 * np.hypot(errors[i], errors[i + 1])
    assert gaps[2] > -4.0 * errors[2]
    assert gaps[2] < 0.2 * gaps[0]


def test_cooling_ends_at_the_models_temperature():
    coolings = hamiltonian.quadratic_cooling(7, 4.0)
    np.testing.assert_allclose(jnp.prod(coolings), 0.5, rtol=1e-6)
    assert np.all(coolings < 1.0)
    np.testing.assert_array_equal(hamiltonian.quadratic_cooling(3, 1.0), np.ones(3))


def test_auxiliary_bound_is_tight_with_the_right_reverse_model():
    """No force: z_1 = z_0 + ε·v, and r(v | z_1) known in closed form."""
    scale, step_size = 2.0, 0.5
    start = distributions.DiagNormal(jnp.zeros(1), jnp.array([scale]))
    variance = scale**2 + step_size**2

    def log_target(z):  # the density of z_1, so that nothing is lost
        return distributions.DiagNormal(jnp.zeros(1), jnp.array([variance**0.5])).log_prob(
            jax.lax.stop_gradient(z)
        )

    def reverse_fn(m, z, force):
        del m, force
        return distributions.DiagNormal(
            step_size * z / variance, jnp.array([scale / variance**0.5])
        )

    def log_weight(key):
        z_key, flow_key = jax.random.split(key)
        z = start.sample(z_key)
        _, log_w = hamiltonian.auxiliary_flow(
            flow_key, z, log_target, step_size, reverse_fn, num_moves=1, num_leapfrog_steps=1
        )
        return log_w - start.log_prob(z)

    np.testing.assert_allclose(
        jax.vmap(log_weight)(jax.random.split(jax.random.key(0), 20)), 0.0, atol=1e-5
    )


@pytest.mark.few(2)
@pytest.mark.parametrize("name", SAMPLERS)
def test_gradients_reach_all_parameters(name):
    sampler = SAMPLERS[name](MODEL)
    params = lg.params()._replace(psi=sampler.init_params(jax.random.key(7)))

    def bound(params):
        particles, _ = sampler.draw(jax.random.key(0), params, X, sampler.init())
        return objectives.bound().value(params, particles)

    gradients = jax.jit(jax.grad(bound))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


def test_step_sizes_are_learned():
    method = methods.uha(MODEL, 1, 4)
    optimizers = train.adam(0.1)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    before = jax.device_get(state.params.psi)
    step = train.make_train_step(method, optimizers)
    state, _ = step(jax.random.key(1), state, X[None])
    assert np.all(np.asarray(state.params.psi["uha"]["step_sizes"]) != before["uha"]["step_sizes"])


def temporary_memory(build, num_temperatures):
    method, optimizers = build(num_temperatures), train.adam(0.1)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    step = train.make_train_step(method, optimizers)
    batch = jnp.broadcast_to(X, (64, lg.X))
    return (
        step.lower(jax.random.key(0), state, batch).compile().memory_analysis().temp_size_in_bytes
    )


@pytest.mark.by_hand
@pytest.mark.slow
def test_memory_grows_with_temperatures_less_so_with_rematerialization_and_not_for_aiwae():
    builds = {
        "uha": lambda t: methods.uha(MODEL, 8, t, 5),
        "remat": lambda t: methods.uha(MODEL, 8, t, 5, with_rematerialization=True),
        "aiwae": lambda t: methods.aiwae(MODEL, 8, t, 5),
    }
    growth = {
        name: temporary_memory(build, 41) - temporary_memory(build, 11)
        for name, build in builds.items()
    }
    assert growth["uha"] > 2 * growth["remat"] > 0
    assert growth["aiwae"] < 0.05 * growth["remat"]


@pytest.mark.slow
def test_rematerialization_changes_no_gradient():
    def gradient(with_rematerialization):
        sampler = differentiable.uha(
            MODEL, 2, 4, 2, with_rematerialization=with_rematerialization, initial_step_size=0.2
        )
        params = lg.params()._replace(psi=sampler.init_params(jax.random.key(7)))

        def value(params):
            particles, _ = sampler.draw(jax.random.key(0), params, X, ())
            return objectives.bound().value(params, particles)

        return jax.jit(jax.grad(value))(params)

    chex.assert_trees_all_close(gradient(False), gradient(True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: differentiable.hvae(MODEL, 1, 2, tempering="hot"),
            "`tempering` must be one of",
        ),
        (
            lambda: differentiable.hvae(MODEL, 1, 2, tempering="learned", initial_temperature=1.0),
            "above it to be learned, got 1.0",
        ),
        (
            lambda: differentiable.hvae(MODEL, 1, 2, initial_step_size=0.7),
            "`initial_step_size` must lie between 0 and `largest_step_size`=0.5, got 0.7",
        ),
        (lambda: differentiable.hvi(MODEL, 1, -1), "`num_moves` must be at least 0, got -1"),
        (lambda: differentiable.uha(MODEL, 1, 1), "`num_temperatures` counts both"),
        (lambda: differentiable.uha(MODEL, 0, 4), "`num_particles` must be at least 1, got 0"),
        (
            lambda: differentiable.uha(MODEL._replace(has_posterior_density=False), 1, 4),
            "needs log q at points that q did not draw",
        ),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
