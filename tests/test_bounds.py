"""Bidirectional bounds against exact likelihoods, and the search by them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate, likelihoods, models
from aiwae_jax.evaluate import calls, gap, likelihood, population, simulation
from aiwae_jax.moves import hamiltonian as hmc

PARAMS = lg.params()
LOG_JOINT = Partial(lg.log_joint, PARAMS.theta)
POSTERIOR = Partial(lg.posterior, PARAMS.phi)
PRIOR = Partial(lambda x: distributions.standard_normal(lg.D))
SMALL = evaluate.Settings(num_temperatures=12, num_chains=4, num_leapfrog_steps=3)
EXACT_FN = jax.jit(jax.vmap(partial(lg.exact_log_likelihood, PARAMS.theta)))
# A path whose temperatures, scales and step sizes are far from symmetric: prior to sharp posterior.
SHARP_NOISE = 0.05


def sample_fn(key):
    return lg.sample(key, PARAMS.theta)


def sharp_log_joint(x, z):
    likelihood = distributions.DiagNormal(
        PARAMS.theta["weight"] @ z + PARAMS.theta["bias"], jnp.full(lg.X, SHARP_NOISE)
    )
    return likelihood.log_prob(x) + distributions.standard_normal(lg.D).log_prob(z)


def sharp_sample(key):
    z_key, x_key = jax.random.split(key)
    z = jax.random.normal(z_key, (lg.D,))
    noise = SHARP_NOISE * jax.random.normal(x_key, (lg.X,))
    return PARAMS.theta["weight"] @ z + PARAMS.theta["bias"] + noise, z


TARGET = evaluate.Target(LOG_JOINT, POSTERIOR, sample_fn)


def enclose(num_temperatures, num_data=200, initial=POSTERIOR, **changes):
    settings = dataclasses.replace(SMALL, num_temperatures=num_temperatures, **changes)
    target = evaluate.Target(LOG_JOINT, initial, sample_fn)
    return evaluate.bidirectional(jax.random.key(0), target, settings, num_data=num_data)


@pytest.mark.parametrize(
    ("initial", "chain_space"),
    [
        (POSTERIOR, "base"),
        pytest.param(POSTERIOR, "latent", marks=pytest.mark.slow),
        pytest.param(PRIOR, "latent", marks=pytest.mark.slow),
    ],
)
def test_bounds_enclose_the_exact_value_and_converge(initial, chain_space):
    gaps = []
    for num_temperatures in (3, 40):
        found = enclose(num_temperatures, num_data=400, initial=initial, chain_space=chain_space)
        exact = np.asarray(EXACT_FN(simulated(found)), np.float64)
        for estimate, sign in ((found.forward, 1.0), (found.reverse, -1.0)):
            mean, error = evaluate.mean_and_standard_error(sign * (exact - estimate.log_likelihood))
            assert mean > -4 * error
        gaps.append((found.gap, found.gap_standard_error))
    assert gaps[0][0] > 4 * gaps[0][1]  # a real gap at first
    assert gaps[1][0] < 0.5 * gaps[0][0]


def simulated(found, key=0):
    """The data that `bidirectional` simulated."""
    data_key = jax.random.split(jax.random.key(key), 5)[0]
    num_data = len(found.forward.log_likelihood)
    return evaluate.simulate(data_key, TARGET, num_data)[0]


def reverse_bias_z_score(num=4000, **changes):
    """|mean of p(x) * mean reverse weight - 1| in standard errors, at one x, exact posterior z."""
    weight, noise = np.asarray(PARAMS.theta["weight"]), lg.NOISE
    covariance = np.linalg.inv(np.eye(lg.D) + weight.T @ weight / noise**2)
    mean = covariance @ weight.T @ (lg.DATUM - np.asarray(PARAMS.theta["bias"])) / noise**2
    draws = np.random.default_rng(0).multivariate_normal(mean, covariance, num)
    settings = dataclasses.replace(SMALL, num_temperatures=6, **changes)
    x = np.tile(lg.DATUM, (num, 1))
    plan = evaluate.tune(jax.random.key(1), TARGET, x, settings)
    work = calls.Work(TARGET, settings, chunk_size=num)
    found = likelihood.anneal(jax.random.key(2), work, plan, x, draws.astype(np.float32))
    exact = float(lg.exact_log_likelihood(PARAMS.theta, lg.DATUM))
    ratio = np.exp(exact - found.log_likelihood.astype(np.float64))
    return abs(ratio.mean() - 1) / (ratio.std(ddof=1) / num**0.5)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"chain_space": "latent"}, marks=pytest.mark.slow),
        pytest.param({"chain_space": "base"}, marks=pytest.mark.slow),
        {"chain_space": "base", "momentum_persistence": 0.7},
    ],
    ids=str,
)
def test_reverse_weights_are_unbiased_for_one_over_the_likelihood(changes):
    """With the chains of a datum sharing one exact latent."""
    assert reverse_bias_z_score(**changes) < 4.0


@pytest.mark.slow
def test_reverse_unbiasedness_test_catches_chains_that_run_forwards(monkeypatch):
    real = population.run

    def run(key, functions, chunk, course, *args, **options):
        course = course._replace(betas=np.sort(course.betas))
        return real(key, functions, chunk, course, *args, **options)

    monkeypatch.setattr(population, "run", run)
    assert reverse_bias_z_score(chain_space="latent") > 6.0


def largest_difference_of_acceptance():
    """Between forward and reverse chains at the same intermediate distribution."""
    found = evaluate.bidirectional(
        jax.random.key(0),
        evaluate.Target(sharp_log_joint, PRIOR, sharp_sample),
        dataclasses.replace(SMALL, num_temperatures=40, num_chains=8, chain_space="latent"),
        num_data=100,
    )
    difference = found.forward.acceptance - found.reverse.acceptance
    assert np.ptp(found.forward.plan.step_sizes) > 0.3 * found.forward.plan.step_sizes.max()
    return np.abs(difference).max()


@pytest.mark.slow
def test_reverse_chains_visit_the_same_distributions_with_the_same_step_sizes():
    assert largest_difference_of_acceptance() < 0.2


@pytest.mark.slow
def test_mirror_test_catches_a_schedule_that_is_not_mirrored(monkeypatch):
    real = population.run

    def run(key, functions, chunk, course, *args, **options):
        if chunk.latents is not None:
            betas, step_sizes = 1.0 - course.betas[::-1], course.step_sizes[::-1]
            course = course._replace(betas=betas, step_sizes=step_sizes)
        return real(key, functions, chunk, course, *args, **options)

    monkeypatch.setattr(population, "run", run)
    assert largest_difference_of_acceptance() > 0.3


@pytest.mark.parametrize("is_given_library", [False, True])
def test_draws_of_a_model_are_compiled_once_whatever_its_parameters(is_given_library):
    """Draws of counts take long to compile, and a gap from either start draws three times."""
    likelihood = likelihoods.poisson(library=is_given_library)
    model = models.mlp_vae(4, 2, likelihood=likelihood, hidden_sizes=(3,))
    params = model.init(jax.random.key(0))
    contexts = np.full((4, 4), 90.0, np.float32) if is_given_library else None

    def draw(scale, start):
        scaled = params._replace(theta=jax.tree.map(lambda a: scale * a, params.theta))
        target = evaluate.Target.of(model, scaled, start=start, contexts=contexts)
        return evaluate.simulate(jax.random.key(0), target, 5)[0]

    first = draw(1.0, "posterior")
    size = simulation._draws._cache_size()
    assert not np.array_equal(draw(5.0, "prior"), first)
    assert simulation._draws._cache_size() == size > 0


@pytest.mark.slow
def test_gap_and_its_interval_are_of_the_paired_differences():
    found = enclose(4, num_data=50)
    difference = found.reverse.log_likelihood - found.forward.log_likelihood
    assert found.gap == pytest.approx(difference.mean(), rel=1e-5)
    error = difference.std(ddof=1) / 50**0.5
    assert found.gap_upper_end == pytest.approx(
        difference.mean() + scipy.stats.t.ppf(0.975, 49) * error, rel=1e-4
    )
    pilots = SMALL.num_pilot_data * SMALL.num_pilot_chains * (30 + 100 - 2) * 3
    assert found.forward.plan.num_gradients % pilots == 0  # passes, of which two are the fewest
    assert found.forward.plan.num_gradients >= 2 * pilots
    assert found.num_gradients == found.forward.plan.num_gradients + 2 * 50 * 4 * (4 - 2) * 3


def test_found_reaches_its_target_on_fresh_data():
    settings = dataclasses.replace(SMALL, num_temperatures=4)
    found = evaluate.reach_gap(
        jax.random.key(0),
        *(TARGET, settings),
        target_gap=0.1,
        num_data=400,
    )
    assert found.is_reached
    assert found.result.gap_upper_end <= 0.1
    tried = [num for num, _, _ in found.search]
    assert tried == sorted(set(tried))
    assert tried[0] == 4 < tried[-1] == found.settings.num_temperatures
    assert len(found.plan.betas) == tried[-1]
    last_try = found.search[-1][1]
    assert found.result.gap != last_try  # measured again, on other data
    cost = sum(
        2 * evaluate.num_gradients(dataclasses.replace(settings, num_temperatures=n), 400)
        for n in [*tried, tried[-1]]
    )
    assert found.num_gradients > cost  # and the pilots


@pytest.mark.parametrize("num_degrees", [1, 2, 3, 5, 10, 49, 199])
def test_students_quantile(num_degrees):
    expected = scipy.stats.t.ppf(0.975, num_degrees)
    found = gap._student_t(gap._OF_95_PERCENT, num_degrees)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_search_goes_on_where_a_datum_has_no_weight_at_all():
    def broken(x, z):
        return jnp.where(x[0] > 0, LOG_JOINT(x, z), -jnp.inf)

    with pytest.warns(UserWarning, match=r"of 10 data \(rows .* say nothing"):
        found = evaluate.reach_gap(
            jax.random.key(0),
            evaluate.Target(broken, POSTERIOR, sample_fn),
            dataclasses.replace(SMALL, num_temperatures=4),
            num_data=10,
            max_temperatures=6,
        )
    assert not found.is_reached
    assert found.result.gap_upper_end == np.inf


def test_found_that_cannot_be_had_says_so():
    found = evaluate.reach_gap(
        jax.random.key(0),
        *(TARGET, dataclasses.replace(SMALL, num_temperatures=4)),
        target_gap=1e-4,
        num_data=10,
        max_temperatures=8,
    )
    assert not found.is_reached
    assert found.settings.num_temperatures == 8


@pytest.mark.slow
def test_interrupted_found_continues_without_repeating(monkeypatch):
    arguments = (TARGET, dataclasses.replace(SMALL, num_temperatures=4))
    options = {"target_gap": 0.1, "num_data": 40, "chunk_size": 20}
    store = {}
    first = evaluate.reach_gap(jax.random.key(0), *arguments, **options, store=store)
    monkeypatch.setattr(population, "run", None)  # nothing may run any more
    again = evaluate.reach_gap(jax.random.key(0), *arguments, **options, store=store)
    assert again.result.gap == first.result.gap
    assert again.search == first.search


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(enclose, 4, num_data=1), "`num_data` must be at least 2"),
        (partial(enclose, 4, adapt="paper", schedule="linear"), "biases the weights"),
        (
            partial(evaluate.reach_gap, jax.random.key(0), TARGET, target_gap=0.0),
            "`target_gap` must be positive, got 0.0",
        ),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


MODES, WIDTH = jnp.array([[-3.0, 0.0], [3.0, 0.0]]), 0.4


def two_modes(x, z):
    """Unnormalized, with log Z = x[0]: two separate, equally heavy normal modes."""
    log_modes = jax.vmap(lambda m: distributions.DiagNormal(m, jnp.full(2, WIDTH)).log_prob(z))
    return jax.nn.logsumexp(log_modes(MODES)) - jnp.log(2.0) + x[0]


@pytest.mark.slow
def test_annealing_finds_the_mode_that_plain_hmc_from_q_misses():
    """q covers the far mode thinly. AIS weighs what it finds there; HMC stays where q put it.

    Plain HMC's estimate of log Z is importance sampling from the normal fitted to its samples.
    """
    q = distributions.DiagNormal(jnp.array([-3.0, 0.0]), jnp.array([1.7, 1.0]))
    num = 400
    settings = evaluate.Settings(
        num_temperatures=100, num_chains=64, num_leapfrog_steps=5, chain_space="latent"
    )
    x = np.full((num, 1), 1.5, np.float32)
    target = evaluate.Target(two_modes, lambda x: q)
    found = evaluate.log_likelihood(jax.random.key(0), target, x, settings)
    ratio = np.exp(found.log_likelihood.astype(np.float64) - 1.5)
    annealed = (ratio.mean() - 1.0) / (ratio.std(ddof=1) / num**0.5)
    assert abs(annealed) < 4.0

    def density(z):
        return two_modes(jnp.array([1.5]), z)

    def chain(key):
        start_key, move_key = jax.random.split(key)
        state = hmc.init(q.sample(start_key), density)
        keys = jax.random.split(move_key, 200)
        return jax.lax.scan(lambda s, k: (hmc.step(k, s, density, 0.2)[0], None), state, keys)[
            0
        ].position

    z = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(1), 4000)))
    assert (z[:, 0] > 0).mean() < 0.1  # half of the mass is there
    fitted = distributions.DiagNormal(jnp.asarray(z.mean(0)), jnp.asarray(z.std(0)))
    proposals = jax.vmap(fitted.sample)(jax.random.split(jax.random.key(2), 20_000))
    log_ratio = jax.vmap(lambda z: density(z) - fitted.log_prob(z))(proposals)
    ratio = np.exp(np.asarray(log_ratio, np.float64) - 1.5)
    plain = (ratio.mean() - 1.0) / (ratio.std(ddof=1) / 20_000**0.5)
    assert plain < -10.0


def test_the_earlier_name_of_the_search_works_and_says_the_new_one():
    with pytest.warns(FutureWarning, match=r"`evaluate.certify` is called `evaluate.reach_gap` no"):
        assert evaluate.certify is evaluate.reach_gap
    with pytest.raises(AttributeError, match="has no attribute 'certified'"):
        evaluate.certified  # noqa: B018
