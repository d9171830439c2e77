"""What a trained model does to rows: compiled functions, some rows at a time."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.evaluate import chunks
from aiwae_jax.runs import progress
from aiwae_jax.types import PyTree

_ROWS_AT_ONCE = 256  # always so many: one program, and the same rounding, for any number
SECONDS_UNSEEN = 3.0  # of work, before its progress is shown

# The compiled functions; what is bound to a function by `Partial` is an argument of the program.


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def moments(posterior, x):
    """Mean and standard deviation of q(z|x), each `[N, D]`."""
    q = posterior(x)
    return q.mean(), q.stddev()


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def draws(posterior, rows):
    """Draws of q(z|x) `[N, S, D]`, for rows and their keys `[N, S]`."""
    x, keys = rows
    return jax.vmap(posterior(x).sample)(keys)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def means(likelihood, z):
    """Means of p(x|z) `[N, X]`."""
    return likelihood(z).mean()


def beside_what_is_given(distribution, x):
    """The mean of what is modelled of x, and in their places the columns that are given."""
    if hasattr(distribution, "given"):  # by the last columns
        mean = distribution.given(x).mean()
        return jnp.concatenate([mean, x[mean.size :]])
    mean = distribution.mean()
    return mean if mean.ndim != 1 else jnp.concatenate([x[: x.size - mean.size], mean])


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def again(functions, rows):
    """Means of p(x|z) `[N, X]` at q's means."""
    (posterior, likelihood), (x, _) = functions, rows
    return beside_what_is_given(likelihood(posterior(x).mean()), x)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def redrawn(functions, rows):
    """Means of p(x|z) `[N, X]` at draws of q."""
    (posterior, likelihood), (x, key) = functions, rows
    return beside_what_is_given(likelihood(posterior(x).sample(key)), x)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def samples(functions, key):
    """Draws (x `[N, X]`, z `[N, D]`) of the model, for keys `[N]`."""
    sample, theta, x = functions
    return sample(key, theta, x)


def in_pieces(title: str, function: Callable, functions: PyTree, rows: PyTree) -> PyTree:
    """`function(functions, rows)` of some rows at a time, so that memory stays bounded."""
    num = len(jax.tree.leaves(rows)[0])
    pieces = []
    with progress.Stages(SECONDS_UNSEEN) as shown:
        shown.begin(title)
        for indices, num_kept in chunks.of(num, _ROWS_AT_ONCE):
            piece = jax.tree.map(lambda a: a[indices], rows)  # noqa: B023
            found = jax.device_get(function(functions, piece))
            pieces.append(jax.tree.map(lambda a: a[:num_kept], found))  # noqa: B023
            shown.update(title, int(indices[num_kept - 1]) + 1, num)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
