"""The check before the work: honest targets pass it, and what no gap shows is caught."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import own_table
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate, models, report
from aiwae_jax.evaluate import normalizer
from aiwae_jax.report import measure


class Faults(NamedTuple):
    """Of a target; each default is none. Arrays, so that all of them share their programs."""

    start_scale: float = 1.0  # of the draws of `start`, by the side of its density
    start_mean: float = 1.0  # share of its mean that its draws have
    constant: float = 0.0  # nats, in its density
    start_sign: float = 1.0  # of its gradient
    joint_sign: float = 1.0
    joint_noise: float = 1.0  # by which `log_joint` takes the noise of x to be larger
    sample_scale: float = 1.0  # of z
    mixing: float = 0.0  # share of the other coordinate in z of `sample`


def as_arrays(faults):
    return Faults(*(jnp.float32(value) for value in faults))


def with_sign(sign, value):
    """The value, whose gradient has another sign."""
    held = jax.lax.stop_gradient(value)
    return held + sign * (value - held)


class Start(NamedTuple):
    """A distribution of `sample` and `log_prob` alone."""

    q: distributions.DiagNormal
    faults: Faults

    def sample(self, key):
        noise = jax.random.normal(key, self.q.loc.shape)
        return self.faults.start_mean * self.q.loc + self.faults.start_scale * self.q.scale * noise

    def log_prob(self, z):
        value = self.q.log_prob(z) + self.faults.constant
        return with_sign(self.faults.start_sign, value)


class Mapped(Start):
    """One with a transport, which has none of the faults of the draws."""

    def transport(self, noise):
        return self.q.transport(noise)

    def inverse_transport(self, z):
        return self.q.inverse_transport(z)


def log_joint(params, faults, x, z):
    loc = lg.product(params.theta["weight"], z) + params.theta["bias"]
    likelihood = distributions.DiagNormal(loc, jnp.full(lg.X, lg.NOISE) * faults.joint_noise)
    value = likelihood.log_prob(x) + distributions.standard_normal(lg.D).log_prob(z)
    return with_sign(faults.joint_sign, value)


def bare(params, faults, x):
    return Start(lg.posterior(params.phi, x), faults)


def mapped(params, faults, x):
    return Mapped(lg.posterior(params.phi, x), faults)


def sample(params, faults, key):
    x, z = lg.sample(key, params.theta)
    return x, faults.sample_scale * ((1.0 - faults.mixing) * z + faults.mixing * z[::-1])


def target(start=bare, **faults):
    params, faults = lg.params(), as_arrays(Faults(**faults))
    return evaluate.Target(
        Partial(log_joint, params, faults),
        Partial(start, params, faults),
        Partial(sample, params, faults),
    )


X, _ = evaluate.simulate(jax.random.key(1), target(), 20)


def found(target, seed=0, x=X):
    return evaluate.check(target, x, key=jax.random.key(seed))


# Each fault, and a word of what must be said of it.
PLANTED = {
    "scale": ({"start_scale": 2.0}, "scale of z"),
    "half the scale": ({"start_scale": 0.5}, "scale of z"),
    "a tenth of the scale": ({"start_scale": 1.1}, "scale of z"),
    "no mean": ({"start_mean": 0.0}, "where z lies"),
    "constant": ({"constant": 0.5}, "not normalized"),
    "small constant": ({"constant": -0.1}, "not normalized"),
    "sign of start": ({"start_sign": -1.0}, "not the slope"),
    "sign of joint": ({"joint_sign": -1.0}, "not the slope"),
    "scale of sample": ({"sample_scale": 1.2}, "`sample` does not draw"),
    "order of z": ({"mixing": 1.0}, "`sample` does not draw"),
    "noise of x": ({"joint_noise": 1.2}, "x varies given z"),
}


@pytest.mark.parametrize("start", [bare, mapped])
def test_an_honest_target_passes(start):
    check = found(target(start))
    assert check.is_ok
    assert check.sentence() is None
    assert all(each.passed for each in check.findings)
    check.raise_if_bad()


def test_draws_that_depend_on_each_other_otherwise_than_their_density_says_are_a_fault():
    class Dependent(distributions.DiagNormal):  # of the right means and scales
        def sample(self, key):
            z = jax.random.normal(key, (2,))
            return jnp.stack([z[0], 0.6 * z[0] + 0.8 * z[1]])

    prior = distributions.standard_normal(2)
    wrong = Dependent(jnp.zeros(2), jnp.ones(2))
    for start, is_ok in ((prior, True), (wrong, False)):
        target = evaluate.Target(lambda x, z: prior.log_prob(z), Partial(lambda q, x: q, start))
        check = evaluate.check(target, X)
        assert check.is_ok == is_ok, check
    assert "how coordinates of z depend on each other" in check.faults[0]


@pytest.mark.few(5)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_caught(name):
    faults, words = PLANTED[name]
    check = found(target(**faults))
    assert any(words in sentence for sentence in check.faults), check
    with pytest.raises(ValueError, match="at fault"):
        check.raise_if_bad()


def test_a_missing_constant_is_seen_by_the_jacobian_of_a_transport():
    (fault,) = found(target(mapped, constant=0.5)).faults
    assert "+0.5 nats" in fault
    assert "`transport`" in fault


@pytest.mark.slow
@pytest.mark.by_hand
def test_planted_faults_are_caught_by_10_of_10_seeds():
    for faults, words in PLANTED.values():
        for seed in range(10):
            check = found(target(**faults), seed)
            assert any(words in sentence for sentence in check.faults), (faults, seed, check)


def student(num_degrees):
    """Independent Student's t, whose variance is infinite for 2 degrees or fewer."""
    nu = float(num_degrees)
    constant = jax.scipy.special.gammaln((nu + 1) / 2) - jax.scipy.special.gammaln(nu / 2)
    constant = float(constant) - 0.5 * np.log(nu * np.pi)

    def log_prob(z):
        return jnp.sum(constant - 0.5 * (nu + 1) * jnp.log1p(jnp.square(z) / nu))

    return Plain(lambda key: jax.random.t(key, jnp.float32(nu), (lg.D,)), log_prob)


