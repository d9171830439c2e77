"""Large constants in log densities, and x64: no weight loses digits on the way."""

import math
import os
import pathlib
import subprocess
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import ais, distributions, evaluate, hamiltonian, methods, weights
from aiwae_jax.moves import discrete

ROOT = pathlib.Path(__file__).parent.parent
OFFSETS = [0.0, -2e4, -1e5, 1e5]
D, NOISE = 5, 0.5
X = np.array([0.9, -0.4, 0.7, 1.6, -1.1], np.float32)


def log_prior(z):
    return distributions.standard_normal(D).log_prob(z)


def log_joint(offset, x, z):
    """z ~ N(0, I), x | z ~ N(z, 0.25 I), and pixels that do not depend on z."""
    return distributions.DiagNormal(z, jnp.full(D, NOISE)).log_prob(x) + log_prior(z) + offset


def exact(x):
    variance = 1.0 + NOISE**2
    square = np.asarray(x, np.float64) ** 2
    return (-0.5 * square / variance - 0.5 * math.log(2 * math.pi * variance)).sum(axis=-1)


# ------------------------------------------------------------------------------------ running sums


def add_all(total, terms):
    return jax.jit(lambda total, terms: jax.lax.scan(lambda t, x: (t.add(x), None), total, terms))(
        total, terms
    )[0]


@pytest.mark.parametrize("first", [0.0, 1e5, -3e6])
def test_a_running_sum_loses_nothing(first):
    terms = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    found = add_all(weights.RunningSum.of(jnp.float32(first)), terms)
    expected = np.float64(first) + terms.astype(np.float64).sum()
    error = (np.float64(found.total) - expected) + np.float64(found.lost)
    assert abs(error) < 1e-4
    plain = jax.lax.scan(lambda t, x: (t + x, None), jnp.float32(first), terms)[0]
    assert abs(np.float64(plain) - expected) > 5 * abs(error), "else the test could not fail"


def test_a_running_sum_stays_minus_infinity():
    found = add_all(weights.RunningSum.of(jnp.float32(1e5)), jnp.array([1.0, -jnp.inf, 2.0]))
    assert found.value == -jnp.inf
    assert found.lost == 0.0


# ------------------------------------------------------------------------------------------ chains


@partial(jax.jit, static_argnames=("is_reversed", "num_temperatures"))
def chains(keys, offset, *, is_reversed=False, num_temperatures=10_000):
    """Log weights of forward chains, or of reverse ones from exact posterior samples."""
    log_target = partial(log_joint, offset, X)
    shrink = 1.0 / (1.0 + NOISE**2)

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        z = jax.random.normal(start_key, (D,))
        ends = log_prior, log_target
        if is_reversed:
            z, ends = shrink * X + NOISE * math.sqrt(shrink) * z, ends[::-1]
        betas = ais.linear_schedule(num_temperatures)
        return ais.run_chain(chain_key, z, *ends, betas, 0.3, num_leapfrog_steps=1)[1]

    return jax.vmap(chain)(keys)


def log_mean(log_weights):
    values = np.asarray(log_weights, np.float64)
    return values.max() + np.log(np.mean(np.exp(values - values.max())))


@pytest.mark.slow
@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_constant_in_the_density_does_not_change_the_weight(is_reversed):
    """The paper's 10,000 temperatures in fp32: below 0.01 nats, beyond the chains' own noise."""
    keys = jax.random.split(jax.random.key(0), 100)
    log_weights = {c: np.asarray(chains(keys, c, is_reversed=is_reversed)) for c in OFFSETS}
    found = {c: (-1) ** is_reversed * log_mean(values) for c, values in log_weights.items()}
    spread = log_weights[0.0].std() / math.sqrt(len(keys))
    assert abs(found[0.0] - exact(X)) < 4 * spread
    for offset in OFFSETS:
        assert abs(found[offset] - offset - found[0.0]) < 0.01, offset


