"""What is kept of each datum from visit to visit, for samplers that go on from it.

A latent is one of its x. So for a period of `restart_every` passes over the data a row is drawn
with a key that is a function of row and period alone, and with a new period all latents are begun
anew. A row that an epoch leaves out (what fills no batch) begins when it is next visited.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from aiwae_jax import checks
from aiwae_jax.train.state import Kept, TrainState, phase_names
from aiwae_jax.types import Method, Phase, PyTree


def is_persistent(phase: Phase) -> bool:
    """Whether the phase's sampler goes on from what is kept."""
    return phase.sampler.restart_every is not None


def restart_every(method: Method) -> int | None:
    """Passes over the data in a period; None for a method that keeps nothing.

    Raises:
      ValueError: for phases that would keep one datum for periods of different lengths.
    """
    found = {phase.sampler.restart_every for phase in method if is_persistent(phase)}
    if len(found) > 1:
        raise ValueError(
            "`method` must have one `restart_every` for all of its persistent samplers, whose data "
            f"are the same; got {', '.join(map(str, sorted(found)))}."
        )
    return next(iter(found), None)


def room_for(method: Method, state: TrainState, batch: PyTree) -> dict[str, Kept] | tuple:
    """What `TrainState.kept` is of a batch's data before their first visit."""
    num_rows, found = checks.num_rows("batch", batch), {}
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    phases = zip(phase_names(method), method, state.sampler_states, strict=True)
    for name, phase, sampler_state in phases:
        if is_persistent(phase):
            draw = phase.sampler.draw
            drawn, _ = jax.eval_shape(draw, jax.random.key(0), state.params, one, sampler_state)
            z = jnp.zeros((num_rows, *drawn.z.shape), drawn.z.dtype)
            found[name] = Kept(z, jnp.zeros(num_rows, bool))
    return found or ()


def check_batch(method: Method, kept: dict[str, Kept] | tuple, batch_size: int) -> None:
    """Refuses a state that does not have what a batch's persistent samplers go on from.

    Raises:
      ValueError: saying where it is to be had.
    """
    for name, phase in zip(phase_names(method), method, strict=True):
        if not is_persistent(phase):
            continue
        if name not in (kept or {}):
            raise ValueError(
                f"The sampler of {name} goes on from latents that are kept of each datum, and "
                "`state.kept` has none. `train.make_run_steps` keeps them by the rows of the data; "
                "a step by itself is given those of its batch, the first time "
                "`state._replace(kept=step.init_kept(state, batch))`."
            )
        if len(kept[name].is_begun) != batch_size:
            raise ValueError(
                f"`state.kept` must hold latents of the {batch_size} data of the batch, got those "
                f"of {len(kept[name].is_begun)} for {name}."
            )


def updated(kept: Kept, z: chex.Array, is_usable: chex.Array) -> Kept:
    """What is kept of a batch after a visit.

    Nothing new of data that are not usable `[B]`, for which others have stood in; and latents that
    are not finite are no place to go on from.
    """
    is_new = is_usable & jnp.all(jnp.isfinite(z), axis=(1, 2))
    return Kept(jnp.where(is_new[:, None, None], z, kept.z), kept.is_begun | is_new)


def init(train_step: Callable, state: TrainState, batch_fn: Callable, data: PyTree) -> PyTree:
    """What `TrainState.kept` is of all rows of `data`, before any of them has been visited."""

    def of_all(key, state, data):
        return train_step.init_kept(state, batch_fn(key, data))

    shapes = jax.eval_shape(of_all, jax.random.key(0), state, data)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def check_rows(state: TrainState, num_examples: int) -> None:
    """Refuses what is kept of another number of rows: JAX clamps indices.

    Raises:
      ValueError: naming the numbers.
    """
    found = {len(kept.is_begun) for kept in (state.kept or {}).values()}
    if found != {num_examples}:
        raise ValueError(
            f"`loop_state.train.kept` must hold latents of all {num_examples} rows of the data, "
            f"got {', '.join(map(str, sorted(found))) or 'none'}; begin with "
            "`train.init_loop_state` of these data."
        )


class Period(NamedTuple):
    """Passes over the data during which a row stays what it is.

    Attributes:
      key: of all its rows.
      is_start: `[]` bool, whether no step of it has been made.
    """

    key: chex.PRNGKey
    is_start: chex.Array


def period_of(
    key: chex.PRNGKey, step: chex.Array, *, num_passes: int, steps_per_epoch: int, first_epoch: int
) -> Period:
    """The period that the next step belongs to; the first one of a leg begins with it.

    Args:
      key: of the rows of all periods.
      step: `[]` steps of the leg before it.
      num_passes: over the data in a period.
      steps_per_epoch: steps in a pass.
      first_epoch: passes before the leg, whose rows were others.
    """
    since = step // steps_per_epoch % num_passes  # passes
    first_pass = first_epoch + step // steps_per_epoch - since
    is_start = (since == 0) & (step % steps_per_epoch == 0)
    return Period(jax.random.fold_in(key, first_pass), is_start)


def forget(state: TrainState, is_now: chex.Array) -> TrainState:
    """Lets all samplers begin anew if `is_now` `[]`."""
    kept = {n: k._replace(is_begun=k.is_begun & ~is_now) for n, k in state.kept.items()}
    return state._replace(kept=kept)


def draw_rows(key: chex.PRNGKey, batch_fn: Callable, raw: PyTree, indices: chex.Array) -> PyTree:
    """A batch `[B, ...]` whose every row is drawn by itself, by a key of its own index."""

    def draw(index, row):
        one = batch_fn(jax.random.fold_in(key, index), jax.tree.map(lambda a: a[None], row))
        return jax.tree.map(lambda a: a[0], one)

    return jax.vmap(draw)(indices, raw)


def visit(
    train_step: Callable,
    key: chex.PRNGKey,
    state: TrainState,
    batch: PyTree,
    indices: chex.Array,
    sharding: NamedSharding | None,
) -> tuple[TrainState, PyTree]:
    """A step on a batch with what is kept of its rows, from and to a state that has all rows."""
    kept = state.kept
    own = jax.tree.map(lambda a: a[indices], kept)
    if sharding is not None:
        own = jax.lax.with_sharding_constraint(own, sharding)
    state, info = train_step(key, state._replace(kept=own), batch)
    own = state.kept
    if sharding is not None:  # each device has all rows
        on_each_device = NamedSharding(sharding.mesh, PartitionSpec())
        own = jax.lax.with_sharding_constraint(own, on_each_device)
    return state._replace(kept=jax.tree.map(lambda a, b: a.at[indices].set(b), kept, own)), info
