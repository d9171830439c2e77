"""Tails that chains hardly reach: their index by pilots, and by the densities far out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate
from aiwae_jax.evaluate import tails, verdicts

SETTINGS = evaluate.Settings(num_temperatures=300, num_chains=64)
NOTHING = np.zeros((1, 1), np.float32)
SIZE = 3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_tail_index_is_that_of_the_work(power):
    """Of exponential variables e: exp(power * e) has index `power`, within its own error."""
    noise = np.random.default_rng(0).exponential(size=(4, 1000))
    work = np.exp(power * noise) if power else noise
    shifted = work * np.array([[1.0], [10.0], [0.1], [1.0]]) - np.arange(4)[:, None] * 100.0
    error = (1.0 + power) / math.sqrt(0.2 * work.size)
    assert abs(tails.index(shifted) - power) < 4.0 * error
    assert abs(tails.index(-work)) > 4.0 * error  # planted: the other tail
    assert tails.index(work + np.where(noise > 9.0, np.nan, 0.0)) < power + 4.0 * error
    assert np.isnan(tails.index(work[:1, :50]))
    assert np.isnan(tails.index(np.ones((2, 500))))


def test_tails_of_many_lengths_are_not_taken_for_heavy_ones():
    """Each of them exponential, or of a normal, and as long as the data say."""
    rng = np.random.default_rng(0)
    lengths = np.geomspace(0.1, 10.0, 20)[:, None]
    exponential, normal = rng.exponential(size=(20, 500)), rng.normal(size=(20, 500))
    error = 1.0 / math.sqrt(0.2 * normal.size)
    assert abs(tails.index(lengths * exponential)) < 4.0 * error
    assert tails.index(lengths * normal) < 0.0
    # Data that differ in more than a length: the bulk of some is far from their tail.
    bulk = np.where(rng.random((20, 500)) < np.linspace(0.0, 0.7, 20)[:, None], -100.0, 0.0)
    assert abs(tails.index(bulk + exponential)) < 4.0 * error
    together = tails.index((lengths * exponential).reshape(1, -1))
    assert together > 4.0 * error  # planted: one measure for all


def test_tails_that_chains_hardly_reach_leave_only_small_errors_reliable():
    def is_reliable(error, tail_index):
        ones = np.ones(1)
        return verdicts.is_reliable(
            *(error * ones, 16 * ones, 0.1 * ones, 0 * ones, 0 * ones), tail_index, SETTINGS
        )[0]

    assert is_reliable(0.2, float("nan"))  # of a plan that was made by hand
    assert is_reliable(0.2, -0.3)
    assert is_reliable(0.2, 0.19)  # which is what pilots find of exponential tails
    assert not is_reliable(0.2, 0.3)
    assert is_reliable(0.04, 0.3)


def normal(z):
    return -0.5 * jnp.sum(jnp.square(z))


def laplace(z):
    return -jnp.sum(jnp.abs(z))


def student(degrees, z):
    """Independent, unnormalized."""
    return -0.5 * (degrees + 1.0) * jnp.sum(jnp.log1p(jnp.square(z) / degrees))


def spherical(degrees, z):
    """Of all coordinates together, unnormalized."""
    return -0.5 * (degrees + z.size) * jnp.log1p(jnp.sum(jnp.square(z)) / degrees)


def positive(z):
    return jnp.where(z[0] > 0.0, normal(z), -jnp.inf)


def undefined(z):
    return normal(z) + 0.0 * jnp.sqrt(z[0])


class Drawn:
    """A start that draws from N(0, 1), and says another density."""

    def __init__(self, log_prob):
        self.log_prob = log_prob

    def sample(self, key):
        return jax.random.normal(key, (SIZE,))


def far_index(log_target, log_start=normal, num_data=1):
    functions = (
        Partial(lambda x, z: log_target(z)),
        Partial(lambda x: Drawn(log_start)),
    )
    x = np.zeros((num_data, 1), np.float32)
    return tails.far_index(jax.random.key(0), functions, x, "latent")


@pytest.mark.few(5)
@pytest.mark.parametrize(
    ("log_target", "log_start", "index"),
    [
        (normal, normal, 0.0),
        (laplace, normal, 0.0),
        (lambda z: normal(100.0 * (z - 30.0)), normal, 0.0),
        (Partial(student, 1.0), normal, 2.0),
        (Partial(student, 4.0), normal, 0.5),
        (Partial(student, 1.0), laplace, 1.0),
        (Partial(student, 1.0), Partial(student, 1.0), np.nan),
        (Partial(spherical, 1.0), normal, 2.0),  # along an axis, which sees no volume, 2 / 3
        (lambda z: student(2.0, z[:1]) + normal(z[1:]), normal, 1.0),
        (positive, normal, 0.0),
        (undefined, normal, 0.0),
        (lambda z: jnp.maximum(normal(z), -1e6), normal, np.nan),
        (lambda z: -0.1 * jnp.sum(jnp.log1p(jnp.square(z))), normal, np.inf),
    ],
    ids=[
        "normal",
        "laplace",
        "far and narrow",
        "cauchy",
        "t4",
        "cauchy from laplace",
        "cauchy from cauchy",
        "of all coordinates",
        "one coordinate",
        "half of the space",
        "undefined",
        "with a floor",
        "of infinite mass",
    ],
)
def test_the_index_far_out_is_that_of_the_densities(log_target, log_start, index):
    found = far_index(log_target, log_start, num_data=20)
    assert found == pytest.approx(index, abs=1e-2, nan_ok=True)


@pytest.mark.slow
def test_a_target_of_heavy_tails_is_unreliable_where_its_chains_agree():
    """20 Cauchy densities from a normal: of this key they are 0.8 nats too low, and say 0.1."""

    def log_joint(x, z):
        return student(1.0, z) - 20.0 * math.log(math.pi)

    target = evaluate.Target(log_joint, lambda x: distributions.standard_normal(20))
    with pytest.warns(UserWarning, match=r"tail index 2\.00"):
        found = evaluate.log_likelihood(jax.random.key(2), target, NOTHING, SETTINGS)
    assert not found.is_reliable.any()