def test_the_constant_test_catches_plain_sums(monkeypatch):
    monkeypatch.setattr(
        weights.RunningSum, "add", lambda s, x: s._replace(total=s.total + x, lost=s.lost)
    )
    real = ais.init
    without = lambda *args, **options: real(*args, **options)._replace(  # noqa: E731
        offset=jnp.zeros(())
    )
    monkeypatch.setattr(ais, "init", without)
    monkeypatch.setattr(ais, "_FAR", math.inf)
    keys = jax.random.split(jax.random.key(0), 10)
    wrong = jax.jit(lambda keys, c: chains.__wrapped__(keys, c))(keys, 1e5)
    assert abs(log_mean(wrong) - 1e5 - exact(X)) > 0.5


@pytest.mark.slow
def test_bounds_of_an_evaluation_keep_their_digits():
    """Both directions, at a scale where the interval would be off by nats in plain fp32."""
    prior = Partial(lambda x: distributions.standard_normal(D))

    def sample(key):
        z_key, x_key = jax.random.split(key)
        z = jax.random.normal(z_key, (D,))
        return z + NOISE * jax.random.normal(x_key, (D,)), z

    settings = evaluate.Settings(num_temperatures=2_000, num_leapfrog_steps=1)
    plan = evaluate.Plan(np.linspace(0, 1, 2_000), np.full(1_998, 0.3), 0)
    values = {}
    for c in (0.0, -1e5, 1e5):
        found = evaluate.bidirectional(
            jax.random.key(1),
            evaluate.Target(Partial(log_joint, jnp.float32(c)), prior, sample),
            settings,
            num_data=10,
            plan=plan,
        )
        values[c] = np.stack([found.forward.log_likelihood, found.reverse.log_likelihood]) - c
        assert values[c].dtype == np.float64
    for c in (-1e5, 1e5):
        difference = values[c] - values[0.0]
        spread = difference.std(axis=1, ddof=1) / math.sqrt(10)
        assert np.all(spread < 0.01)
        assert np.all(abs(difference.mean(axis=1)) < 0.01 + 3 * spread)


def error_of_a_sharp_target(num_chains=64):
    """Of log Z by a geometric schedule to N(0, 1e-4² I), where log f_n rises by 5e7 on the way."""
    scales = jnp.full(2, 1e-4)
    betas = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 2_000)])
    step_sizes = np.minimum(1.0, 1e-4 / np.sqrt(betas[1:-1])) * np.resize([0.4, 0.7, 1.0], 1_999)

    @jax.jit
    @jax.vmap
    def log_weights(key):
        z_key, chain_key = jax.random.split(key)
        return ais.run_chain(
            chain_key,
            jax.random.normal(z_key, (2,)),
            distributions.standard_normal(2).log_prob,
            distributions.DiagNormal(jnp.zeros(2), scales).log_prob,
            betas,
            step_sizes,
            num_leapfrog_steps=2,
            with_last_move=False,
        )[1]

    found = np.asarray(log_weights(jax.random.split(jax.random.key(0), num_chains)), np.float64)
    weights_ = np.exp(found - found.max())
    error = weights_.std(ddof=1) / weights_.mean() / math.sqrt(num_chains)
    return log_mean(found), error


def test_an_offset_follows_a_chain_that_leaves_it_far_behind():
    found, error = error_of_a_sharp_target()
    assert error < 0.15
    assert abs(found) < 4 * error


def test_the_sharp_target_test_catches_an_offset_that_stays_behind(monkeypatch):
    monkeypatch.setattr(ais, "_FAR", math.inf)
    found, _ = error_of_a_sharp_target()
    assert abs(found) > 1.0


