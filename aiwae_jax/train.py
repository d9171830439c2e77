"""Training: one jitted step for any method, and epochs as loops on the device.

Nothing here knows a method by name: a method is a tuple of phases, and each phase draws particles,
differentiates its objective with respect to the parameters it moves, and applies their optimizers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from aiwae_jax import weights
from aiwae_jax.types import Method, Model, Params, Phase, PyTree

TrainInfo = dict[str, dict[str, chex.Array]]
Optimizers = Params  # of optax.GradientTransformation


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    Random keys are not part of it: each step folds its number into one root key.

    Attributes:
      step: `[]` int, steps done.
      params: the model's parameters.
      opt_states: `Params` of optimizer states.
      sampler_states: one state per phase (step sizes, say).
    """

    step: chex.Array
    params: Params
    opt_states: Params
    sampler_states: tuple[PyTree, ...]


def paper_epochs(num_stages: int) -> int:
    """Passes over the data in stages 0 .. num_stages-1 of 3^i epochs each: (3^n - 1) / 2."""
    return (3**num_stages - 1) // 2


def stage_ends(
    steps_per_epoch: int, num_stages: int = 8, *, epochs: float | None = None
) -> list[int]:
    """Steps done at the end of each stage.

    Args:
      steps_per_epoch: full batches in the data.
      num_stages: stages 0 .. num_stages-1 of 3^i epochs each.
      epochs: what all stages together are stretched or shortened to; by default nothing.
    """
    stretch = 1.0 if epochs is None else epochs / paper_epochs(num_stages)
    ends = [paper_epochs(i) * stretch * steps_per_epoch for i in range(1, num_stages + 1)]
    return [max(round(end), 1) for end in ends]


def paper_learning_rate(ends: Sequence[int]) -> optax.Schedule:
    """Learning rate 0.001 * 10^(-i/7) during stage i (supplement A).

    A stage's rate does not depend on the number of stages, so that a run can be extended.

    Args:
      ends: of the stages, in steps; from `stage_ends`.
    """
    rates = [0.001 * 10 ** (-i / 7) for i in range(len(ends))]
    return optax.join_schedules([optax.constant_schedule(rate) for rate in rates], ends[:-1])


def adam(learning_rate: optax.ScalarOrSchedule, *, eps: float = 1e-4) -> Optimizers:
    """The paper's optimizer, Adam(0.9, 0.999, eps 1e-4), separately for θ, φ and ψ."""
    return Params(*(optax.adam(learning_rate, b1=0.9, b2=0.999, eps=eps) for _ in Params._fields))


def init_state(
    key: chex.PRNGKey, model: Model, method: Method, optimizers: Optimizers
) -> TrainState:
    """Fresh parameters, optimizer states and sampler states."""
    model_key, psi_key = jax.random.split(key)
    params = model.init(model_key)
    psi = {}
    for i, phase in enumerate(method):
        psi |= phase.init_params(jax.random.fold_in(psi_key, i))
    if psi:
        params = params._replace(psi=psi)
    opt_states = Params(*(tx.init(p) for tx, p in zip(optimizers, params, strict=True)))
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_states=opt_states,
        sampler_states=tuple(phase.sampler.init() for phase in method),
    )
    # A weakly typed leaf would become a strong one in the first step, and compile the second anew.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)


