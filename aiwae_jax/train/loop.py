"""Epochs as loops on the device: shuffling, batches and steps in one compiled function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from aiwae_jax import checks
from aiwae_jax.train import persistence, watch, weighting
from aiwae_jax.train.state import TrainState, check_not_taken
from aiwae_jax.train.step import check_key
from aiwae_jax.train.watch import TrainInfo
from aiwae_jax.types import PyTree


class LoopState(NamedTuple):
    """Contents of a checkpoint.

    Attributes:
      train: the training state.
      totals: `TrainInfo` summed over the steps since the epoch began, so that an epoch's averages
        are exact even when it was interrupted.
    """

    train: TrainState
    totals: TrainInfo

    @property
    def num_steps(self) -> int:
        """Steps done; under a leading axis of repeats, by each of them."""
        return int(np.ravel(self.train.step)[0])


def init_loop_state(
    train_step: Callable, state: TrainState, batch_fn: Callable, data: PyTree, batch_size: int
) -> LoopState:
    """Wraps a training state with totals of zero, shaped by tracing one step.

    Where a sampler is persistent, the state gets room for what it keeps of each row of `data`.

    Raises:
      ValueError: if the arrays of `data` are of unequal length, or shorter than `batch_size`.
    """
    _check_batch_size(batch_size, checks.num_rows("data", data))

    is_persistent = _restart_every(train_step) is not None
    batch_fn = weighting.lifted(batch_fn)

    def one_step(key, state, data):
        batch = batch_fn(key, jax.tree.map(lambda a: a[:batch_size], data))
        if is_persistent:
            state = state._replace(kept=train_step.init_kept(state, batch))
        return train_step(key, state, batch)[1]

    shapes = jax.eval_shape(one_step, jax.random.key(0), state, data)
    if is_persistent:
        state = state._replace(kept=persistence.init(train_step, state, batch_fn, data))
    return LoopState(state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


def _restart_every(train_step: Callable) -> int | None:
    """As `TrainStep` has it; a step of one's own keeps nothing."""
    return getattr(train_step, "restart_every", None)


def _check_batch_size(batch_size: int, num_examples: int) -> None:
    if not 1 <= checks.integer("batch_size", batch_size) <= num_examples:
        raise ValueError(
            f"`batch_size` must lie between 1 and the {num_examples} training examples, "
            f"got {batch_size}."
        )


class Buffer(NamedTuple):
    """Rows of some steps of an epoch, where the others are elsewhere, in the order of the epoch.

    Attributes:
      rows: `[S B, X]`, with their weights if they have some.
      indices: `[S B]`, which rows of the data they are.
      first: `[]` the step of the epoch that they begin with.
    """

    rows: chex.Array
    indices: chex.Array
    first: chex.Array


def order_of(key: chex.PRNGKey, epoch: chex.Array, num_examples: int) -> chex.Array:
    """The order of the rows `[N]` in an epoch; `key` is the root key of the training."""
    shuffle_key, _ = jax.random.split(key)
    return jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), num_examples)


