"""Plans found in rounds, against exact evidences: sharp, uneven and broken targets."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aiwae_jax import distributions, evaluate
from aiwae_jax.evaluate import own_steps, pilots, profiles, programs, tuning

NOTHING = np.zeros((1, 1), np.float32)
SETTINGS = evaluate.Settings(num_temperatures=300, num_chains=64)


def prior(size):
    return lambda x: distributions.standard_normal(size)


def normal(mean, scales):
    """From N(0, I) to a normalized Gaussian: log Z is 0."""
    scales = jnp.asarray(scales, jnp.float32)
    goal = distributions.DiagNormal(jnp.full(scales.shape, mean), scales)
    return evaluate.Target(lambda x, z: goal.log_prob(z), prior(len(scales)))


def noisy(scales, size=3):
    """Data y = z + scale·noise from the model, each of its own scale, and their exact log p(y)."""
    deviations = np.sqrt(1.0 + np.square(scales, dtype=np.float64))
    y = deviations[:, None] * np.random.default_rng(0).normal(size=(len(scales), size))
    exact = scipy.stats.norm.logpdf(y, scale=deviations[:, None]).sum(axis=1)

    def log_joint(x, z):
        likelihood = distributions.DiagNormal(z, jnp.broadcast_to(x["scale"], (size,)))
        return likelihood.log_prob(x["y"]) + distributions.standard_normal(size).log_prob(z)

    x = {"y": np.float32(y), "scale": np.float32(scales)}
    return evaluate.Target(log_joint, prior(size)), x, exact


def is_right(found, exact):
    """Within 4 of its standard errors, or marked as unreliable."""
    error = np.abs(found.log_likelihood - exact)
    return (error <= 4 * found.standard_errors + 1e-3) | ~found.is_reliable


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(normal(0.0, np.logspace(-3, 0, 4)), marks=pytest.mark.slow),
        normal(0.0, np.full(2, 1e-4)),
        pytest.param(normal(20.0, np.ones(1)), marks=pytest.mark.slow),
    ],
    ids=["deviations from 0.001 to 1", "deviation 0.0001", "20 deviations away"],
)
def test_sharp_and_far_targets_are_right_or_marked(target):
    found = evaluate.log_likelihood(jax.random.key(0), target, NOTHING, SETTINGS)
    assert is_right(found, 0.0).all()
    assert abs(found.log_likelihood[0]) < 4.0  # -221 and -95,476 on even temperatures


@pytest.mark.slow
def test_coordinates_of_different_scales_get_step_sizes_of_their_own(monkeypatch):
    plan = evaluate.tune(jax.random.key(0), normal(0.0, [1e-2, 1.0]), NOTHING, SETTINGS)
    assert plan.step_sizes.shape == (SETTINGS.num_temperatures - 2, 2)
    ratio = plan.step_sizes[-1, 1] / plan.step_sizes[-1, 0]
    assert 50 < ratio < 200  # of the deviations 100

    # Neither the plan nor what it cost depends on how fast the machine is.
    monkeypatch.setattr(pilots.chunks.Pace, "num_moves", lambda self: 41)
    again = evaluate.tune(jax.random.key(0), normal(0.0, [1e-2, 1.0]), NOTHING, SETTINGS)
    chex.assert_trees_all_equal(again, plan)


@pytest.mark.slow
def test_a_datum_that_is_narrower_gets_step_sizes_of_its_own():
    scales = np.append(np.ones(9), 1e-3)
    target, x, exact = noisy(scales)
    found = evaluate.log_likelihood(jax.random.key(0), target, x, SETTINGS)
    assert is_right(found, exact).all()
    assert np.abs(found.log_likelihood - exact).max() < 4.0  # without them -10,000
    factors = own_steps.log_factors_of(found.plan, x)
    assert factors[-1, -1] < math.log(0.01)
    others = jax.tree.map(lambda a: a[:3], x)
    assert own_steps.log_factors_of(found.plan._replace(rows=found.plan.rows[:0]), others) is None


def test_chains_of_weight_zero_do_not_steer_the_pilots():
    """Half of the start has no density: acceptance and work are those of the other half."""
    goal = distributions.DiagNormal(jnp.ones(3), jnp.full(3, 0.05))
    target = evaluate.Target(
        lambda x, z: jnp.where(z[0] < 0.0, -jnp.inf, goal.log_prob(z)), prior(3)
    )
    plan = evaluate.tune(jax.random.key(0), target, NOTHING, SETTINGS)
    assert 0.01 < plan.step_sizes[-1] < 0.1  # 1e-8 where dead chains count
    found = evaluate.log_likelihood(jax.random.key(1), target, NOTHING, SETTINGS, plan=plan)
    assert is_right(found, 0.0).all()
    assert not found.is_reliable[0]
    assert 10 < found.num_zero_weight < 54


def test_pilots_of_even_temperatures_do_where_these_show_the_path():
    """Nothing is spent on a path that is seen at once."""
    target = normal(0.5, np.full(2, 0.7))
    settings = evaluate.Settings(num_temperatures=100, num_leapfrog_steps=1)
    plan = evaluate.tune(jax.random.key(0), target, NOTHING, settings)
    num_chains = math.prod(tuning.pilot_sizes(settings, 1))
    scan = own_steps.num_scan_moves(settings, 1)
    assert plan.num_gradients == num_chains * (2 * (30 + 98) + scan)
    assert plan.step_sizes.shape == (98,)
    assert not len(plan.rows)


def test_varied_step_sizes_never_all_return_a_gaussian_to_itself():
    angles = 2 * 3 * np.arcsin(pilots.vary(np.ones(100)) / 2)  # half a turn where unvaried
    assert np.square(np.cos(angles)).mean() < 0.5
    assert pilots.vary(np.ones((4, 2))).shape == (4, 2)


@pytest.mark.parametrize(("angle", "persistence"), [(np.pi / 2, 0.0), (1.0, 0.086), (0.5, 0.351)])
def test_persistences_forget_a_gaussian_fastest(angle, persistence):
    """Of the linear map of one move, averaged over what is drawn, no other has a smaller radius."""

    def radius(alpha):
        turn = [[np.cos(angle), np.sin(angle)], [-alpha * np.sin(angle), alpha * np.cos(angle)]]
        return np.abs(np.linalg.eigvals(turn)).max()

    (found,) = profiles._best_persistences(np.array([angle]), 0.95)
    assert found == pytest.approx(persistence, abs=1e-3)
    others = np.linspace(0.0, 0.95, 96)
    assert radius(found) < min(radius(a) for a in others if abs(a - found) > 0.02)
    assert profiles._best_persistences(np.array([angle]), 0.0) is None
    assert profiles._best_persistences(np.array([1e-3]), 0.8) == 0.8  # never more than was asked


@pytest.mark.slow
def test_moves_that_turn_a_gaussian_are_quarter_turns_with_fresh_momenta():
    settings = evaluate.Settings(num_temperatures=100, num_chains=16)
    plan = evaluate.tune(jax.random.key(0), normal(0.0, np.full(2, 0.05)), NOTHING, settings)
    precision = 1.0 - plan.betas[1:-1] + plan.betas[1:-1] / 0.05**2
    steps = plan.step_sizes * np.sqrt(precision)[:, None]
    angles = 6.0 * np.arcsin(np.minimum(steps / 2.0, 1.0))
    assert 0.5 < np.median(angles) < 2.0
    assert plan.persistences.shape == (98,)
    assert np.median(plan.persistences) < 0.2


def bias_z_score(plan, num=2000):
    """Of the mean of p̂ / p over `num` estimates by one plan, two of which share nothing."""
    target, x, exact = noisy(np.append(np.ones(4), 0.05), size=2)
    rows = jax.tree.map(lambda a: np.repeat(a[-1:], num, axis=0), x)
    settings = evaluate.Settings(num_temperatures=40, num_chains=4)
    found = evaluate.log_likelihood(
        jax.random.key(7), target, rows, settings, plan=plan, chunk_size=500
    )
    ratio = np.exp(found.log_likelihood - exact[-1])
    return (ratio.mean() - 1) / (ratio.std(ddof=1) / math.sqrt(num)), ratio


@pytest.fixture(scope="module")
def plan_with_own_steps():
    target, x, _ = noisy(np.append(np.ones(4), 0.05), size=2)
    settings = evaluate.Settings(num_temperatures=40, num_chains=4)
    plan = evaluate.tune(jax.random.key(1), target, x, settings)
    assert len(plan.rows)
    return plan


def test_estimates_by_one_plan_of_rounds_are_unbiased(plan_with_own_steps):
    z_score, ratio = bias_z_score(plan_with_own_steps)
    assert ratio.std() < 3.0  # of a variance low enough for the mean to tell
    assert abs(z_score) < 4.0


@pytest.mark.slow
def test_the_unbiasedness_test_catches_factors_that_the_chains_are_weighed_with(
    plan_with_own_steps, monkeypatch
):
    """A step size that follows the very chain's acceptance, as in adaptation on the way."""
    real = programs.ais.step

    def step(key, state, beta, step_size, *args, **options):
        work = state.target.log_density - state.initial.log_density
        own = jnp.where(work > 0.0, 4.0 * step_size, 0.05 * step_size)
        return real(key, state, beta, own, *args, **options)

    monkeypatch.setattr(programs.ais, "step", step)
    jax.clear_caches()
    try:
        z_score, _ = bias_z_score(plan_with_own_steps)
    finally:
        jax.clear_caches()
    assert abs(z_score) > 6.0