@pytest.mark.slow
@pytest.mark.by_hand
def test_log_densities_that_fp32_cannot_resolve_are_named():
    """Two of three data: pixels that sum up to a million nats, of which fp32 knows 1/16."""
    plan = evaluate.Plan(np.linspace(0, 1, 5), np.full(3, 0.3), 0)
    settings = evaluate.Settings(num_temperatures=5, num_chains=4, num_leapfrog_steps=1)
    evaluate_it = partial(
        evaluate.log_likelihood,
        jax.random.key(0),
        evaluate.Target(
            lambda x, z: log_prior(z) + jnp.sum(x), lambda x: distributions.standard_normal(D)
        ),
        settings=settings,
        plan=plan,
    )
    x = np.array([[0.0], [-1e6], [2e6]], np.float32)
    with pytest.warns(UserWarning, match=r"2 of 3 data \(rows 1, 2\) are so large, .* 0.12 nats"):
        found = evaluate_it(x)
    np.testing.assert_allclose(found.rounding[1:], [0.0625, 0.125])
    assert found.rounding[0] < 1e-5
    evaluate_it(x[:1])  # without a word


def test_rounding_is_that_of_the_chains_which_count():
    """Short chains of a sharp likelihood end at -1e7 too, and weigh nothing."""
    plan = evaluate.Plan(np.linspace(0, 1, 2), np.zeros(0), 0)
    found = evaluate.log_likelihood(
        jax.random.key(0),
        evaluate.Target(
            lambda x, z: log_prior(z) + jnp.where(z[0] > 0.0, -1e7, 0.0),
            lambda x: distributions.standard_normal(D),
        ),
        np.zeros((3, 1), np.float32),
        evaluate.Settings(num_temperatures=2, num_chains=16),
        plan=plan,
    )
    assert np.all(found.rounding < 1e-5)
    np.testing.assert_allclose(found.log_likelihood, math.log(0.5), atol=1.0)


def test_a_gap_of_rounding_alone_is_possible():
    """Exact draws, the exact posterior to start from, and energies of 1.6e7 with steps of 1."""
    variance = NOISE**2 / (1.0 + NOISE**2)

    def posterior(x):
        mean = x / (1.0 + NOISE**2)
        return distributions.DiagNormal(mean, jnp.full(1, math.sqrt(variance)))

    def log_joint(x, z):
        noise = distributions.DiagNormal(z, jnp.full(1, NOISE))
        return noise.log_prob(x) + distributions.standard_normal(1).log_prob(z) - 1.6e7

    def sample(key):
        z, noise = jax.random.normal(key, (2, 1))
        return z + NOISE * noise, z

    settings = evaluate.Settings(num_temperatures=2)
    plan = evaluate.Plan(np.linspace(0, 1, 2), np.zeros(0), 0)
    target = evaluate.Target(log_joint, posterior, sample)
    with pytest.warns(UserWarning, match="so large, that neighbouring numbers differ"):
        found = evaluate.bidirectional(
            jax.random.key(0), target, settings, num_data=1_000, plan=plan
        )
    assert found.gap < -0.0104, "else the test could not fail"
    assert found.is_possible


def test_training_weights_keep_their_digits():
    """K particles of one datum: their normalized weights do not see the constant."""
    model = lg.model()
    found = {}
    for offset in (0.0, 1e5):
        shifted = model._replace(log_joint=lambda t, x, z, c=offset: lg.log_joint(t, x, z) + c)
        (phase, _) = methods.aiwae(shifted, 50, 200, 1)
        sampler = phase.sampler
        particles, _ = jax.jit(sampler.draw)(
            jax.random.key(0), lg.params(), jnp.asarray(lg.DATUM), sampler.init()
        )
        found[offset] = log_mean(particles.log_weights) - offset
    assert abs(found[1e5] - found[0.0]) < 0.01


def test_a_chain_without_an_accept_step_keeps_its_digits():
    found = {}
    for offset in (0.0, 1e5):
        _, found[offset] = hamiltonian.unadjusted_chain(
            jax.random.key(0),
            jnp.full(D, 0.3),
            log_prior,
            partial(log_joint, offset, X),
            ais.linear_schedule(500),
            jnp.full(499, 0.1),
            momentum_persistence=0.5,
        )
    assert abs(found[1e5] - 1e5 - found[0.0]) < 0.01


# ------------------------------------------------------------------------------------------- spins


