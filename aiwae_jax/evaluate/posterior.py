"""Measures of a posterior q: the multi-sample bound, and the active units."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, weights
from aiwae_jax.evaluate import calls, chunks, compiling, doors, verdicts
from aiwae_jax.evaluate.calls import ProgressFn
from aiwae_jax.evaluate.target import Target
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree


class ImportanceBound(NamedTuple):
    """Multi-sample bounds of N data.

    Attributes:
      bound: `[N]` nats.
      num_zero_weight: samples whose weight was zero or not finite (and then counted as zero).
    """

    bound: np.ndarray
    num_zero_weight: int


@compiling.jit(static_argnames=("num_blocks", "block_size"))
def bound_of_rows(key, indices, x, functions, *, num_blocks, block_size):
    """L_K `[N]` of rows `x` with numbers `indices` `[N]`, compiled; and samples of weight zero."""
    log_joint, start = functions

    def bound_datum(index, x):
        q = start(x)

        def block(block_key):
            keys = jax.random.split(block_key, block_size)
            z, log_q = jax.vmap(lambda key: doors.sample_and_log_prob(q, key))(keys)
            return jax.vmap(lambda z_k: log_joint(x, z_k))(z) - log_q

        log_weights = jax.lax.map(
            block, jax.random.split(jax.random.fold_in(key, index), num_blocks)
        ).reshape(-1)
        log_weights = weights.zero_if_broken(log_weights)
        return weights.log_mean_exp(log_weights), jnp.sum(log_weights == -jnp.inf)

    return jax.vmap(bound_datum)(indices, x)


@calls.of_target
def importance_bound(
    key: chex.PRNGKey,
    target: Target,
    x: PyTree,
    *,
    num_samples: int = 5000,
    chunk_size: int = 100,
    block_size: int = 50,
    progress_fn: ProgressFn | None = None,
) -> ImportanceBound:
    """L_{num_samples} of each datum (Eq. 3), a lower bound of log p(x) in expectation.

    Args:
      key: consumed.
      target: log p(x, z), and in `start` the proposal.
      x: pytree of data with leading axis N.
      num_samples: K; a multiple of `block_size`.
      chunk_size: data treated at once.
      block_size: samples per datum treated at once; bounds the memory.
      progress_fn: called with (data done, in all).

    Returns:
      An `ImportanceBound`. A warning names data all of whose samples have weight zero.

    Raises:
      ValueError: if `num_samples` is not a positive multiple of `block_size`, or a count is below
        1; as `log_likelihood` for data and functions.
      TypeError: as `log_likelihood`.
    """
    doors.enter_bound(key, target, x, progress_fn)
    num_data = checks.num_rows("x", x)
    chunk_size = checks.integer("chunk_size", chunk_size, least=1)
    block_size = checks.integer("block_size", block_size, least=1)
    num_samples = checks.integer("num_samples", num_samples)
    if num_samples < 1 or num_samples % block_size:
        raise ValueError(
            f"`num_samples` must be a positive multiple of `block_size`={block_size}, "
            f"got {num_samples}."
        )
    chunk_size = min(chunk_size, num_data)
    place = chunks.Placement(chunk_size)
    key, functions = place.replicate((key, target.functions))
    results = []
    with jax.default_matmul_precision("highest"):
        for indices, num_kept in chunks.of(num_data, chunk_size):
            found = bound_of_rows(
                key,
                *place.split((indices, chunks.select(x, indices))),
                functions,
                num_blocks=num_samples // block_size,
                block_size=block_size,
            )
            results.append([a[:num_kept] for a in processes.fetch(found)])
            if progress_fn is not None:
                progress_fn(int(indices[-1]) + 1, num_data)
    bound, num_zero_weight = map(np.concatenate, zip(*results, strict=True))
    verdicts.warn_of_zero_weights(num_zero_weight == num_samples, "bound")
    return ImportanceBound(bound, int(num_zero_weight.sum()))


@calls.of_target
def active_units(target: Target, x: PyTree, *, threshold: float = 0.01) -> tuple[int, np.ndarray]:
    """Counts latent units whose posterior mean varies: A_h = Var_x(E_q[h|x]) > threshold.

    Rows whose mean is not finite are left out, and a warning names them.

    Args:
      target: whose `start` returns a posterior with a `mean()`.
      x: pytree of data with leading axis N.
      threshold: the paper's 0.01.

    Returns:
      The count, and A `[D]`.

    Raises:
      TypeError: for arguments of another kind, or posteriors without a `mean()`.
      ValueError: for data without a shared leading axis, or if no row has a finite mean.
    """
    threshold = checks.real("threshold", threshold)
    if not 0.0 <= threshold < np.inf:
        raise ValueError(f"`threshold` must be finite and not negative, got {threshold}.")
    doors.enter_means(target.start, x)
    means = np.asarray(posterior_means(target.start, x), np.float64)
    is_finite = np.isfinite(means).all(axis=1)
    if not is_finite.any():
        raise ValueError(
            f"`start` has no finite mean for any of the {len(means)} data; is there a NaN in `x` "
            "or in its parameters?"
        )
    verdicts.warn_of_means(~is_finite)
    activity = means[is_finite].var(axis=0)
    return int((activity > threshold).sum()), activity


@jax.jit
def posterior_means(start, x):
    """Means of q(z|x) `[N, D]` of all rows `x` `[N, ...]` at once, compiled."""
    return jax.vmap(lambda x: start(x).mean())(x)
