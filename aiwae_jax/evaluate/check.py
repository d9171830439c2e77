"""A check of a target before the work: what no gap between bounds can show.

A `start` whose `log_prob` is not that of its own draws makes chains in both directions wrong alike.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checks
from aiwae_jax.evaluate import (
    calls,
    chunks,
    compiling,
    doors,
    identities,
    normalizer,
    simulation,
    slopes,
    transported,
)
from aiwae_jax.evaluate.findings import Check, Finding, skipped
from aiwae_jax.evaluate.identities import Draws, Words
from aiwae_jax.evaluate.settings import BINARY_SETTINGS, DEFAULT_SETTINGS
from aiwae_jax.evaluate.smoothness import Witnesses
from aiwae_jax.evaluate.target import Target
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_NUM_DATA = 4
_NUM_DRAWS = 10_000  # of each density
_SECONDS = 1.5  # of draws of one kind, after which fewer must do
_MOST_NUMBERS = 2_000_000  # of a batch of draws
_BATCH_SIZES = 64, 1000  # at least, at most
_NUM_WITNESSES = 512

_OF_START = Words(
    "`start`",
    "`sample` and `log_prob` of what `start` returns disagree about where z lies: the mean of the "
    "score over its own draws is not 0",
    "`sample` and `log_prob` of what `start` returns disagree about the scale of z, or its "
    "gradient has a wrong sign",
    "`sample` and `log_prob` of what `start` returns disagree about how coordinates of z depend on "
    "each other",
)
_OF_JOINT = Words(
    "`sample`",
    "`sample` does not draw from `log_joint`: the mean of its score in z is not 0",
    "`sample` does not draw from `log_joint`: the scale of z, or what x says of it, is another "
    "(another order of z, other weights), or its gradient has a wrong sign",
    "`sample` does not draw from `log_joint`: coordinates of z, or what x says of them, depend on "
    "each other otherwise",
    "`sample` does not draw from `log_joint`: x varies given z more or less than it says",
)


@calls.of_target
def check(target: Target, x: PyTree, *, key: jax.Array | None = None) -> Check:
    """Looks for faults of a target that make its likelihood wrong and no gap wide; in seconds.

    - At a few draws: values and gradients are finite, and gradients are the slopes of the values.
    - Under z ~ `start(x)`: E[∂_i log q] = 0 and E[(z_i - c) ∂_i log q] = -1 (Stein's identity), so
      that its draws are those of its density, up to a constant; and E[u·(z - c) v·∇log q] = -u·v
      along a few pairs of directions, which sees how coordinates depend on each other.
    - Its constant: exactly, by the Jacobian of `transport`, where there is one; elsewhere log Z by
      short chains between it and a Gaussian that is fitted to its draws.
    - Under (x, z) ~ `sample`: the same identities of log p(x, z) in z, and E[(v·∇log p)²] =
      -E[vᵀ(∇² log p)v] (Bartlett), which sees how x varies given z.

    Each holds within 5 standard errors, of 10,000 draws for each of 4 data where 1.5 seconds
    suffice, and again of fresh ones. They hold for densities that are smooth on all of R^D: where
    one fails and an edge or a jump is found, that is a doubt and no fault. A constant factor of
    p(x, z) shifts every estimate and shows nowhere.

    Args:
      target: what is to be measured.
      x: pytree of data with leading axis N, of which 4 are used.
      key: consumed; by default a fixed one, so that the verdict is repeated.

    Returns:
      A `Check`.

    Raises:
      TypeError: as `log_likelihood`.
      ValueError: as `log_likelihood`; for a `sample` whose draws do not fit.
    """
    key = jax.random.key(0) if key is None else key
    checks.key(key)
    datum = chunks.first(x) if checks.num_rows("x", x) else x
    is_binary = doors.look_at_start(target.start, datum).latents == "binary"
    doors.enter(target, x, BINARY_SETTINGS if is_binary else DEFAULT_SETTINGS)
    if target.sample is not None:
        simulation.look_at_sample(target.sample)
    return examine(key, target, x)


def warn_of_faults(target: Target, x: PyTree) -> None:
    """Checks, and warns of what was found, for a caller behind its own door."""
    if sentence := examine(jax.random.key(0), target, x).sentence():
        warnings.warn(sentence[0].upper() + sentence[1:], stacklevel=4)


def examine(key: jax.Array, target: Target, x: PyTree) -> Check:
    """`check` behind its door."""
    num_data = checks.num_rows("x", x)
    rows = np.unique(np.linspace(0, num_data - 1, min(num_data, _NUM_DATA)).astype(np.int32))
    x = jax.tree.map(jnp.asarray, chunks.select(x, rows))
    start = doors.look_at_start(target.start, chunks.first(x))
    if start.latents == "binary":
        return Check((skipped("the target", "its latents are binary and have no score"),))
    start_key, joint_key = jax.random.split(key)
    with jax.default_matmul_precision("highest"):
        found = _of_start(start_key, target, x, start)
        found += _of_joint(joint_key, target, start)
    return Check(tuple(found))


def _has_density(target: Target, x: PyTree) -> bool:
    """Whether `log_prob` of what `start` returns has a gradient at any z."""

    def score(x):
        q = target.start(x)
        return jax.grad(q.log_prob)(q.sample(jax.random.key(0)))

    try:
        jax.eval_shape(score, chunks.first(x))
    except Exception:  # of any kind: a flow may know the density of its own draws only
        return False
    return True


def _batch_size(numbers_of_draw: int) -> int:
    return int(np.clip(_MOST_NUMBERS // numbers_of_draw, *_BATCH_SIZES))


@compiling.jit(static_argnames=("num", "with_score", "with_own"))
def _draw_start(key, x, start, *, num, with_score, with_own):
    """Draws z and scores `[R, num, D]`; draws that come with their log probabilities `[R, num]`."""

    def of_datum(key, x):
        q = start(x)

        def one(key):
            z = q.sample(key)
            score = jax.grad(q.log_prob)(z) if with_score else jnp.zeros_like(z)
            return z, score, q.sample_and_log_prob(key) if with_own else None

        return jax.vmap(one)(jax.random.split(key, num))

    return jax.vmap(of_datum)(jax.random.split(key, jax.tree.leaves(x)[0].shape[0]), x)


def _log_prob(start, x, z):
    return start(x).log_prob(z)


def _of_start(key: jax.Array, target: Target, x: PyTree, start: doors.Start) -> list[Finding]:
    """Values and gradients at draws of `start`; whether it draws from a normalized density."""
    draws_key, witness_key, chain_key = jax.random.split(key, 3)
    num_rows, size = jax.tree.leaves(x)[0].shape[0], start.latent.shape[0]
    num, with_density = _batch_size(2 * num_rows * size), _has_density(target, x)
    log_prob = Partial(_log_prob, target.start)

    flags = {
        "with_score": with_density,
        "with_own": {"inverse_transport", "sample_and_log_prob"} <= start.methods,
    }

    def draw(key: jax.Array) -> Draws:
        return Draws(*_draw_start(key, x, target.start, num=num, **flags)[:2])

    few, _, own = processes.fetch(_draw_start(witness_key, x, target.start, num=num, **flags))
    few = few[:, :_NUM_WITNESSES]
    found = slopes.examine("log_joint", target.log_joint, x, few)
    if "transport" in start.methods:
        found += transported.examine(target.start, x, start, own, with_density=with_density)
    if not with_density:
        why = "what it returns has no `log_prob` at any z"
        return [*found, skipped("the score of `start`", why)]
    found += slopes.examine("log_prob of `start`", log_prob, x, few)

    def witnesses(row: int) -> Witnesses:
        own = jax.tree.map(lambda a: jnp.broadcast_to(a[row], (few.shape[1], *a.shape[1:])), x)
        return Witnesses(log_prob, own, few[row])

    of_draws, draws = identities.examine(
        *(draws_key, draw, witnesses, _OF_START), num_draws=_NUM_DRAWS, seconds=_SECONDS
    )
    found += of_draws
    if any(each.name == transported.DETERMINANT and each.passed is not None for each in found):
        return found  # its constant is known by the Jacobian, better than by chains
    if not all(each.passed for each in of_draws):
        why = "it is measured by its draws, which must be those of its density"
        return [*found, skipped("the normalizer of `start`", why)]
    dtype = start.latent.dtype
    return [*found, normalizer.examine(chain_key, target.start, x, draws.z.astype(dtype))]


@compiling.jit()
def _draw_joint(key, directions, functions):
    """Draws z and scores `[S, D]`, squares of slopes and curvatures along directions `[S, 2]`."""
    log_joint, sample = functions

    def one(key, direction):
        x, z = sample(key)
        score, bent = jax.jvp(jax.grad(lambda z: log_joint(x, z)), (z,), (direction,))
        slope = jnp.vdot(score, direction)
        return z, score, jnp.stack([jnp.square(slope), jnp.vdot(bent, direction)])

    return jax.vmap(one)(jax.random.split(key, directions.shape[0]), directions)


@compiling.jit(static_argnames="num")
def _simulate(key, sample, *, num):
    return jax.vmap(sample)(jax.random.split(key, num))


def _of_joint(key: jax.Array, target: Target, start: doors.Start) -> list[Finding]:
    """Whether `sample` draws from `log_joint`, as far as its gradients in z can tell."""
    if target.sample is None:
        return [skipped("`sample`", "the target has none")]
    draws_key, witness_key = jax.random.split(key)
    like_x, like_z = jax.eval_shape(target.sample, key)
    if not jnp.issubdtype(like_z.dtype, jnp.floating) or like_z.shape != start.latent.shape:
        text = (
            f"`sample` draws z of {checks.describe(like_z)} and `start` of "
            f"{checks.describe(start.latent)}; both must be the z of `log_joint(x, z)`."
        )
        return [Finding("shape of `sample`", np.nan, np.nan, False, text)]
    size = sum(a.size for a in jax.tree.leaves(like_x))
    num = _batch_size(16 * (size + like_z.size))
    functions = target.log_joint, target.sample
    signs = np.random.default_rng(0).integers(0, 2, (num, *like_z.shape))
    directions = (2 * signs - 1).astype(like_z.dtype)

    def draw(key: jax.Array) -> Draws:
        return Draws(*(a[None] for a in _draw_joint(key, directions, functions)))

    def witnesses(row: int) -> Witnesses:
        x, z = _simulate(witness_key, target.sample, num=_NUM_WITNESSES)
        return Witnesses(target.log_joint, x, np.asarray(z))

    found, _ = identities.examine(
        *(draws_key, draw, witnesses, _OF_JOINT), num_draws=_NUM_DRAWS, seconds=_SECONDS
    )
    return found
