"""The bound that holds with a stated probability: its coverage, that it is no looser than it must
be, and faults that must break it."""

import functools
import math

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import evaluate
from aiwae_jax.evaluate import findings, verdicts

DELTA = 0.05
KEY = jax.random.key(0)
SETTINGS = evaluate.Settings(
    num_temperatures=4, num_chains=2, num_leapfrog_steps=2, chain_space="latent"
)
NO_MOVES = np.zeros(2)
PLAN = evaluate.Plan(np.linspace(0.0, 1.0, 4), np.full(2, 0.5), 0)
STANDARD_ERRORS = 4.0


def likelihood(estimates, **changes):
    """What `log_likelihood` returns, with these estimates."""
    num = len(estimates)
    found = evaluate.Likelihood(
        log_likelihood=np.asarray(estimates, np.float64),
        standard_errors=np.full(num, 0.1),
        effective_sample_size=np.ones(num),
        log_weight_variance=np.ones(num),
        plan=PLAN,
        acceptance=NO_MOVES,
        path_sample_size=NO_MOVES,
        num_nonfinite=0,
        num_zero_weight=0,
        num_gradients=0,
        is_unbiased=True,
        is_broken=np.zeros(num, bool),
        rounding=np.zeros(num),
        is_reliable=np.ones(num, bool),
    )
    return found._replace(**changes)


class Shifted:
    """A start whose `log_prob` is not that of its own draws, by so many nats."""

    def __init__(self, base, shift):
        self._base, self._shift = base, shift

    def __getattr__(self, name):
        return getattr(self._base, name)

    def log_prob(self, z):
        return self._base.log_prob(z) + self._shift

    def sample_and_log_prob(self, key):
        z, log_prob = self._base.sample_and_log_prob(key)
        return z, log_prob + self._shift


def start(shift, phi, x):
    return Shifted(lg.posterior(phi, x), shift)


@functools.cache
def estimates(num_data, shift):
    """log p̂(x) - log p(x) `[..., num_data]`, of 12,000 independent chains in all."""
    num_repeats = 12_000 // num_data
    rows = lg.DATUM + np.random.default_rng(0).normal(size=(num_data, lg.X)).astype(np.float32)
    params = lg.params()
    start_fn = Partial(start, jnp.float32(shift), params.phi)
    target = evaluate.Target(Partial(lg.log_joint, params.theta), start_fn)
    x = np.tile(rows, (num_repeats, 1))
    found = evaluate.log_likelihood(KEY, target, x, SETTINGS, plan=PLAN, chunk_size=len(x))
    exact = jax.vmap(lambda row: lg.exact_log_likelihood(params.theta, row))(jnp.asarray(rows))
    return found.log_likelihood.reshape(num_repeats, num_data) - np.asarray(exact, np.float64)


# ----------------------------------------------------------------------------------- the promise


def mean_of_products(shift=0.0):
    """E[prod p̂ / p] over three data, and its standard error."""
    products = np.exp(estimates(3, shift).sum(axis=1))
    return products.mean(), products.std(ddof=1) / len(products) ** 0.5


def test_the_product_of_all_estimates_is_unbiased():
    mean, error = mean_of_products()
    assert error < 0.03
    assert abs(mean - 1.0) < STANDARD_ERRORS * error


def test_a_start_of_another_density_makes_the_product_biased():
    mean, error = mean_of_products(shift=-0.1)
    assert abs(mean - 1.0) > 2 * STANDARD_ERRORS * error


def share_missed(shift=0.0):
    """Of 120 measurements of 100 data, those whose bound is below the true NLL, at the whole δ."""
    bounds = [
        evaluate.certificate(likelihood(each), delta=DELTA, look=None).nll_at_most
        for each in estimates(100, shift)
    ]
    return np.mean(np.asarray(bounds) < 0.0)  # the true NLL is taken from them


def most_missed(num):
    """The share of `num` trials that chance alone can miss, three standard errors above δ."""
    return DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / num)


def test_real_chains_are_covered_and_those_of_a_wrong_start_are_not():
    assert share_missed() <= most_missed(120)
    assert share_missed(shift=-0.5) > most_missed(120)


# ---------------------------------------------------------------------- no looser than it must be

NUM_TRIALS = 4000


def tight(chance, probability):
    """Estimates of one datum with log p = 0: the weight 1 / `probability`, so often, or else 0."""
    is_hit = chance.random(NUM_TRIALS) < probability
    return np.where(is_hit, math.log(1.0 / probability), -math.inf)


def misses(values, *, share=1.0, look=None):
    """Of each trial whether the bound, with `share` of its slack, is not above the true NLL, 0."""
    found = {
        v: evaluate.certificate(likelihood([v]), delta=DELTA, look=look) for v in np.unique(values)
    }
    bound = {v: c.nll_at_most - (1.0 - share) * c.slack for v, c in found.items()}
    return np.array([bound[v] <= 1e-12 for v in values])