class RunSteps:
    """`run_steps(key, loop_state, data, num_steps) -> loop_state`, compiled; see `make_run_steps`.

    `lower`, `trace` and `eval_shape` are those of the compiled function. Under a caller's own
    transformations it is that function alone, which looks at no values and says nothing.
    """

    def __init__(
        self,
        run_fn: Callable,
        check_fn: Callable[[PyTree], None],
        *,
        steps_per_epoch: int,
        batch_size: int,
        start: int,
        out_shardings: NamedSharding | None,
    ):
        def watched(key, loop_state, data, num_steps):
            loop_state = run_fn(key, loop_state, data, num_steps)
            # Totals of their own: the loop state's are taken by the next call.
            totals = jax.tree.map(jnp.copy, loop_state.totals)
            steps_in_epoch = (loop_state.train.step - 1 - start) % steps_per_epoch + 1
            return loop_state, (watch.is_troubled(totals), totals, steps_in_epoch)

        self._run = jax.jit(run_fn, donate_argnums=1, out_shardings=out_shardings)
        self._watched = jax.jit(watched, donate_argnums=1, out_shardings=out_shardings)
        self._check_fn = check_fn
        self._steps_per_epoch, self._batch_size, self._start = steps_per_epoch, batch_size, start
        self._watch = watch.Watch()
        self._is_checked = False

    # Methods, and no attributes, which `functools.wraps` would hand on to what is not the same.
    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """As of `jax.jit`."""
        return self._run.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        """As of `jax.jit`."""
        return self._run.trace(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> PyTree:
        """As of `jax.jit`."""
        return self._run.eval_shape(*args, **kwargs)

    def __call__(
        self, key: chex.PRNGKey, loop_state: LoopState, data: PyTree, num_steps: Any
    ) -> LoopState:
        """Makes `num_steps` steps; see `make_run_steps`."""
        if not isinstance(loop_state, LoopState):
            raise TypeError(
                "`run_steps` is called with (key, loop_state, data, num_steps), `loop_state` from "
                f"`train.init_loop_state`; got {type(loop_state).__name__}."
            )
        if checks.is_traced((key, loop_state, data, num_steps)):
            return self._run(key, loop_state, data, num_steps)
        check_not_taken(loop_state.train)
        if not self._is_checked:
            self._check_fn(data)
            self._is_checked = True
        self._check_num_steps(loop_state, checks.integer("num_steps", num_steps))
        loop_state, report = self._watched(key, loop_state, data, num_steps)
        self._watch.follow(*report, num_data=self._batch_size)
        return loop_state

    def _check_num_steps(self, loop_state: LoopState, num_steps: int) -> None:
        if num_steps in (0, 1):
            return  # crosses no end, whatever the step, which need not be waited for
        left = self._steps_per_epoch - (loop_state.num_steps - self._start) % self._steps_per_epoch
        if not 0 < num_steps <= left:
            raise ValueError(
                f"`num_steps` must not cross the end of the epoch, which is {left} steps away; got "
                f"{num_steps}."
            )


def make_run_steps(
    train_step: Callable,
    batch_fn: Callable[[chex.PRNGKey, PyTree], PyTree],
    *,
    num_examples: int,
    batch_size: int,
    sharding: NamedSharding | None = None,
    start: int = 0,
    first_epoch: int = 0,
) -> RunSteps:
    """Builds a jitted loop over steps within one epoch, data and shuffling on the device.

    Every epoch is a fresh permutation of the data, cut into full batches. Deviation: the remainder
    that fills no batch is skipped (the authors keep a smaller last batch).

    The loop's length is a run-time value, so that the body is compiled once whatever the length of
    a chunk: where the host cuts an epoch into chunks does not change a single bit.

    For persistent samplers a row stays as it is for a period of passes, and what they keep of it is
    found and put back by its index. `batch_fn` is then called for each row by itself.

    What `make_train_step` says of donation, of the first batch and of warnings holds here too.

    Args:
      train_step: from `make_train_step`.
      batch_fn: `batch_fn(key, raw) -> batch`, applied at every use (binarization, say).
      num_examples: leading size N of the data.
      batch_size: B <= N.
      sharding: of each batch over devices (`sharding.over_data(mesh)`); data and states are then to
        be replicated on the same mesh, and stay so.
      start: steps that were done before these, in batches of another size, say; an epoch begins
        here.
      first_epoch: passes over the data that were begun before; each has an order of its own.

    Returns:
      `run_steps(key, loop_state, data, num_steps) -> loop_state`, with `loop_state` donated and
      `key` the root key of the whole training. `num_steps` must not cross the end of the epoch.
      `data` may be `train.weighted(rows, weights)`; `batch_fn` sees the rows alone.

    Raises:
      ValueError: if `batch_size` is not in 1..N. `run_steps` raises it where an array of `data`
        has not N rows, for steps that cross the end of the epoch, and as the train step does.
    """
    _check_batch_size(batch_size, num_examples)
    steps_per_epoch = num_examples // batch_size
    restart_every = _restart_every(train_step)
    batch_fn = weighting.lifted(batch_fn)

    def run_steps(key, loop_state, data, num_steps):
        check_key(key)
        is_part = isinstance(data, Buffer)
        num_rows = num_examples if is_part else checks.num_rows("data", data)
        if num_rows != num_examples:
            raise ValueError(
                f"`data` must have `num_examples`={num_examples} rows, got {num_rows}."
            )
        _, step_key = jax.random.split(key)
        if restart_every is not None:
            persistence.check_rows(loop_state.train, num_examples)
            step_key, rows_key = jax.random.split(step_key)
            period = persistence.period_of(
                rows_key,
                loop_state.train.step - start,
                num_passes=restart_every,
                steps_per_epoch=steps_per_epoch,
                first_epoch=first_epoch,
            )
            at_start = persistence.forget(loop_state.train, period.is_start)
            loop_state = loop_state._replace(train=at_start)
        if is_part:
            order = jnp.arange(len(data.indices))
        else:
            epoch = first_epoch + (loop_state.train.step - start) // steps_per_epoch
            order = order_of(key, epoch, num_examples)

        def body(_, loop_state):
            state, totals = loop_state
            position = (state.step - start) % steps_per_epoch
            place = position - (data.first if is_part else 0)
            indices = jax.lax.dynamic_slice(order, [place * batch_size], [batch_size])
            batch_key, train_key = jax.random.split(jax.random.fold_in(step_key, state.step))
            raw = jax.tree.map(lambda a: a[indices], data.rows if is_part else data)
            if is_part:
                indices = data.indices[indices]
            if sharding is not None:
                raw = jax.lax.with_sharding_constraint(raw, sharding)
            if restart_every is None:
                state, info = train_step(train_key, state, batch_fn(batch_key, raw))
            else:
                batch = persistence.draw_rows(period.key, batch_fn, raw, indices)
                state, info = persistence.visit(
                    train_step, train_key, state, batch, indices, sharding
                )
            return LoopState(
                state, jax.tree.map(lambda t, i: jnp.where(position == 0, i, t + i), totals, info)
            )

        return jax.lax.fori_loop(0, num_steps, body, loop_state)

    def check_data(data):
        """Checks all weights, and what is made of the raw data, which the likelihood is of."""
        weighting.check(data)
        if getattr(train_step, "has_check", False):
            raw = jax.tree.map(lambda a: a[:batch_size], data)
            train_step.check_batch(jax.jit(batch_fn)(jax.random.key(0), raw))

    return RunSteps(
        run_steps,
        check_data,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        start=start,
        out_shardings=sharding and NamedSharding(sharding.mesh, PartitionSpec()),
    )


def epoch_averages(totals: TrainInfo, num_steps: int) -> TrainInfo:
    """Divides by `num_steps` what is an average; counts stay sums."""
    return {
        phase: info.reduced(lambda sums: np.asarray(sums) / num_steps, lambda sums: sums)
        for phase, info in totals.items()
    }
