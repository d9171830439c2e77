"""The multi-sample bound and active units, on the linear-Gaussian model."""

from functools import partial

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate

PARAMS = lg.params()
LOG_JOINT = Partial(lg.log_joint, PARAMS.theta)
POSTERIOR = Partial(lg.posterior, PARAMS.phi)
TARGET = evaluate.Target(LOG_JOINT, POSTERIOR)
_KEYS = jax.random.split(jax.random.key(0), 30)
DATA = np.asarray(jax.jit(jax.vmap(lambda key: lg.sample(key, PARAMS.theta)[0]))(_KEYS))
EXACT = np.asarray(
    jax.jit(jax.vmap(partial(lg.exact_log_likelihood, PARAMS.theta)))(DATA), np.float64
)


def test_importance_bound_is_below_and_close():
    bound = evaluate.importance_bound(
        jax.random.key(2), TARGET, DATA, num_samples=5000, chunk_size=8
    )
    assert bound.bound.shape == (30,)
    assert bound.num_zero_weight == 0
    assert np.abs(bound.bound - EXACT).max() < 0.2
    loose = evaluate.importance_bound(
        jax.random.key(2), TARGET, np.tile(DATA, (50, 1)), num_samples=1, block_size=1
    )
    gap = np.tile(EXACT, 50) - loose.bound
    assert gap.mean() > 4 * gap.std() / len(gap) ** 0.5


def test_broken_samples_of_the_importance_bound_are_counted():
    def half_broken(x, z):
        return jnp.where(z[0] > 0, LOG_JOINT(x, z), jnp.nan)

    found = evaluate.importance_bound(
        jax.random.key(2), evaluate.Target(half_broken, POSTERIOR), DATA, num_samples=100
    )
    assert np.isfinite(found.bound).any()
    assert 0 < found.num_zero_weight < 3000


def test_active_units_counts_varying_means():
    def initial(x):
        loc = jnp.array([x[0], 0.05 * x[0], 0.0])
        return distributions.DiagNormal(loc, jnp.ones(3))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32))
    num, activity = evaluate.active_units(evaluate.Target(LOG_JOINT, initial), x)
    assert num == 1
    np.testing.assert_allclose(activity, [x[:, 0].var(), 0.0025 * x[:, 0].var(), 0], rtol=1e-3)


def test_samples_that_fill_no_block_are_refused():
    with pytest.raises(ValueError, match="positive multiple of `block_size`=50, got 70"):
        evaluate.importance_bound(jax.random.key(0), TARGET, DATA, num_samples=70)
