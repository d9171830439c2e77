"""HMC leaves its density invariant; each statistical test also catches planted faults."""

from functools import partial

import chex
import heavy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from log_gamma import exact_samples, largest_z_score, log_density

from aiwae_jax import forces
from aiwae_jax.moves import hamiltonian as hmc

SHAPE = np.array([1.5, 4.0], np.float32)
TARGET = log_density(SHAPE)
NUM = 200_000
STEP_SIZE = 0.85


def coarse_force(y):
    """A gradient rounded to multiples of a half: grossly wrong, but deterministic."""
    return jnp.round(2.0 * jax.grad(TARGET)(y)) / 2.0


COARSE_TARGET = forces.with_force(TARGET, coarse_force)


def run_moves(
    num_moves,
    step_size=STEP_SIZE,
    log_density_fn=TARGET,
    num_leapfrog_steps=3,
    momentum_persistence=0.0,
):
    """Moves exact samples of TARGET; returns before, after, mean acceptance."""
    before = exact_samples(0, SHAPE, NUM)

    @jax.vmap
    def move(key, y):
        def body(state, key):
            return hmc.step(
                key,
                state,
                log_density_fn,
                step_size,
                num_leapfrog_steps=num_leapfrog_steps,
                momentum_persistence=momentum_persistence,
            )

        momentum_key, key = jax.random.split(key)
        momentum = jax.random.normal(momentum_key, y.shape) if momentum_persistence else ()
        state = hmc.init(y, log_density_fn, momentum=momentum)
        state, info = jax.lax.scan(body, state, jax.random.split(key, num_moves))
        return state.position, info.acceptance.mean()

    after, acceptance = heavy.jit(move)(jax.random.split(jax.random.key(1), NUM), before)
    return before, after, float(acceptance.mean())


@pytest.mark.few(2)
@pytest.mark.parametrize(("num_moves", "num_leapfrog_steps"), [(1, 1), (10, 1), (1, 3), (10, 3)])
def test_step_leaves_target_invariant(num_moves, num_leapfrog_steps):
    before, after, acceptance = run_moves(num_moves, num_leapfrog_steps=num_leapfrog_steps)
    assert 0.4 < acceptance < 0.8
    assert largest_z_score(before, after) < 4.0


def test_step_with_grossly_rounded_force_leaves_target_invariant():
    before, after, acceptance = run_moves(10, 0.6, COARSE_TARGET)
    assert 0.4 < acceptance < 0.9
    assert largest_z_score(before, after) < 4.0


@pytest.mark.parametrize("num_moves", [1, 10])
def test_step_with_persistent_momentum_leaves_target_invariant(num_moves):
    before, after, acceptance = run_moves(num_moves, num_leapfrog_steps=1, momentum_persistence=0.8)
    assert 0.4 < acceptance < 0.9
    assert largest_z_score(before, after) < 4.0


def test_persistent_momentum_goes_on_after_acceptance_and_turns_back_after_rejection():
    momentum = jnp.array([0.8, -0.5])
    state = hmc.init(jnp.array([0.2, 1.0]), TARGET, momentum=momentum)
    almost_one = 1.0 - 1e-7  # practically no refreshment
    move = partial(hmc.step, state=state, log_density_fn=TARGET, num_leapfrog_steps=1)
    accepted, info = move(jax.random.key(0), step_size=1e-3, momentum_persistence=almost_one)
    assert bool(info.is_accepted)
    np.testing.assert_allclose(accepted.momentum, momentum, atol=0.01)
    rejected, info = move(jax.random.key(0), step_size=50.0, momentum_persistence=almost_one)
    assert not bool(info.is_accepted)
    np.testing.assert_allclose(rejected.momentum, -momentum, atol=0.01)
    chex.assert_trees_all_equal(rejected.position, state.position)


def _no_flip(real, *args, **kwargs):
    state, info = real(*args, **kwargs)
    return state._replace(
        momentum=jnp.where(info.is_accepted, state.momentum, -state.momentum)
    ), info


def _never_reject(log_uniform, log_ratio):
    return jnp.ones((), bool) | (log_ratio > 0)