class Plain:
    """A distribution of two functions."""

    def __init__(self, sample, log_prob):
        self.sample, self.log_prob = sample, log_prob


MIXTURE = distributions.Mixture(
    jnp.array([0.0, 1.0]), jnp.array([[-3.0, 0.0], [1.0, 2.0]]), jnp.array([[0.5, 1.0], [1.0, 0.3]])
)
UNIFORM = Plain(
    lambda key: jax.random.uniform(key, (lg.D,)),
    lambda z: jnp.where(jnp.all((z >= 0.0) & (z <= 1.0)), 0.0, -jnp.inf),
)
EXPONENTIAL = Plain(lambda key: jax.random.exponential(key, (lg.D,)), lambda z: -jnp.sum(z))
LAPLACE = Plain(
    lambda key: jax.random.laplace(key, (lg.D,)), lambda z: -jnp.sum(jnp.abs(z) + jnp.log(2.0))
)


def of_start(q):
    return evaluate.Target(target().log_joint, lambda x: q, target().sample)


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize(
    "start", [student(1), student(3), MIXTURE, LAPLACE], ids=["cauchy", "t3", "mixture", "laplace"]
)
def test_other_honest_starts_pass_50_seeds(start):
    own = of_start(start)  # one, for each new function is compiled anew
    for seed in range(50):
        check = found(own, seed)
        assert check.is_ok, (seed, check.faults)
        assert not check.doubts


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("start", [bare, mapped])
def test_honest_targets_pass_50_seeds(start):
    for seed in range(50):
        check = found(target(start), seed)
        assert check.is_ok, (seed, check.faults)


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("posterior", ["normal", "full", "planar", "iaf"])
def test_ready_models_pass(posterior):
    model = models.bernoulli_vae(
        20, 4, hidden_sizes=(16,), initialization="torch", posterior=posterior
    )
    own = evaluate.Target.of(model, model.init(jax.random.key(3)))
    x, _ = evaluate.simulate(jax.random.key(1), own, 20)
    for seed in range(10):
        check = found(own, seed, x)
        assert check.is_ok, (seed, check.faults)


@pytest.mark.slow
@pytest.mark.parametrize("start", [UNIFORM, EXPONENTIAL], ids=["uniform", "exponential"])
def test_where_a_density_ends_the_identities_leave_a_doubt_and_no_fault(start):
    check = found(of_start(start))
    assert check.is_ok
    assert "edge" in check.sentence()


def test_binary_latents_are_said_to_be_left_out():
    q = distributions.Bernoulli(jnp.zeros(2))
    own = evaluate.Target(lambda x, z: q.log_prob(z) + 0.0 * jnp.sum(x), lambda x: q)
    check = evaluate.check(own, X)
    assert check.is_ok
    assert "binary" in check.notes[0]


def test_a_nan_is_a_fault():
    own = evaluate.Target(lambda x, z: jnp.sum(jnp.log(z)) + 0.0 * jnp.sum(x), target().start)
    (fault,) = [each for each in found(own).faults if "nan" in each]
    assert "`log_joint`" in fault


@pytest.mark.slow
def test_the_library_warns_where_it_is_asked_to():
    settings = evaluate.Settings(
        num_temperatures=10, num_chains=4, num_pilot_data=4, chain_space="latent"
    )
    key, wrong = jax.random.key(0), target(constant=0.5)
    evaluate.log_likelihood(key, target(), X, settings, check=True)  # warnings are errors
    evaluate.log_likelihood(key, wrong, X, settings)
    with pytest.warns(UserWarning, match="not normalized"):
        evaluate.log_likelihood(key, wrong, X, settings, check=True)
    with pytest.warns(UserWarning, match="not normalized"):
        bounds = evaluate.bidirectional(key, wrong, settings, num_data=10, check=True)
    assert bounds.is_possible  # no gap shows it


def test_a_bridge_measures_log_z_and_says_where_nothing_overlaps():
    """Weights between N(0, 1) and Z·N(0.5, 1), whose log Z is 0.7: within 5 standard errors."""
    noise = np.random.default_rng(0).standard_normal((2, 4000))

    def log_weight(z, shift):
        return 0.7 - 0.5 * (z - shift) ** 2 + 0.5 * z**2

    there, back = log_weight(noise[0], 0.5), -log_weight(noise[1] + 0.5, 0.5)
    log_z, error = normalizer.bridge(there, back)
    assert 0.0 < error < 0.02
    assert abs(log_z - 0.7) < 5.0 * error
    assert abs(normalizer.bridge(there, back + 0.5)[0] - 0.7) > 5.0 * error  # not of one Z
    far = normalizer.bridge(log_weight(noise[0], 50.0), -log_weight(noise[1] + 50.0, 50.0))
    assert np.isnan(far).all()


@pytest.mark.slow
def test_a_report_says_what_its_check_found(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "check", evaluate.check)  # which tests of reports go without
    run = own_table.fit(tmp_path)
    settings = evaluate.Settings(num_temperatures=10, num_chains=2)
    found = report.write(run, own_table.table(), settings, num_bound_samples=50, num_simulated=4)
    assert found["check"]["passed"]
    assert found["check"]["faults"] == []
    assert found["nll_at_most"] > 0
