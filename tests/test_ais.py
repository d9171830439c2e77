"""Annealed importance sampling against closed forms, a NumPy loop, and planted faults."""

import functools
import itertools
import math

import chex
import heavy
import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
import scipy.stats
from log_gamma import (
    INITIAL_SHAPE,
    TARGET_SHAPE,
    exact_samples,
    largest_z_score,
    log_initial,
    log_normalizer,
    log_target,
    shape_at,
)

from aiwae_jax import ais, forces
from aiwae_jax.moves import hamiltonian as hmc

LOG_Z = log_normalizer(TARGET_SHAPE)
STEP_SIZE, NUM_LEAPFROG_STEPS = 0.5, 3


# Gradients of the two ends rounded to multiples of a half: wrong, but deterministic.
COARSE_FORCES = tuple(
    lambda y, f=f: jnp.round(2.0 * jax.grad(f)(y)) / 2.0 for f in (log_initial, log_target)
)


# ----------------------------------------------------------------------------- invariance of a move


def move_at(beta, num_moves, step_size, force_fns=None, num=100_000):
    before = exact_samples(0, shape_at(beta), num)
    ends = (log_initial, log_target)
    if force_fns is not None:
        ends = [forces.with_force(f, g) for f, g in zip(ends, force_fns, strict=True)]

    @jax.vmap
    def move(key, y):
        def body(state, key):
            return ais.step(
                key,
                state,
                beta,
                step_size,
                *ends,
                num_leapfrog_steps=NUM_LEAPFROG_STEPS,
            )

        state = ais.init(y, *ends, beta=beta)
        state, info = jax.lax.scan(body, state, jax.random.split(key, num_moves))
        return state.position, info.acceptance.mean()

    after, acceptance = heavy.jit(move)(jax.random.split(jax.random.key(1), num), before)
    return before, after, float(acceptance.mean())


@pytest.mark.few(2)
@pytest.mark.parametrize(("num_moves", "beta"), [(1, 0.5), (10, 0.5), (10, 0.0), (10, 1.0)])
def test_move_leaves_each_intermediate_density_invariant(num_moves, beta):
    before, after, acceptance = move_at(beta, num_moves, 0.8)
    assert 0.4 < acceptance < 0.8
    assert largest_z_score(before, after) < 4.0


def test_move_with_grossly_rounded_forces_leaves_intermediate_density_invariant():
    before, after, acceptance = move_at(0.5, 10, 0.7, COARSE_FORCES)
    assert 0.4 < acceptance < 0.9
    assert largest_z_score(before, after) < 4.0


@pytest.mark.slow
def test_invariance_test_catches_a_move_at_another_temperature(monkeypatch):
    at_beta = ais._at_beta
    monkeypatch.setattr(ais, "_at_beta", lambda s: at_beta(s._replace(beta=s.beta - 0.1)))
    before, after, _ = move_at(0.5, 10, 0.8)
    assert largest_z_score(before, after) > 6.0


# --------------------------------------------------------------------------- unbiasedness of E[w]


def weight_z_score(
    num_temperatures,
    *,
    force_fns=None,
    with_last_move=True,
    momentum_persistence=0.0,
    num=100_000,
):
    """(mean of w / Z - 1) in standard errors."""
    start = exact_samples(2, INITIAL_SHAPE, num)
    betas = ais.linear_schedule(num_temperatures)

    @jax.vmap
    def chain(key, y):
        return ais.run_chain(
            key,
            y,
            log_initial,
            log_target,
            betas,
            STEP_SIZE,
            num_leapfrog_steps=NUM_LEAPFROG_STEPS,
            force_fns=force_fns,
            with_last_move=with_last_move,
            momentum_persistence=momentum_persistence,
        )

    _, log_weights, _ = heavy.jit(chain)(jax.random.split(jax.random.key(3), num), start)
    ratio = np.exp(np.asarray(log_weights, np.float64) - LOG_Z)
    return (ratio.mean() - 1.0) / (ratio.std(ddof=1) / math.sqrt(num))