def _phase_names(method: Method) -> list[str]:
    names = ["+".join(phase.updates) for phase in method]
    return [f"{i}:{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def all_finite(tree: PyTree) -> chex.Array:
    """Whether every element of every leaf is finite, `[]` bool."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _objective_and_info(
    keys: chex.PRNGKey, phase: Phase, params: Params, sampler_state: PyTree, batch: PyTree
) -> tuple[chex.Array, dict[str, chex.Array]]:
    """Sum of the phase's objective over a batch (one key per datum), and averaged diagnostics.

    A datum whose objective is not finite is counted and left out of the sum.
    """

    @partial(jax.vmap, out_axes=(0, 0, None), axis_name="batch")
    def draw_and_judge(key, x):
        particles, info = phase.sampler.draw(key, params, x, sampler_state, axis_name="batch")
        log_weights = particles.log_weights if phase.sampler.is_properly_weighted else ()
        return phase.objective.value(params, particles), log_weights, info

    values, log_weights, info = draw_and_judge(keys, batch)
    chex.assert_shape(values, keys.shape)
    is_finite = jnp.isfinite(values)
    total = jnp.sum(jnp.where(is_finite, values, 0.0))
    num_finite = jnp.maximum(jnp.sum(is_finite), 1).astype(total.dtype)
    info = dict(info, objective=total / num_finite, num_nonfinite_objective=jnp.sum(~is_finite))
    if phase.sampler.is_properly_weighted:
        bounds = jax.vmap(weights.log_mean_exp)(log_weights)
        info["log_likelihood_bound"] = jnp.mean(bounds)  # -inf if it is for one datum
        ess = jax.vmap(weights.effective_sample_size)(log_weights)
        info["effective_sample_size"] = jnp.mean(ess)
        info["num_zero_weight"] = jnp.sum(log_weights == -jnp.inf)
    return total, info


def make_train_step(
    method: Method, optimizers: Optimizers, *, loss_reduction: str = "mean"
) -> Callable[[chex.PRNGKey, TrainState, PyTree], tuple[TrainState, TrainInfo]]:
    """Compiles all phases of a method into one jitted train step.

    The phases run in order; each sees the parameters that the ones before it have already moved.

    Args:
      method: a tuple of phases.
      optimizers: `Params` of optax transformations.
      loss_reduction: "mean" or "sum" over the batch. Adam is nearly blind to the
        difference, but its eps is not.

    Returns:
      `step(key, state, batch) -> (state, info)`: `batch` is a pytree with leading axis B, `state`
      is donated, `info` maps the name of each phase to its diagnostics: the `objective` (mean over
      the data where it is finite; the others are counted in `num_nonfinite_objective`),
      `num_skipped_updates` (1 if a gradient was not finite and the phase moved nothing), the
      sampler's own info, and for properly weighted particles `log_likelihood_bound` (mean of the
      log mean weight, a lower bound of log p(x) in expectation), `effective_sample_size` and
      `num_zero_weight`.

    Raises:
      ValueError: for an unknown `loss_reduction`.
    """
    if loss_reduction not in ("mean", "sum"):
        raise ValueError(f"`loss_reduction` must be 'mean' or 'sum', got {loss_reduction!r}.")

    def run_phase(keys, phase, state, sampler_state, batch):
        params, opt_states = state.params, state.opt_states

        def loss_fn(moving):
            total, info = _objective_and_info(
                keys, phase, params._replace(**moving), sampler_state, batch
            )
            return -total / (len(keys) if loss_reduction == "mean" else 1.0), info

        moving = {name: getattr(params, name) for name in phase.updates}
        grads, info = jax.grad(loss_fn, has_aux=True)(moving)
        # A datum whose objective is not finite adds nothing to the loss, but differentiating its
        # infinity can still give 0 * inf. Such a step must not reach the parameters.
        is_finite = all_finite(grads)
        info = dict(info, num_skipped_updates=(~is_finite).astype(jnp.int32))
        for name, grad in grads.items():
            # optax's own arithmetic mixes dtypes, which a caller may have forbidden globally.
            with jax.numpy_dtype_promotion("standard"):
                updates, opt_state = getattr(optimizers, name).update(
                    grad, getattr(opt_states, name), moving[name]
                )
            moved = optax.apply_updates(moving[name], updates)
            keep = partial(jax.tree.map, lambda new, old: jnp.where(is_finite, new, old))
            params = params._replace(**{name: keep(moved, moving[name])})
            opt_states = opt_states._replace(**{name: keep(opt_state, getattr(opt_states, name))})
        return state._replace(params=params, opt_states=opt_states), info

    @partial(jax.jit, donate_argnums=1)
    def train_step(key, state, batch):
        info, sampler_states = {}, []
        batch_size = jax.tree.leaves(batch)[0].shape[0]
        keys = jax.random.split(key, (len(method), batch_size))
        for i, (name, phase) in enumerate(zip(_phase_names(method), method, strict=True)):
            sampler_state = state.sampler_states[i]
            state, info[name] = run_phase(keys[i], phase, state, sampler_state, batch)
            sampler_states.append(phase.sampler.adapt(sampler_state, info[name]))
        return state._replace(step=state.step + 1, sampler_states=tuple(sampler_states)), info

    return train_step


class LoopState(NamedTuple):
    """What a checkpoint holds.

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
    """Wraps a training state with totals of zero, shaped by tracing one step."""

    def one_step(key, state, data):
        batch = batch_fn(key, jax.tree.map(lambda a: a[:batch_size], data))
        return train_step(key, state, batch)[1]

    shapes = jax.eval_shape(one_step, jax.random.key(0), state, data)
    return LoopState(state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


def make_run_steps(
    train_step: Callable,
    batch_fn: Callable[[chex.PRNGKey, PyTree], PyTree],
    *,
    num_examples: int,
    batch_size: int,
    sharding: NamedSharding | None = None,
) -> Callable[[chex.PRNGKey, LoopState, PyTree, Any], LoopState]:
    """Builds a jitted loop over steps within one epoch, data and shuffling on the device.

    Every epoch is a fresh permutation of the data, cut into full batches. Deviation: the remainder
    that fills no batch is skipped (the authors keep a smaller last batch).

    The loop's length is a run-time value, so that the body is compiled once whatever the length of
    a chunk: where the host cuts an epoch into chunks does not change a single bit.

    Args:
      train_step: from `make_train_step`.
      batch_fn: `batch_fn(key, raw) -> batch`, applied at every use (binarization, say).
      num_examples: leading size N of the data.
      batch_size: B <= N.
      sharding: of each batch over devices (`sharding.over_data(mesh)`); data and states are then to
        be replicated on the same mesh, and stay so.

    Returns:
      `run_steps(key, loop_state, data, num_steps) -> loop_state`, with `loop_state` donated and
      `key` the root key of the whole training. `num_steps` must not cross the end of the epoch.

    Raises:
      ValueError: if `batch_size` is not in 1..N.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"`batch_size` must lie between 1 and the {num_examples} training examples, "
            f"got {batch_size}."
        )
    steps_per_epoch = num_examples // batch_size

    on_each_device = sharding and NamedSharding(sharding.mesh, PartitionSpec())

    @partial(jax.jit, donate_argnums=1, out_shardings=on_each_device)
    def run_steps(key, loop_state, data, num_steps):
        shuffle_key, step_key = jax.random.split(key)
        epoch = loop_state.train.step // steps_per_epoch
        order = jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), num_examples)

        def body(_, loop_state):
            state, totals = loop_state
            position = state.step % steps_per_epoch
            indices = jax.lax.dynamic_slice(order, [position * batch_size], [batch_size])
            batch_key, train_key = jax.random.split(jax.random.fold_in(step_key, state.step))
            raw = jax.tree.map(lambda a: a[indices], data)
            if sharding is not None:
                raw = jax.lax.with_sharding_constraint(raw, sharding)
            batch = batch_fn(batch_key, raw)
            state, info = train_step(train_key, state, batch)
            return LoopState(
                state, jax.tree.map(lambda t, i: jnp.where(position == 0, i, t + i), totals, info)
            )

        return jax.lax.fori_loop(0, num_steps, body, loop_state)

    return run_steps


def epoch_averages(totals: TrainInfo, num_steps: int) -> TrainInfo:
    """Averages over `num_steps` steps; counts (names starting with `num_`) stay sums."""
    return {
        phase: {
            name: value if name.startswith("num_") else np.asarray(value) / num_steps
            for name, value in info.items()
        }
        for phase, info in totals.items()
    }
