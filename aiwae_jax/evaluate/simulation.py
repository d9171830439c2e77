"""Data simulated from the model, and what bounds by them ask of `sample_fn` before they begin."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate import doors
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.types import PyTree

SampleFn = Callable[[chex.PRNGKey], tuple[PyTree, chex.Array]]


def simulate(key: chex.PRNGKey, sample_fn: SampleFn, num_data: int) -> tuple[PyTree, np.ndarray]:
    """`num_data` draws of `sample_fn(key) -> (x, z)`, stacked.

    Raises:
      TypeError: for arguments of another kind, draws that are no such pair, or under a caller's
        jit.
      ValueError: for latents that are no vectors, draws that are not finite, or a `sample_fn` that
        ignores its key.
    """
    doors.on_host(key, sample_fn)
    checks.key(key)
    num_data = checks.integer("num_data", num_data, least=1)
    _look_at_sample(sample_fn)
    with jax.default_matmul_precision("highest"):
        x, z = jax.jit(jax.vmap(sample_fn))(jax.random.split(key, num_data))
    x, z = jax.tree.map(np.asarray, x), np.asarray(z)
    for name, leaf in (("x", x), ("z", z)):
        floats = [a for a in jax.tree.leaves(leaf) if jnp.issubdtype(a.dtype, jnp.floating)]
        if any(np.isinf(a).any() or (name == "z" and np.isnan(a).any()) for a in floats):
            raise ValueError(f"`sample_fn` draws {name} that are not finite.")
    is_continuous = (z != np.round(z)).any()
    if num_data > 1 and z.size and is_continuous and (z == z[0]).all():
        raise ValueError(
            f"`sample_fn` ignores its key: all of its {num_data} draws have the same z."
        )
    return x, z


def _look_at_sample(sample_fn: SampleFn) -> tuple[PyTree, jax.ShapeDtypeStruct]:
    """The shapes of one draw (x, z); raises for what is none."""
    checks.function("sample_fn", sample_fn, "`key -> (x, z)`")
    doors.check_functions(sample_fn=sample_fn)
    drawn = checks.shape_of("sample_fn", sample_fn, jax.random.key(0), given="a key")
    if not (isinstance(drawn, tuple | list) and len(drawn) == 2):
        raise TypeError(
            f"`sample_fn` must return a pair (x, z), got {checks.describe(drawn)}; of a model that "
            "is `lambda key: model.sample(key, theta, None)`."
        )
    x, z = drawn
    if not jax.tree.leaves(x):
        raise TypeError(f"`sample_fn` must return a pair (x, z), got no array as x: {x!r}.")
    checks.position(z, "z of `sample_fn`")
    return x, z


def enter(log_joint_fn, initial, sample_fn, settings, num_data, x=None, **options) -> Settings:
    """The door of bounds from both sides: as `doors.enter`, and what `sample_fn` draws fits.

    Raises:
      TypeError: as `doors.enter` and `simulate`.
      ValueError: as these; for fewer than two data; for weights that bound nothing.
    """
    doors.on_host(options["keys"], sample_fn, x)
    like_x, like_z = _look_at_sample(sample_fn)
    if checks.integer("num_data", num_data) < 2:
        raise ValueError(f"`num_data` must be at least 2 for a standard error, got {num_data}.")
    checks.key(options["keys"][0])
    drawn, _ = simulate(options["keys"][0], sample_fn, 2)
    settings = doors.enter(
        *(log_joint_fn, initial, drawn, settings),
        origin=", as `sample_fn` draws it",
        is_reversed=True,
        is_first=True,
        **options,
    )
    if settings.adapt != "pilot":
        raise ValueError(
            "`adapt='paper'` biases the weights, so that they bound nothing; use 'pilot'."
        )
    latent = doors.look_at_initial(initial, jax.tree.map(lambda a: a[0], drawn)).latent
    if latent.shape != like_z.shape:
        raise ValueError(
            f"`sample_fn` draws z of shape {list(like_z.shape)} and `initial` of "
            f"{list(latent.shape)}; both must be the z of `log_joint_fn(x, z)`."
        )
    if x is not None:
        checks.num_rows("x", x)
        theirs = jax.tree.map(lambda a: list(np.shape(a)[1:]), x)
        ours = jax.tree.map(lambda a: list(a.shape), like_x)
        if theirs != ours:
            raise ValueError(
                f"`x` has data of shape {theirs}, and `sample_fn` draws data of shape {ours}."
            )
    return settings