@pytest.mark.few(3)
@pytest.mark.parametrize("num_temperatures", [5, 20])
@pytest.mark.parametrize("with_last_move", [True, False])
@pytest.mark.parametrize("force_fns", [None, COARSE_FORCES], ids=["exact", "coarse"])
def test_mean_weight_is_the_ratio_of_normalizers(num_temperatures, with_last_move, force_fns):
    z = weight_z_score(num_temperatures, force_fns=force_fns, with_last_move=with_last_move)
    assert abs(z) < 4.0


@pytest.mark.parametrize("num_temperatures", [5, 20])
def test_mean_weight_is_the_ratio_of_normalizers_with_persistent_momentum(num_temperatures):
    assert abs(weight_z_score(num_temperatures, momentum_persistence=0.8)) < 4.0


def _plant_no_accept_step(monkeypatch):
    monkeypatch.setattr(hmc, "accept", lambda log_uniform, r: jnp.ones((), bool) | (r > 0))


def _plant_cache_of_previous_beta(monkeypatch):
    real_step, real_transition, previous = ais.step, hmc.transition, {}

    def step(key, state, *args, **kwargs):
        previous["beta"] = state.beta
        return real_step(key, state, *args, **kwargs)

    def transition(key, state, *args, **kwargs):
        initial, target = state.aux
        stale = ais.interpolate(previous["beta"], initial.log_density, target.log_density)
        return real_transition(key, state._replace(log_density=stale), *args, **kwargs)

    monkeypatch.setattr(ais, "step", step)
    monkeypatch.setattr(hmc, "transition", transition)


def _plant_weight_after_the_move(monkeypatch):
    real_step = ais.step

    def step(key, state, beta, *args, **kwargs):
        frozen = state._replace(beta=jnp.asarray(beta))
        moved, info = real_step(key, frozen, beta, *args, **kwargs)
        return ais.reweight(moved._replace(beta=state.beta), beta), info

    monkeypatch.setattr(ais, "step", step)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant", [_plant_no_accept_step, _plant_cache_of_previous_beta, _plant_weight_after_the_move]
)
def test_mean_weight_test_catches_planted_fault(monkeypatch, plant):
    plant(monkeypatch)
    assert abs(weight_z_score(10)) > 6.0


def run_linear_gaussian(num_temperatures, num=100_000):
    """Annealed particles of the linear-Gaussian datum from its q: (z, log weights)."""
    params = lg.params()
    q = lg.posterior(params.phi, lg.DATUM)

    @jax.vmap
    def chain(key):
        start_key, chain_key = jax.random.split(key)
        return ais.run_chain(
            chain_key,
            q.sample(start_key),
            q.log_prob,
            lambda z: lg.log_joint(params.theta, lg.DATUM, z),
            ais.linear_schedule(num_temperatures),
            0.5,
            num_leapfrog_steps=NUM_LEAPFROG_STEPS,
        )

    z, log_weights, _ = heavy.jit(chain)(jax.random.split(jax.random.key(0), num))
    return z, log_weights


particles_of = functools.cache(run_linear_gaussian)


@pytest.mark.few(1)
@pytest.mark.parametrize("num_temperatures", [2, 5, 20])
def test_mean_weight_is_the_likelihood_of_the_linear_gaussian_model(num_temperatures):
    _, log_weights = particles_of(num_temperatures)
    exact = float(lg.exact_log_likelihood(lg.params().theta, lg.DATUM))
    ratio = np.exp(np.asarray(log_weights, np.float64) - exact)
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std(ddof=1) / math.sqrt(len(ratio))


_gradients = jax.jit(jax.vmap(jax.grad(lg.log_joint), (None, None, 0)))
_exact_gradient = jax.jit(jax.grad(lg.exact_log_likelihood))


