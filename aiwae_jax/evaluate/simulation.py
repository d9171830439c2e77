"""Data simulated from the model, and what bounds by them ask of `sample` before they begin."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import calls, chunks, compiling, doors
from aiwae_jax.evaluate.calls import Work
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.evaluate.target import SampleFn, Target
from aiwae_jax.types import PyTree


@calls.of_target
def simulate(key: chex.PRNGKey, target: Target, num_data: int) -> tuple[PyTree, np.ndarray]:
    """Draws `num_data` times from `target.sample`: x with leading axis N, and z `[N, D]`.

    Raises:
      TypeError: for arguments of another kind, draws that are no such pair, or under a caller's
        jit.
      ValueError: for latents that are no vectors, draws that are not finite, or a `sample` that
        ignores its key.
    """
    checks.key(key)
    num_data = checks.integer("num_data", num_data, least=1)
    look_at_sample(target.sample)
    return draws(key, target.sample, num_data)


def draws(key: chex.PRNGKey, sample: SampleFn, num_data: int) -> tuple[PyTree, np.ndarray]:
    """`simulate` behind its door."""
    with jax.default_matmul_precision("highest"):
        x, z = _draws(sample, jax.random.split(key, num_data))
    x, z = jax.tree.map(np.asarray, x), np.asarray(z)
    for name, leaf in (("x", x), ("z", z)):
        floats = [a for a in jax.tree.leaves(leaf) if jnp.issubdtype(a.dtype, jnp.floating)]
        if any(np.isinf(a).any() or (name == "z" and np.isnan(a).any()) for a in floats):
            raise ValueError(f"`sample` draws {name} that are not finite.")
    is_continuous = (z != np.round(z)).any()
    if num_data > 1 and z.size and is_continuous and (z == z[0]).all():
        raise ValueError(f"`sample` ignores its key: all of its {num_data} draws have the same z.")
    return x, z


@compiling.jit()
def _draws(sample: SampleFn, keys: chex.PRNGKey) -> tuple[PyTree, chex.Array]:
    # The compiled program; `sample` is a `Partial`, whose arrays are arguments of it.
    return jax.vmap(sample)(keys)


def look_at_sample(sample: SampleFn | None) -> tuple[PyTree, jax.ShapeDtypeStruct]:
    """Finds the shapes of one draw (x, z); raises for what is none."""
    checks.function("sample", sample, "`key -> (x, z)`")
    drawn = checks.shape_of("sample", sample, jax.random.key(0), given="a key")
    if not (isinstance(drawn, tuple | list) and len(drawn) == 2):
        raise TypeError(
            f"`sample` must return a pair (x, z), got {checks.describe(drawn)}; of a model that "
            "is `lambda key: model.sample(key, theta, None)`."
        )
    x, z = drawn
    if not jax.tree.leaves(x):
        raise TypeError(f"`sample` must return a pair (x, z), got no array as x: {x!r}.")
    checks.position(z, "z of `sample`")
    return x, z


def enter(
    key: Any,
    target: Target,
    settings: Settings,
    num_data: int,
    x: PyTree | None = None,
    **options: Any,
) -> Work:
    """Checks the arguments of bounds from both sides: as `doors.enter`, and that `sample` fits.

    Raises:
      TypeError: as `doors.enter` and `simulate`.
      ValueError: as these; for fewer than two data; for weights that bound nothing.
    """
    like_x, like_z = look_at_sample(target.sample)
    checks.integer("num_data", num_data, least=2)  # for a standard error
    checks.key(key)
    drawn, _ = draws(key, target.sample, 2)
    work = doors.enter(
        *(target, drawn, settings),
        key=key,
        origin=", as `sample` draws it",
        is_reversed=True,
        is_first=True,
        **options,
    )
    if settings.adapt != "pilot":
        raise ValueError(
            "`adapt='paper'` biases the weights, so that they bound nothing; use 'pilot'."
        )
    latent = doors.look_at_start(target.start, chunks.first(drawn)).latent
    if latent.shape != like_z.shape:
        raise ValueError(
            f"`sample` draws z of shape {list(like_z.shape)} and `start` of "
            f"{list(latent.shape)}; both must be the z of `log_joint(x, z)`."
        )
    if x is not None:
        checks.num_rows("x", x)
        theirs = jax.tree.map(lambda a: list(np.shape(a)[1:]), x)
        ours = jax.tree.map(lambda a: list(a.shape), like_x)
        if theirs != ours:
            raise ValueError(
                f"`x` has data of shape {theirs}, and `sample` draws data of shape {ours}."
            )
    return work