def _wrong_start_force(real, state, momentum, *args, **kwargs):
    return real(state._replace(force=1.1 * state.force), momentum, *args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no accept step", "start force off by 10%"])
def test_invariance_test_catches_planted_fault(monkeypatch, fault):
    if fault == "no accept step":
        monkeypatch.setattr(hmc, "accept", _never_reject)
    else:
        monkeypatch.setattr(hmc, "leapfrog", partial(_wrong_start_force, hmc.leapfrog))
    before, after, _ = run_moves(10, num_leapfrog_steps=1)  # where the start force weighs most
    assert largest_z_score(before, after) > 6.0


@pytest.mark.slow
def test_invariance_test_catches_a_refreshment_without_the_flip(monkeypatch):
    monkeypatch.setattr(hmc, "transition", partial(_no_flip, hmc.transition))
    before, after, _ = run_moves(10, num_leapfrog_steps=1, momentum_persistence=0.8)
    assert largest_z_score(before, after) > 6.0


def _integrate(y, momentum, log_density_fn=TARGET, num_leapfrog_steps=7):
    evaluate = partial(hmc.init, log_density_fn=log_density_fn)
    return hmc.leapfrog(
        evaluate(y),
        momentum,
        evaluate,
        jax.grad(log_density_fn),
        0.3,
        num_leapfrog_steps=num_leapfrog_steps,
    )


@pytest.mark.parametrize("log_density_fn", [TARGET, COARSE_TARGET], ids=["exact", "coarse"])
def test_leapfrog_is_reversible_with_the_momentum_flip_and_not_without(log_density_fn):
    y, momentum = jnp.array([0.2, 1.0]), jnp.array([0.8, -0.5])
    end, end_momentum = _integrate(y, momentum, log_density_fn)
    back, back_momentum = _integrate(end.position, -end_momentum, log_density_fn)
    np.testing.assert_allclose(back.position, y, atol=1e-5)
    np.testing.assert_allclose(-back_momentum, momentum, atol=1e-5)
    astray, _ = _integrate(end.position, end_momentum, log_density_fn)
    assert np.abs(np.asarray(astray.position - y)).max() > 0.1


def test_leapfrog_preserves_volume():
    def flow(phase):
        end, momentum = _integrate(phase[:2], phase[2:])
        return jnp.concatenate([end.position, momentum])

    jacobian = jax.jacobian(flow)(jnp.array([0.2, 1.0, 0.8, -0.5]))
    np.testing.assert_allclose(jnp.linalg.det(jacobian), 1.0, rtol=1e-4)


def test_leapfrog_energy_error_of_the_oscillator_falls_with_the_square_of_the_step():
    def energy_error(step_size, num_steps):
        def log_density_fn(y):
            return -0.5 * jnp.sum(y**2)

        evaluate = partial(hmc.init, log_density_fn=log_density_fn)
        end, momentum = hmc.leapfrog(
            evaluate(jnp.array([1.0])),
            jnp.array([0.5]),
            evaluate,
            jax.grad(log_density_fn),
            step_size,
            num_leapfrog_steps=num_steps,
        )
        return abs(float(0.5 * (end.position[0] ** 2 + momentum[0] ** 2)) - 0.625)

    ratio = energy_error(0.2, 5) / energy_error(0.1, 10)
    assert 3.0 < ratio < 5.0


def test_accept_noise_is_uniform_and_independent_of_the_momentum():
    momentum, log_uniform = jax.jit(jax.vmap(lambda key: hmc.draw_noise(key, 2, jnp.float32)))(
        jax.random.split(jax.random.key(3), 100_000)
    )
    uniform = np.exp(np.asarray(log_uniform, np.float64))
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
    for column in np.asarray(momentum).T:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(column, uniform)[0, 1]) < 4 / 100_000**0.5


def test_step_costs_exactly_l_gradients():
    calls = []

    def counting(y):
        jax.debug.callback(lambda: calls.append(1))
        return TARGET(y)

    state = hmc.init(jnp.array([0.2, 1.0]), TARGET)
    hmc.step(jax.random.key(0), state, counting, 0.1, num_leapfrog_steps=6)
    jax.effects_barrier()
    assert len(calls) == 6


def test_step_size_zero_is_the_identity():
    state = hmc.init(jnp.array([0.2, 1.0]), TARGET)
    new_state, info = hmc.step(jax.random.key(0), state, TARGET, 0.0)
    chex.assert_trees_all_equal(new_state, state)
    np.testing.assert_allclose(info.acceptance, 1.0)


@pytest.mark.parametrize("bad", [jnp.inf, jnp.nan, -jnp.inf])
def test_nonfinite_energy_is_a_counted_rejection(bad):
    def log_density_fn(y):
        return jnp.where(jnp.abs(y[0]) > 0.01, bad, 0.0) + jnp.sum(y) * 0.0

    state = hmc.init(jnp.zeros(2), log_density_fn)
    new_state, info = hmc.step(jax.random.key(0), state, log_density_fn, 1.0)
    chex.assert_trees_all_equal(new_state.position, state.position)
    assert bool(info.is_nonfinite)
    assert info.acceptance == 0.0


def test_point_of_density_zero_is_left():
    def log_density_fn(y):
        return jnp.where(y[0] > 0.0, -jnp.inf, 0.0)

    state = hmc.init(jnp.array([1e-3]), log_density_fn)
    moved = [
        hmc.step(jax.random.key(seed), state, log_density_fn, 0.5, num_leapfrog_steps=1)[0]
        for seed in range(8)
    ]
    assert any(float(m.position[0]) < 0 for m in moved)


@pytest.mark.parametrize("persistence", [-0.1, 1.0, float("nan")])
def test_impossible_persistence_is_refused(persistence):
    with pytest.raises(ValueError, match="`momentum_persistence` must be at least 0"):
        hmc.check_momentum_persistence(persistence)


def test_no_leapfrog_steps_is_refused():
    state = hmc.init(jnp.zeros(2), TARGET)
    with pytest.raises(ValueError, match="`num_leapfrog_steps` must be at least 1, got 0"):
        hmc.step(jax.random.key(0), state, TARGET, 0.1, num_leapfrog_steps=0)


def test_adaptation_steers_each_step_size_and_clips():
    step_sizes = jnp.array([0.1, 0.1, 0.3, 0.001])
    acceptance = jnp.array([0.6, 0.59, 0.9, 0.1])
    adapted = hmc.adapt_step_size(step_sizes, acceptance)
    np.testing.assert_allclose(adapted, [0.1002, 0.0998, 0.3, 0.001], rtol=1e-6)
