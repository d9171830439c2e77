"""BlackJAX's kernels leave our densities invariant, and its loop runs our moves."""

import functools

import heavy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from log_gamma import (
    INITIAL_SHAPE,
    TARGET_SHAPE,
    exact_samples,
    largest_z_score,
    log_density,
    log_initial,
    log_normalizer,
    log_target,
)

from aiwae_jax import ais, bridges, moves

blackjax = pytest.importorskip("blackjax")

pytestmark = pytest.mark.slow
SHAPE = np.array([1.5, 4.0], np.float32)
ONES = jnp.ones(2)


@pytest.fixture(autouse=True)
def _shapes_and_types_as_blackjax_promotes_them():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def hmc(**options):
    return bridges.blackjax(
        blackjax.hmc, inverse_mass_matrix=ONES, num_integration_steps=3, **options
    )


def run_moves(move, num_moves, step_size, num):
    """Moves exact samples; returns before, after, mean acceptance."""
    before = exact_samples(0, SHAPE, num)
    density = log_density(SHAPE)

    @jax.vmap
    def run(key, y):
        def body(state, key):
            return moves.step(key, state, density, step_size, move=move)

        state, info = jax.lax.scan(body, moves.init(y, density), jax.random.split(key, num_moves))
        return state.position, info.acceptance.mean()

    after, acceptance = heavy.jit(run)(jax.random.split(jax.random.key(1), num), before)
    return before, after, float(acceptance.mean())


@pytest.mark.parametrize(
    ("name", "num_moves", "step_size", "num"),
    [
        ("hmc", 1, 0.85, 200_000),
        ("hmc", 10, 0.85, 200_000),
        ("mala", 10, 0.4, 200_000),
        ("nuts", 1, 0.85, 20_000),
        ("nuts", 10, 0.85, 20_000),
    ],
)
def test_kernel_leaves_the_density_invariant(name, num_moves, step_size, num):
    kernels = {
        "hmc": hmc,
        "mala": lambda: bridges.blackjax(blackjax.mala),
        "nuts": lambda: bridges.blackjax(blackjax.nuts, inverse_mass_matrix=ONES),
    }
    before, after, acceptance = run_moves(kernels[name](), num_moves, step_size, num)
    assert 0.4 < acceptance < 0.9
    assert largest_z_score(before, after) < 4.0


def _always(key, log_ratio, state, proposal):
    return proposal, (jnp.bool_(True), jnp.exp(jnp.minimum(log_ratio, 0.0)), None)


def test_invariance_test_catches_a_kernel_that_rejects_nothing():
    """The planted fault."""
    proposal = functools.partial(blackjax.mcmc.hmc.hmc_proposal, sample_proposal=_always)
    before, after, _ = run_moves(hmc(build_proposal=proposal), 10, 0.85, 200_000)
    assert largest_z_score(before, after) > 6.0


def test_cached_ends_are_those_of_the_position_while_beta_changes():
    state = ais.init(jnp.array([0.2, 1.0]), log_initial, log_target)
    accepted = []
    for number, beta in enumerate(np.linspace(0.1, 0.9, 9, dtype=np.float32)):
        state, info = ais.step(
            *(jax.random.key(number), state, beta, 1.0, log_initial, log_target), move=hmc()
        )
        accepted.append(float(info.acceptance))
        for end, density in ((state.initial, log_initial), (state.target, log_target)):
            value, force = jax.value_and_grad(density)(state.position)
            np.testing.assert_allclose(end.log_density, value, rtol=1e-6)
            np.testing.assert_allclose(end.force, force, rtol=1e-6)
    assert min(accepted) < 0.9  # some are rejected


def weights_of(move, num=20_000):
    """exp of log weights `[num]`, in units of what they should be on average."""
    expected = log_normalizer(TARGET_SHAPE) - log_normalizer(INITIAL_SHAPE)
    expected += log_normalizer(INITIAL_SHAPE)  # log_initial is normalized

    @jax.vmap
    def run(key, z):
        return ais.run_chain(
            key, z, log_initial, log_target, jnp.linspace(0.0, 1.0, 6), 0.7, move=move
        )[1]

    keys = jax.random.split(jax.random.key(2), num)
    log_weights = heavy.jit(run)(keys, exact_samples(3, INITIAL_SHAPE, num))
    return np.exp(np.asarray(log_weights, np.float64) - expected)


def test_chain_of_a_kernel_estimates_the_normalizer_as_a_chain_of_ours_does():
    theirs, ours = weights_of(hmc()), weights_of(moves.hmc(3))
    for weights in (theirs, ours):
        assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / np.sqrt(len(weights))
    print(f"log Z / exact: {np.log(theirs.mean()):.4f} by BlackJAX, {np.log(ours.mean()):.4f}")


def _log_density_of_dict(position):
    return log_density(SHAPE)(jnp.concatenate([position["a"], position["b"]]))


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_our_move_is_run_by_their_loop_at_positions_that_are_trees(persistence):
    algorithm = bridges.to_blackjax(
        _log_density_of_dict, 0.6, move=moves.hmc(3, momentum_persistence=persistence)
    )
    y = exact_samples(0, SHAPE, 50_000)

    @jax.vmap
    def run(key, y):
        init_key, key = jax.random.split(key)
        state = algorithm.init({"a": y[:1], "b": y[1:]}, init_key)
        return blackjax.util.run_inference_algorithm(
            key, algorithm, 5, initial_state=state, transform=lambda state, info: info
        )

    state, info = heavy.jit(run)(jax.random.split(jax.random.key(1), len(y)), y)
    after = jnp.concatenate([state.position["a"], state.position["b"]], axis=1)
    assert largest_z_score(y, after) < 4.0
    assert 0.4 < float(info.acceptance_rate.mean()) < 0.95
    gradients = jax.vmap(jax.grad(_log_density_of_dict))(state.position)
    np.testing.assert_allclose(state.logdensity_grad["b"], gradients["b"], rtol=1e-5)


def test_momentum_that_persists_needs_a_key():
    algorithm = bridges.to_blackjax(log_target, 0.5, move=moves.hmc(1, momentum_persistence=0.5))
    with pytest.raises(ValueError, match="`rng_key` must be given"):
        algorithm.init(jnp.zeros(2))


def test_step_size_is_of_the_chain():
    with pytest.raises(ValueError, match="`step_size` is of the chain"):
        bridges.blackjax(blackjax.nuts, step_size=0.1, inverse_mass_matrix=ONES)