def test_no_smaller_slack_would_do():
    chance = np.random.default_rng(0)
    missed = misses(tight(chance, DELTA)).mean()
    assert abs(missed - DELTA) < most_missed(NUM_TRIALS) - DELTA
    # 0.9 of it is that of a larger δ, of which another distribution makes use.
    worst = tight(chance, DELTA**0.9)
    assert misses(worst, share=0.9).mean() > most_missed(NUM_TRIALS)
    assert not misses(worst).any()


def test_the_best_of_ten_plans_is_ten_looks():
    chance = np.random.default_rng(1)
    kept = [misses(tight(chance, DELTA)) for _ in range(10)]
    assert np.any(kept, axis=0).mean() > 5 * most_missed(NUM_TRIALS)
    spent = [evaluate.certificate(likelihood([0.0]), look=k).spent for k in range(1, 11)]
    counted = [misses(tight(chance, s), look=k) for k, s in enumerate(spent, 1)]
    assert DELTA / 2 < np.any(counted, axis=0).mean() <= most_missed(NUM_TRIALS)
    assert sum(spent) == pytest.approx(DELTA * 10 / 11)


def test_looking_while_data_or_chains_are_added_is_free():
    chance = np.random.default_rng(2)
    # Heavy tails: a weight of 4 one time in four, else 0.3 to 1 or so, of the mean 1.
    logs = chance.normal(-0.5, 1.0, size=(NUM_TRIALS, 100))
    nats = math.log(1.0 / DELTA)
    by_datum = np.cumsum(logs, axis=1)
    ever = (by_datum >= nats).any(axis=1).mean()
    assert (by_datum[:, -1] >= nats).mean() < ever <= most_missed(NUM_TRIALS)
    found = likelihood(logs[0])
    assert evaluate.certificate(found.of_first(7), look=None).nll_at_most == pytest.approx(
        (nats - by_datum[0, 6]) / 7
    )
    means = np.cumsum(np.exp(logs), axis=1) / np.arange(1, 101)
    assert (np.log(means) >= nats).any(axis=1).mean() <= most_missed(NUM_TRIALS)


# --------------------------------------------------------------------------------- what it says


def test_the_slack_is_that_of_the_formula():
    values = np.random.default_rng(0).normal(-80.0, 5.0, size=500)
    found = evaluate.certificate(likelihood(values), look=None)
    assert found.slack == pytest.approx(math.log(20) / 500)
    assert found.slack < 0.006
    assert found.nll_at_most == pytest.approx(-values.mean() + found.slack)
    assert (found.reason, found.num_data, found.num_unreliable) == (None, 500, 0)
    assert evaluate.certificate(likelihood(values)).slack == pytest.approx(math.log(40) / 500)
    loose = likelihood(values, is_reliable=values >= -85.0)
    assert evaluate.certificate(loose).num_unreliable == (values < -85.0).sum() > 0


WRONG = findings.Finding("constant", 0.5, 0.0, False, "It is off.")


def test_where_it_assumes_what_is_not_so_there_is_no_bound_and_a_reason():
    large = np.array([0.0, 2 * verdicts.LARGEST_ROUNDING])
    passed = {"passed": True, "faults": []}
    failed = {"passed": False, "faults": ["log_prob is off by 0.5 nats."]}
    two = likelihood([-1.0, -2.0])
    assert evaluate.certificate(two, check=passed).reason is None
    assert evaluate.certificate(two, check=findings.Check(())).reason is None
    for found, check, reason in (
        (two._replace(is_unbiased=False), None, "adapted on the reported chains"),
        (two._replace(is_upper_bound=True), None, "bound log p(x) from above"),
        (two, failed, "the check of the start failed: log_prob is off by 0.5 nats"),
        (two, findings.Check((WRONG,)), "the check of the start failed: It is off"),
        (two._replace(rounding=large), None, r"1 of 2 data (row 1) are so large"),
        (two._replace(rounding=large * math.nan), None, "2 of 2 data"),
        (likelihood([-1.0, math.nan]), None, r"1 of 2 data (row 1) are no numbers"),
        (likelihood([-1.0, math.inf]), None, r"1 of 2 data (row 1) are no numbers"),
    ):
        refused = evaluate.certificate(found, check=check)
        assert refused.nll_at_most is None
        assert reason in refused.reason
    empty = evaluate.certificate(likelihood([-1.0, -math.inf]))
    assert empty.nll_at_most == math.inf
    assert "no chain of 1 of 2 data (row 1) has a positive weight" in empty.reason


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"delta": 1.0}, ValueError, "`delta` must be a probability below 1, got 1.0"),
        ({"delta": 0.0}, ValueError, "`delta` must be positive"),
        ({"look": 0}, ValueError, "`look` must be at least 1, got 0"),
        ({"look": 1.5}, TypeError, "`look` must be an integer"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate.certificate(likelihood([0.0]), **arguments)
    with pytest.raises(TypeError, match=r"`likelihood` must be what `evaluate.log_likelihood` r"):
        evaluate.certificate(np.zeros(3))