def refreshed_too_little(momentum, noise, persistence):
    """Of a variance below 1."""
    return persistence * momentum + (1.0 - persistence) * noise


@pytest.mark.slow
@pytest.mark.parametrize("is_planted", [False, True])
def test_estimates_are_unbiased_whatever_a_move_keeps_of_its_momentum(
    plan_with_own_steps, monkeypatch, is_planted
):
    """Three moves in turn: fresh, half of it, nearly all."""
    num_moves = len(plan_with_own_steps.step_sizes)
    plan = plan_with_own_steps._replace(persistences=np.resize([0.0, 0.5, 0.9], num_moves))
    if is_planted:
        monkeypatch.setattr(programs.moves.hamiltonian, "refresh", refreshed_too_little)
    jax.clear_caches()
    try:
        z_score, ratio = bias_z_score(plan)
    finally:
        jax.clear_caches()
    if is_planted:
        assert abs(z_score) > 6.0
    else:
        assert ratio.std() < 3.0
        assert abs(z_score) < 4.0


def test_the_third_function_of_one_code_is_said_to_be_compiled_anew():
    def target(mean):
        return evaluate.Target(lambda x, z: -jnp.sum(jnp.square(z - mean)), prior(1))

    kept = [target(0.0), target(1.0)]  # as compiled programs keep them
    with pytest.warns(UserWarning, match=r"third function of the same code.*Partial\(log_joint,"):
        kept.append(target(2.0))
    assert not kept[0].log_joint(jnp.zeros(1), jnp.zeros(1))
