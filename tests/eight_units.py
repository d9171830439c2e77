"""Models with 8 binary units in two layers, where everything is an exact sum over 256 states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import forces, models
from aiwae_jax.types import Params

D, X = 8, 4
SIZES = (5, 3)
STATES = jnp.asarray(np.array(list(itertools.product((0, 1), repeat=D)), np.float32))  # [256, D]
DATA = jnp.asarray(np.array(list(itertools.product((0, 1), repeat=X)), np.float32))  # [16, X]
DATUM = jnp.asarray([1.0, 0.0, 1.0, 1.0], jnp.float32)

NETWORK = models.sigmoid_belief_network(X, SIZES, initialization="torch")
PREDICTOR = models.half_predictor(X, SIZES, initialization="torch")


def params(model=NETWORK, scale: float = 1.0, seed: int = 5) -> Params:
    """Parameters far from symmetric, and a q that is far from the posterior."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape), jnp.float32), shapes
    )


def log_joints(model, theta, x):
    """log p(x, z) at every state, `[256]`."""
    return jax.vmap(lambda z: model.log_joint(theta, x, z))(STATES)


def log_probs(distribution):
    """Log probability of every state, `[256]`."""
    return jax.vmap(distribution.log_prob)(STATES)


def tabulated(log_density):
    """The same function of a state, with its gradient, looked up: cheap enough for many chains."""
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(log_density)))(STATES)
    return forces.with_force(lambda z: values[number_of(z)], lambda z: gradients[number_of(z)])


def exact_log_likelihood(model, theta, x):
    return jax.nn.logsumexp(log_joints(model, theta, x))


def number_of(z):
    """The index of a state in `STATES`."""
    return (z @ 2.0 ** jnp.arange(D - 1, -1, -1, dtype=z.dtype)).astype(jnp.int32)


def chi_square_p_value(counts, probabilities) -> float:
    """Of counts of states; rare ones are taken together until 10 are expected."""
    from scipy import stats

    counts, expected = np.asarray(counts, np.float64), np.asarray(probabilities, np.float64)
    expected = expected / expected.sum() * counts.sum()
    order = np.argsort(-expected)
    counts, expected = counts[order], expected[order]
    first_rare = int(np.searchsorted(-expected, -10.0))
    if first_rare < len(expected):
        tail = slice(max(first_rare - 1, 0), None)
        counts = np.append(counts[: tail.start], counts[tail].sum())
        expected = np.append(expected[: tail.start], expected[tail].sum())
    return float(stats.chisquare(counts, expected).pvalue)