def theta_gradient_z_score(z, log_weights):
    """Self-normalized θ-gradient of one large set against the exact one, in delta-method errors."""
    theta = lg.params().theta
    per_particle = _gradients(theta, lg.DATUM, z)
    exact = _exact_gradient(theta, lg.DATUM)
    w = np.exp(np.asarray(log_weights, np.float64) - float(log_weights.max()))
    w /= w.sum()
    scores = []
    for g, target in zip(jax.tree.leaves(per_particle), jax.tree.leaves(exact), strict=True):
        g = np.asarray(g, np.float64).reshape(len(w), -1)
        estimate = w @ g
        error = np.sqrt((w**2) @ (g - estimate) ** 2)
        scores.append(np.abs(estimate - np.asarray(target).ravel()) / error)
    return float(np.concatenate(scores).max())


@pytest.mark.parametrize("num_temperatures", [2, 5, 20])
def test_theta_gradient_is_exact_for_many_particles(num_temperatures):
    assert theta_gradient_z_score(*particles_of(num_temperatures)) < 4.0


@pytest.mark.slow
def test_theta_gradient_test_catches_missing_accept_step(monkeypatch):
    _plant_no_accept_step(monkeypatch)
    assert theta_gradient_z_score(*run_linear_gaussian(20)) > 6.0


# ----------------------------------------------------------------------------- caching and energies


def record_chain(num_temperatures=9, num=64, step_size=0.9):
    """Runs `step` by hand and records every state, with β changing from move to move."""
    y = exact_samples(6, INITIAL_SHAPE, num)
    keys = jax.random.split(jax.random.key(7), num)
    betas = ais.linear_schedule(num_temperatures)
    states = [jax.vmap(lambda y: ais.init(y, log_initial, log_target))(y)]

    @jax.jit
    def advance(t, state, beta):
        return jax.vmap(
            lambda key, state: ais.step(
                jax.random.fold_in(key, t),
                state,
                beta,
                step_size,
                log_initial,
                log_target,
                num_leapfrog_steps=NUM_LEAPFROG_STEPS,
            )
        )(keys, state)

    for t in range(1, num_temperatures):
        state, _ = advance(t, states[-1], betas[t])
        states.append(state)
    return keys, betas, states