@pytest.mark.slow
@pytest.mark.parametrize("move", [discrete.gibbs(), discrete.informed(), discrete.langevin()])
@pytest.mark.parametrize("betas", [[0.0, 1.0], [0.0, 0.5, 1.0]])
def test_spins_among_moves_of_bits_get_weight_zero(move, betas):
    coupling = jnp.array([[0.0, -1.0, -1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    bits = distributions.Bernoulli(jnp.zeros(3))

    def weight_of(z):
        return ais.run_chain(
            jax.random.key(0),
            z,
            lambda z: bits.log_prob(jnp.clip(z, 0.0, 1.0)),
            lambda z: z @ coupling @ z,
            jnp.array(betas),
            0.5,
            move=move,
        )[1]

    assert weight_of(jnp.array([1.0, -1.0, 1.0])) == -jnp.inf
    assert weight_of(jnp.array([1.0, 0.5, 0.0])) == -jnp.inf
    assert jnp.isfinite(weight_of(jnp.array([1.0, 0.0, 1.0])))


# --------------------------------------------------------------------------------------------- x64


_UNDER_X64 = """
import jax, jax.numpy as jnp, numpy as np
from aiwae_jax import ais, distributions, evaluate, methods, models, train
prior = distributions.standard_normal(2)
assert prior.loc.dtype == jnp.float64
f = lambda z: -jnp.sum(z**2)
z, log_weight, info = ais.run_chain(
    jax.random.key(0), jnp.zeros(2), prior.log_prob, f, ais.linear_schedule(3), 0.1)
assert {z.dtype, log_weight.dtype, info.acceptance.dtype} == {np.dtype("float64")}
found = evaluate.log_likelihood(
    jax.random.key(0),
    evaluate.Target(lambda x, z: prior.log_prob(z) - jnp.sum((x - z)**2) - 1e9, lambda x: prior),
    np.zeros((2, 2)),
    evaluate.Settings(num_temperatures=30, num_chains=32))
expected = -1e9 - np.log(3.0)  # the integral of N(z; 0, I) exp(-|z|²) over the plane is 1/3
assert np.all(abs(found.log_likelihood - expected) < 0.2), found.log_likelihood - expected
model = models.bernoulli_vae(4, 2, hidden_sizes=(3,), initialization="torch")
method, optimizers = methods.aiwae(model, 2, 3, 1), train.adam(1e-3)
state = train.init_state(jax.random.key(0), model, method, optimizers)
x = jnp.asarray([[0.0, 1.0, 1.0, 0.0]])
state, info = train.make_train_step(method, optimizers)(jax.random.key(1), state, x)
kinds = {leaf.dtype.name for leaf in jax.tree.leaves(state.params)}
assert kinds == {"float64"}, kinds
"""


@pytest.mark.slow
def test_under_x64_what_the_package_makes_is_float64():
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    found = subprocess.run(
        [sys.executable, "-c", _UNDER_X64],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("is_expanded", [True, False])
def test_digits_that_are_lost_inside_of_a_density_are_seen(is_expanded):
    """(z - 400)² as z² - 800 z + 400², whose terms cancel: log Z is off, and looks reliable."""

    def log_joint(x, z):
        squares = z * z - 800.0 * z + 160_000.0 if is_expanded else jnp.square(z - 400.0)
        constant = 3 * (math.log(0.1) + 0.5 * math.log(2 * math.pi))
        return -0.5 * jnp.sum(squares) / 0.01 - constant

    near = distributions.DiagNormal(jnp.full(3, 400.0), jnp.full(3, 0.3))
    target = evaluate.Target(log_joint, lambda x: near)
    settings = evaluate.Settings(num_temperatures=100, chain_space="latent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate.log_likelihood(
            jax.random.key(0), target, np.zeros((4, 1), np.float32), settings
        )
    assert (found.rounding > 0.5).all() == is_expanded
    assert found.is_reliable.all() != is_expanded
    assert (evaluate.certificate(found).nll_at_most is None) == is_expanded
