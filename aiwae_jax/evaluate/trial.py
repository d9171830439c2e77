"""A few draws and evaluations before a long run: what no shape tells of functions and data."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, distributions, moves, support
from aiwae_jax.evaluate import chunks
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.parallel import processes
from aiwae_jax.types import PyTree

_NUM_TRIED = 4  # data, and draws of each
_MOST_WITNESSES = 4  # data whose values a Bernoulli likelihood is shown


@partial(jax.jit, static_argnames="chain_space")
def _draw(key, x, functions, *, chain_space):
    """Draws of `start`, their log probabilities and log joints, each `[rows, draws, ...]`."""
    log_joint, start = functions

    def draw(key, x):
        q = start(x)
        z = q.sample(key)
        if chain_space == "base":
            z, log_det = q.transport(jax.random.normal(key, z.shape, z.dtype))
            log_prob = -log_det
        else:
            log_prob = q.log_prob(z)
        return z, log_prob, log_joint(x, z)

    keys = jax.random.split(key, (jax.tree.leaves(x)[0].shape[0], _NUM_TRIED))
    return jax.vmap(jax.vmap(draw, in_axes=(0, None)))(keys, x)


def check_draws(target: Target, x: PyTree, settings: Settings) -> None:
    """Raises ValueError where nothing that `start` draws can be the start of a chain."""
    num_data = len(jax.tree.leaves(x)[0])
    rows = np.unique(np.linspace(0, num_data - 1, min(num_data, _NUM_TRIED)).astype(np.int32))
    place = chunks.Placement(len(rows))
    key, functions = place.replicate((jax.random.key(0), target.functions))
    tried = place.split(chunks.select(x, rows))
    with jax.default_matmul_precision("highest"):
        found = _draw(key, tried, functions, chain_space=settings.chain_space)
    z, log_prob, log_joint = (a[: len(rows)] for a in processes.fetch(found))
    where = f"in all of {log_prob.size} draws for {len(rows)} data (rows {rows.tolist()})"
    if not np.isfinite(z).all(axis=-1).any():
        raise ValueError(
            f"`start` draws z that are not finite {where}; is there a NaN in `x`, or a scale NaN?"
        )
    if not np.isfinite(log_prob).any():
        raise ValueError(
            f"`start` gives its own draws no finite log probability {where}; is a scale 0 or NaN?"
        )
    if (np.isnan(log_joint) | (log_joint == np.inf)).all():
        raise ValueError(
            f"`log_joint` is NaN or +inf {where}; is there a NaN in `x` or in its parameters?"
        )
    _check_values(z, settings.move)


def _check_values(z: np.ndarray, move: str) -> None:
    """Raises ValueError for draws that the move cannot move."""
    is_bit = (z == 0) | (z == 1)
    latents = moves.MOVES[move].latents
    if latents == "binary" and not is_bit.all():
        raise ValueError(
            f"`move`={move!r} flips bits 0 and 1, and `start` draws {z[~is_bit][0]:g}; turn "
            "spins into bits by (z + 1) / 2, in `start` and in `log_joint`."
        )
    if latents == "continuous" and (z == np.round(z)).all():
        raise ValueError(
            f"`start` draws whole numbers only ({', '.join(f'{v:g}' for v in np.unique(z)[:4])}),"
            f" and `move`={move!r} moves continuous latents; for bits use "
            "`evaluate.BINARY_SETTINGS`, and give what `start` returns the attribute "
            "`latents = 'binary'`."
        )


def check_support(target: Target, x: PyTree, latent: jax.ShapeDtypeStruct) -> None:
    """Raises ValueError for data that a Bernoulli likelihood in `log_joint` is none of.

    Only what `distributions.Bernoulli` is asked of is known. It is shown data that have all values
    which are neither 0 nor 1, as far as a few data can; where there are none, nothing is run.
    """
    rows = _witnesses(x)
    if not len(rows):
        return
    leaves = jax.tree_util.tree_flatten_with_path(x)[0]
    zeros = jnp.zeros(latent.shape, latent.dtype)

    def asked_of(call: Callable) -> list:
        # A function that is jitted inside may be compiled already, and would not ask again.
        with jax.disable_jit(), distributions.watch_bernoulli() as values:
            try:
                call()
            except Exception:
                return []  # not known, for some functions cannot be run one operation at a time
        return values

    if not asked_of(
        lambda: jax.make_jaxpr(lambda x, z: target.log_joint(x, z))(chunks.first(x), zeros)
    ):
        return
    for row in rows:
        datum = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[row]), x)  # noqa: B023
        for value in asked_of(lambda: target.log_joint(datum, zeros)):  # noqa: B023
            if checks.is_traced(value) or np.isin(value, (0, 1)).all():
                continue
            for path, leaf in leaves:  # all data say more than one
                if np.shape(leaf)[1:] == np.shape(value):
                    support.check_binary(leaf, name="x" + jax.tree_util.keystr(path))
            support.check_binary(value, name="x")


def _witnesses(x: PyTree) -> list[int]:
    """Data that hold, together, values neither 0 nor 1 at the places where any datum does."""
    odd = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    odd = np.concatenate([((a != 0) & (a != 1)).reshape(len(a), -1) for a in odd], axis=1)
    rows: list[int] = []
    while len(rows) < _MOST_WITNESSES and odd.any():
        rows.append(int(odd.sum(axis=1).argmax()))
        odd = odd[:, ~odd[rows[-1]]]
    return rows