def test_cached_ends_equal_recomputed_ones_after_every_move():
    _, _, states = record_chain()
    is_accepted = []
    for before, after in itertools.pairwise(states):
        fresh = jax.vmap(lambda y: ais.init(y, log_initial, log_target))(after.position)
        chex.assert_trees_all_close(after.initial, fresh.initial, rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close(after.target, fresh.target, rtol=1e-5, atol=1e-5)
        is_accepted.append(np.any(np.asarray(before.position != after.position), axis=1))
    assert 0.1 < np.mean(is_accepted) < 0.95, "both accepted and rejected moves must be seen"


def largest_float64_error():
    """Largest error of cached energies and of log weights against float64 at the same positions."""
    _, betas, states = record_chain()
    betas = np.asarray(betas, np.float64)
    expected = np.zeros(len(states[0].position))
    errors = []
    for t, state in enumerate(states[:-1]):
        y = np.asarray(state.position, np.float64)
        log_f0 = (INITIAL_SHAPE * y - np.exp(y)).sum(1) - log_normalizer(INITIAL_SHAPE)
        log_fn = (TARGET_SHAPE * y - np.exp(y)).sum(1)
        errors += [state.initial.log_density - log_f0, state.target.log_density - log_fn]
        expected += (betas[t + 1] - betas[t]) * (log_fn - log_f0)
    errors.append(states[-1].log_weight - expected)
    return max(float(np.abs(error).max()) for error in errors)


def test_log_weights_and_energies_match_a_float64_recomputation():
    assert largest_float64_error() < 2e-5


@pytest.mark.slow
def test_float64_test_catches_energies_in_bfloat16(monkeypatch):
    real_init = hmc.init

    def rounded_init(*args, **kwargs):
        state = real_init(*args, **kwargs)
        return state._replace(log_density=jax.lax.reduce_precision(state.log_density, 8, 7))

    monkeypatch.setattr(hmc, "init", rounded_init)
    assert largest_float64_error() > 1e-3


def numpy_chain(keys, start, betas, step_size):
    """Algorithm 1 in float64 with plain loops and the noise of the same keys."""

    def gradient(y, beta):
        return (1 - beta) * INITIAL_SHAPE + beta * TARGET_SHAPE - np.exp(y)

    def log_density(y, beta):
        log_f0 = np.sum(INITIAL_SHAPE * y - np.exp(y)) - log_normalizer(INITIAL_SHAPE)
        return (1 - beta) * log_f0 + beta * np.sum(TARGET_SHAPE * y - np.exp(y))

    ends, log_weights, num_rejected = [], [], 0
    for key, y in zip(keys, np.asarray(start, np.float64), strict=True):
        log_weight = 0.0
        for t in range(1, len(betas)):
            log_weight += log_density(y, betas[t]) - log_density(y, betas[t - 1])
            noise = jax.random.normal(jax.random.fold_in(key, t), (len(y) + 1,))
            momentum = np.asarray(noise[:-1], np.float64)
            log_uniform = scipy.stats.norm.logcdf(-float(noise[-1]))
            new_y, p = y.copy(), momentum.copy()
            for _ in range(NUM_LEAPFROG_STEPS):
                p += 0.5 * step_size * gradient(new_y, betas[t])
                new_y += step_size * p
                p += 0.5 * step_size * gradient(new_y, betas[t])
            change = log_density(new_y, betas[t]) - log_density(y, betas[t])
            change += 0.5 * np.sum(momentum**2) - 0.5 * np.sum(p**2)
            if log_uniform < change:
                y = new_y
            else:
                num_rejected += 1
        ends.append(y)
        log_weights.append(log_weight)
    return np.array(ends), np.array(log_weights), num_rejected


def test_run_chain_matches_a_numpy_loop_under_the_same_noise():
    num, num_temperatures, step_size = 24, 6, 0.9
    start = exact_samples(8, INITIAL_SHAPE, num)
    keys = jax.random.split(jax.random.key(9), num)
    betas = ais.linear_schedule(num_temperatures)
    z, log_weights, _ = jax.jit(
        jax.vmap(
            lambda key, y: ais.run_chain(
                key,
                y,
                log_initial,
                log_target,
                betas,
                step_size,
                num_leapfrog_steps=NUM_LEAPFROG_STEPS,
            )
        )
    )(keys, start)
    ends, expected, num_rejected = numpy_chain(
        keys, start, np.asarray(betas, np.float64), step_size
    )
    assert 0.1 * num * (num_temperatures - 1) < num_rejected
    np.testing.assert_allclose(z, ends, atol=2e-4)
    np.testing.assert_allclose(log_weights, expected, atol=2e-4)


def test_annealed_with_two_temperatures_matches_importance_weights():
    y = exact_samples(10, INITIAL_SHAPE, 50)
    betas = ais.linear_schedule(2)
    _, log_weights, _ = jax.jit(
        jax.vmap(lambda key, y: ais.run_chain(key, y, log_initial, log_target, betas, 0.4))
    )(jax.random.split(jax.random.key(11), 50), y)
    importance = jax.vmap(lambda y: log_target(y) - log_initial(y))(y)
    np.testing.assert_allclose(log_weights, importance, rtol=1e-5, atol=1e-6)


def test_step_size_zero_keeps_the_start_and_gives_importance_weights():
    y = jnp.array([0.3, 1.2])
    z, log_weight, info = ais.run_chain(
        jax.random.key(0), y, log_initial, log_target, ais.linear_schedule(7), 0.0
    )
    chex.assert_trees_all_equal(z, y)
    np.testing.assert_allclose(log_weight, log_target(y) - log_initial(y), rtol=1e-5)
    np.testing.assert_allclose(info.acceptance, np.ones(6), rtol=1e-5)


def test_without_last_move_the_weights_are_the_same():
    y = exact_samples(12, INITIAL_SHAPE, 20)
    keys = jax.random.split(jax.random.key(13), 20)
    betas = ais.linear_schedule(6)

    def log_weights(with_last_move):
        @jax.jit
        @jax.vmap
        def chain(key, y):
            return ais.run_chain(
                key, y, log_initial, log_target, betas, 0.7, with_last_move=with_last_move
            )[1]

        return chain(keys, y)

    chex.assert_trees_all_close(log_weights(True), log_weights(False), atol=1e-6)


def test_step_costs_exactly_l_gradients_of_each_end():
    calls = []

    def counting(name, f):
        def counted(y):
            jax.debug.callback(lambda: calls.append(name))
            return f(y)

        return counted

    state = ais.init(jnp.array([0.2, 1.0]), log_initial, log_target)
    ends = counting("initial", log_initial), counting("target", log_target)
    ais.step(jax.random.key(0), state, 0.5, 0.1, *ends, num_leapfrog_steps=6)
    jax.effects_barrier()
    assert (calls.count("initial"), calls.count("target")) == (6, 6)


# ------------------------------------------------------------------------------------- non-finite


def _half_line(broken):
    """A target that is `broken` (-inf or NaN) left of 0, and its gradient too."""
    return lambda y: jnp.where(y[0] < 0.0, broken * jnp.sum(jnp.abs(y)), -0.5 * jnp.sum(y**2))


def _normal(y):
    return -0.5 * jnp.sum(y**2) - 0.5 * math.log(2 * math.pi)


@pytest.mark.few(3)
@pytest.mark.parametrize("broken", [-jnp.inf, jnp.nan, jnp.inf])
@pytest.mark.parametrize("betas", [[0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.5, 1.0]])
def test_broken_target_gives_weight_zero_never_nan(broken, betas):
    num = 20_000
    start = jax.random.normal(jax.random.key(0), (num, 1))
    z, log_weights, info = jax.jit(
        jax.vmap(
            lambda key, y: ais.run_chain(key, y, _normal, _half_line(broken), jnp.array(betas), 0.5)
        )
    )(jax.random.split(jax.random.key(1), num), start)
    assert not np.isnan(np.asarray(log_weights)).any()
    assert np.isfinite(np.asarray(z)).all()
    if betas[1] > 0.0:
        is_zero = np.asarray(log_weights == -jnp.inf)
        np.testing.assert_array_equal(is_zero, np.asarray(start[:, 0] < 0))
    assert int(info.num_nonfinite.sum()) > 0
    w = np.exp(np.asarray(log_weights, np.float64))
    exact = 0.5 * math.sqrt(2 * math.pi)  # the half line under exp(-y²/2)
    assert abs(w.mean() - exact) < 4 * w.std() / math.sqrt(num)


def test_ends_of_the_path_do_not_multiply_zero_by_infinity():
    zero, one = jnp.asarray(0.0), jnp.asarray(1.0)
    infinite = jnp.asarray(-jnp.inf)
    assert ais.interpolate(zero, jnp.asarray(2.0), infinite) == 2.0
    assert ais.interpolate(one, infinite, jnp.asarray(3.0)) == 3.0
    assert ais.interpolate(jnp.asarray(0.5), jnp.asarray(2.0), infinite) == -jnp.inf


# ----------------------------------------------------------------------------- composing and misuse


def test_run_chain_works_under_a_users_jit_vmap_and_scan():
    def log_banana(y):
        return -0.5 * (y[0] ** 2 + (y[1] - y[0] ** 2) ** 2 / 0.25)

    def log_wide(y):
        return jnp.sum(-0.5 * (y / 2.0) ** 2 - math.log(2.0) - 0.5 * math.log(2 * math.pi))

    num = 20_000

    @jax.jit
    @chex.assert_max_traces(n=1)
    def estimate(keys, starts):
        chain = lambda key, y: ais.run_chain(  # noqa: E731
            key, y, log_wide, log_banana, ais.linear_schedule(11), 0.25
        )

        def body(total, inputs):
            log_weights = jax.vmap(chain)(*inputs)[1]
            return total + jnp.mean(jnp.exp(log_weights)), log_weights

        return jax.lax.scan(body, 0.0, (keys, starts))

    for seed in range(2):
        keys = jax.random.split(jax.random.key(seed), (2, num))
        starts = 2.0 * jax.random.normal(jax.random.key(10 + seed), (2, num, 2))
        total, log_weights = estimate(keys, starts)
        w = np.exp(np.asarray(log_weights, np.float64)).ravel()
        exact = 2 * math.pi * 0.5  # a unit normal times a normal of standard deviation 0.5
        assert abs(w.mean() - exact) < 4 * w.std() / math.sqrt(w.size)
        np.testing.assert_allclose(total / 2, w.mean(), rtol=1e-4)


def test_info_is_reduced_over_named_axes():
    y = exact_samples(14, INITIAL_SHAPE, 30)
    keys = jax.random.split(jax.random.key(15), 30)

    def chain(key, y, axis_name=None):
        return ais.run_chain(
            key, y, log_initial, log_target, ais.linear_schedule(4), 0.9, axis_name=axis_name
        )[2]

    each = jax.jit(jax.vmap(chain))(keys, y)
    reduced = jax.jit(
        jax.vmap(lambda key, y: chain(key, y, "particle"), out_axes=None, axis_name="particle")
    )(keys, y)
    np.testing.assert_allclose(reduced.acceptance, each.acceptance.mean(0), rtol=1e-5)
    assert reduced.num_nonfinite == each.num_nonfinite.sum()


@pytest.mark.parametrize(
    "betas", [[0.0], [0.1, 1.0], [0.0, 0.9], [0.0, 0.7, 0.3, 1.0], [[0.0, 1.0]]]
)
def test_schedule_that_is_none_is_refused(betas):
    with pytest.raises(ValueError, match="`betas` must be a vector that increases"):
        ais.run_chain(
            jax.random.key(0), jnp.zeros(2), log_initial, log_target, jnp.array(betas), 0.1
        )


def test_too_few_temperatures_are_refused():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        ais.linear_schedule(1)


def test_step_sizes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \[2\], one for each move"):
        ais.run_chain(
            jax.random.key(0),
            jnp.zeros(2),
            log_initial,
            log_target,
            ais.linear_schedule(4),
            jnp.ones(3),
            with_last_move=False,
        )


def test_a_chain_of_pytrees_is_that_of_their_vector():
    betas = jnp.linspace(0.0, 1.0, 6)
    tree = {"a": jnp.array([0.3]), "b": jnp.array(-0.4)}

    def of_tree(log_density_fn):
        return lambda z: log_density_fn(jnp.append(z["a"], z["b"]))

    def force_of_tree(z):
        return jax.grad(of_tree(log_target))(z)

    flat = ais.run_chain(
        *(jax.random.key(0), jnp.array([0.3, -0.4]), log_initial, log_target, betas, 0.3),
        force_fns=(jax.grad(log_target), jax.grad(log_target)),
    )
    end, *found = ais.run_chain(
        *(jax.random.key(0), tree, of_tree(log_initial), of_tree(log_target), betas, 0.3),
        force_fns=(force_of_tree, force_of_tree),
    )
    np.testing.assert_allclose(jnp.append(end["a"], end["b"]), flat[0], rtol=1e-6)
    chex.assert_trees_all_close(tuple(found), flat[1:], rtol=1e-6)
