"""The train step: one compiled function for any method.

Nothing here knows a method by name: a method is a tuple of phases, and each phase draws particles,
differentiates its objective with respect to the parameters it moves, and applies their optimizers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aiwae_jax import checks, objectives, support, weights
from aiwae_jax.train import persistence, watch, weighting
from aiwae_jax.train.blocks import Blocks
from aiwae_jax.train.optimizers import Optimizers
from aiwae_jax.train.state import Kept, TrainState, check_not_taken, check_parts, phase_names
from aiwae_jax.train.watch import TrainInfo
from aiwae_jax.types import Info, Method, Params, Phase, PyTree

_STAND_IN = 0.5  # where no datum is finite; without weight


def all_finite(tree: PyTree) -> chex.Array:
    """Whether every element of every leaf is finite, `[]` bool."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def finite_rows(batch: PyTree) -> chex.Array:
    """Tells which data of a batch are finite in all of their leaves, `[B]` bool."""
    is_finite = jnp.ones(checks.num_rows("batch", batch), bool)
    for leaf in jax.tree.leaves(batch):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            is_finite &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
    return is_finite


def _harmless(batch: PyTree, is_usable: chex.Array, *, with_nonfinite_data: bool) -> PyTree:
    """Rows that are not usable `[B]` replaced by a copy of the first one that is.

    A weight of zero does not stop NaN and infinities in the backward pass, and step sizes should
    follow chains of real data. Where no row is finite, a constant stands in.
    """
    first = jnp.argmax(is_usable)

    def replace(leaf):
        shape = (-1,) + (1,) * (leaf.ndim - 1)
        leaf = jnp.where(is_usable.reshape(shape), leaf, leaf[first])
        if with_nonfinite_data or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return jnp.where(jnp.isfinite(leaf), leaf, _STAND_IN)

    return jax.tree.map(replace, batch)


def _objective_and_info(
    keys: chex.PRNGKey,
    phase: Phase,
    params: Params,
    sampler_state: PyTree,
    batch: PyTree,
    row_weights: chex.Array | None,
    is_usable: chex.Array,
    kept: Kept | None,
    kl_weight: chex.Array | None,
) -> tuple[chex.Array, tuple[Info, Kept | None]]:
    """Sum of the phase's objective over a batch (one key per datum), and averaged diagnostics.

    A datum that is not usable `[B]`, or whose objective is not finite, is counted and left out of
    the sum; one of weight zero adds 0 to it without a word. With the diagnostics comes what a
    persistent sampler keeps of the data.
    """
    has_proper_weights = "proper_weights" in phase.sampler.gives
    value_fn = objectives.value_fn(phase.objective, kl_weight)

    # A value for each datum; the sampler reduces its diagnostics over the batch.
    @partial(jax.vmap, out_axes=(0, 0, None, 0), axis_name="batch")
    def draw_and_judge(key, x, kept):
        given = {} if kept is None else {"kept": kept}
        particles, info = phase.sampler.draw(
            key, params, x, sampler_state, axis_name="batch", **given
        )
        if not isinstance(info, Info):
            raise TypeError(
                "`draw` of a sampler must return (Particles, types.Info), got diagnostics of type "
                f"{type(info).__name__}; write `Info(rates={{...}}, counts={{...}})`."
            )
        log_weights = particles.log_weights if has_proper_weights else ()
        z = None if kept is None else jax.lax.stop_gradient(particles.z)
        return value_fn(params, particles), log_weights, info, z

    values, log_weights, info, z = draw_and_judge(keys, batch, kept)
    chex.assert_shape(values, keys.shape)

    # The sum, over what is finite.
    is_counted = is_usable & jnp.isfinite(values)
    total, num_counted = weighting.total(values, is_counted, row_weights)
    # NaN where there is no datum to average: not 0, which an epoch's average would take for one.
    rates = {"objective": total / num_counted}
    is_lost = ~is_counted if row_weights is None else ~is_counted & (row_weights > 0.0)
    counts = {"num_nonfinite_objective": jnp.sum(is_lost)}

    # Estimates of log p(x), where the weights are.
    if has_proper_weights:
        bounds = jax.vmap(weights.log_mean_exp)(log_weights)
        if row_weights is not None:
            bounds = jnp.where(is_usable, row_weights * bounds, 0.0)
        # -inf if it is for one datum
        is_in_mean = weighting.in_mean(is_usable, row_weights)
        rates["log_likelihood_bound"] = jnp.mean(bounds, where=is_in_mean)
        ess = jax.vmap(weights.effective_sample_size)(log_weights)
        rates["effective_sample_size"] = jnp.mean(ess, where=is_usable)
        counts["num_zero_weight"] = jnp.sum((log_weights == -jnp.inf) & is_usable[:, None])
    if kept is not None:
        kept = persistence.updated(kept, z, is_usable)
    return total, (info.with_more(rates, counts), kept)


def check_key(key: chex.PRNGKey) -> None:
    """Refuses what is not one random key; tracers have types, too."""
    is_key = jnp.issubdtype(getattr(key, "dtype", np.dtype(object)), jax.dtypes.prng_key)
    if not is_key or np.shape(key):
        found = f"{getattr(key, 'dtype', type(key).__name__)} of shape {list(np.shape(key))}"
        raise TypeError(
            f"`key` must be one random key, as `jax.random.key(0)` makes it; got {found}."
        )


def has_kl(method: Method) -> bool:
    """Whether a phase climbs an ELBO whose KL can be weighed."""
    return any(phase.objective.value_at is not None for phase in method)


class TrainStep:
    """`step(key, state, batch) -> (state, info)`, compiled; made by `make_train_step`.

    `lower`, `trace` and `eval_shape` are those of the compiled function. Under a caller's own
    transformations it is that function alone, which looks at no values and says nothing.
    """

    def __init__(self, step_fn: Callable, method: Method, *, with_nonfinite_data: bool = False):
        def watched(key, state, batch):
            state, info = step_fn(key, state, batch)
            return state, info, watch.is_troubled(info)

        self._step = jax.jit(step_fn, donate_argnums=1)
        self._watched = jax.jit(watched, donate_argnums=1)
        self._method = method
        self._check_fns = {phase.sampler.check_data for phase in method} - {None}
        self._with_nonfinite_data = with_nonfinite_data
        self._watch = watch.Watch()
        self._is_checked = False

    # Methods, and no attributes, which `functools.wraps` would hand on to what is not the same.
    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """As of `jax.jit`."""
        return self._step.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        """As of `jax.jit`."""
        return self._step.trace(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> PyTree:
        """As of `jax.jit`."""
        return self._step.eval_shape(*args, **kwargs)

    def __call__(
        self, key: chex.PRNGKey, state: TrainState, batch: PyTree
    ) -> tuple[TrainState, TrainInfo]:
        """Makes one step; see `make_train_step`."""
        if not isinstance(state, TrainState):
            raise TypeError(
                "A step is called with (key, state, batch), `state` from `train.init_state`; got "
                f"{type(state).__name__}."
            )
        leaves = jax.tree.leaves(batch)
        if checks.is_traced((key, state, batch)):
            return self._step(key, state, batch)
        check_not_taken(state)
        if not self._is_checked:
            self.check_batch(batch)
            self._is_checked = True
        state, info, has_trouble = self._watched(key, state, batch)
        self._watch.follow(has_trouble, info, num_data=len(leaves[0]))
        return state, info

    @property
    def restart_every(self) -> int | None:
        """Passes over the data in a period of its persistent samplers; None where it has none."""
        return persistence.restart_every(self._method)

    def init_kept(self, state: TrainState, batch: PyTree) -> dict[str, Kept] | tuple:
        """What `TrainState.kept` is of the data of a batch before their first visit.

        Empty for a method without a persistent sampler.
        """
        return persistence.room_for(self._method, state, weighting.parts(batch)[0])

    @property
    def has_check(self) -> bool:
        """Whether the model has said what its data must be."""
        return bool(self._check_fns)

    def check_batch(self, batch: PyTree) -> None:
        """Refuses a batch that the model's likelihood is not of, see `Model.check_data`.

        Some data that are not finite are let through: a step leaves them out and says so.

        Raises:
          ValueError: as `Model.check_data` does, or for leaves of unequal length or none.
        """
        checks.num_rows("batch", batch)
        weighting.check(batch)
        batch, _ = weighting.parts(batch)
        if self.has_check and support.is_concrete(batch):
            batch = jax.tree.map(np.asarray, batch)
            if not self._with_nonfinite_data:
                rows = np.asarray(finite_rows(batch))
                if len(rows) > 1 and not rows.any():
                    support.check_finite(batch, name="batch")
                batch = jax.tree.map(lambda leaf: leaf[rows], batch)
            for check_fn in self._check_fns:
                check_fn(batch, name="batch")


def make_train_step(
    method: Method,
    optimizers: Optimizers,
    *,
    loss_reduction: str = "mean",
    with_nonfinite_data: bool = False,
    kl_weight: Callable[[chex.Array], chex.Array] | None = None,
    blocks: Blocks | None = None,
) -> TrainStep:
    """Compiles all phases of a method into one jitted train step.

    The phases run in order; each sees the parameters that the ones before it have already moved.

    A step *donates* its state: the memory of the arrays that go in is taken for those that come
    out, and JAX deletes the former. Keep a copy of what is wanted later,
    `best = jax.tree.map(jnp.copy, state.params)`, and put a copy of what is yours into a state,
    `state._replace(params=jax.tree.map(jnp.copy, pretrained))`.

    The first batch is looked at on the host: whether the model's likelihood is of such data
    (`Model.check_data`). Later ones are not. What goes wrong is counted in every step, and said
    once by `warnings.warn` when a later call finds the step finished; nothing waits for that.

    Args:
      method: a tuple of phases.
      optimizers: `Params` of optax transformations.
      loss_reduction: "mean" or "sum" over the batch. Adam is nearly blind to the
        difference, but its eps is not.
      with_nonfinite_data: whether NaN and infinities in the data are the model's business (NaN for
        a missing value, say). By default such a datum is left out: it counts in
        `num_nonfinite_objective`, and the others of its batch train, each with the weight that it
        has in a full batch.
      kl_weight: `kl_weight(step) -> []` in [0, 1], a warm-up of the KL in the ELBOs among the
        objectives, see `Objective.value_at`; `info` has the objective that was climbed.
      blocks: for the same bits on any number of devices, see `train.Blocks`.

    A batch may be `train.Weighted`: rows with a weight each, of mean 1 over all training data. Then
    every phase climbs the mean of weight times objective, and a row of weight zero, for which
    another one stands in, is worth nothing whatever it holds. Acceptance, step sizes and sample
    sizes are of chains, and are not weighted.

    A persistent sampler goes on from what is in `state.kept` of the batch's data, and leaves there
    what is to be kept of them.

    Returns:
      `step(key, state, batch) -> (state, info)`: `batch` is a pytree with leading axis B, `state`
      is donated, `info` maps the name of each phase to its `types.Info`: the `objective` (mean over
      the data where it is finite, times their weights if they have some, those of weight zero among
      them; the others are counted in `num_nonfinite_objective`),
      `num_skipped_updates` (1 if a gradient was not finite, or no datum was left, and the phase
      moved nothing), the sampler's own, and for properly weighted particles `log_likelihood_bound`
      (mean of the log mean weight, a lower bound of log p(x) in expectation),
      `effective_sample_size` and `num_zero_weight`.

    Raises:
      ValueError: for an unknown `loss_reduction`, no phases, persistent samplers of different
        periods, or a `kl_weight` where no phase climbs an ELBO. The step raises it for arrays of
        unequal length in a batch, an empty batch, data outside the likelihood's support, and a
        `state.kept` that is not of the batch.
      TypeError: if `method` is no tuple of phases, or `optimizers` not `Params` of transformations.
    """
    check_parts(method, optimizers)
    persistence.restart_every(method)
    if loss_reduction not in ("mean", "sum"):
        raise ValueError(f"`loss_reduction` must be 'mean' or 'sum', got {loss_reduction!r}.")
    if kl_weight is not None and not has_kl(method):
        raise ValueError(
            "`kl_weight` weighs the KL of an ELBO, and no phase of `method` climbs one; leave it "
            "out."
        )

    def run_phase(keys, phase, state, sampler_state, batch, row_weights, is_usable, kept):
        params, opt_states = state.params, state.opt_states
        weight = None if kl_weight is None else kl_weight(state.step)

        # The gradient with respect to what this phase moves.
        def grad_of_rows(given, rows):
            def loss_fn(moving):
                params, sampler_state, weight = given
                total, found = _objective_and_info(
                    *(rows[0], phase, params._replace(**moving), sampler_state),
                    *(*rows[1:], weight),
                )
                return -total / (len(keys) if loss_reduction == "mean" else 1.0), found

            moving = {name: getattr(given[0], name) for name in phase.updates}
            return jax.grad(loss_fn, has_aux=True)(moving)

        moving = {name: getattr(params, name) for name in phase.updates}
        grad_fn = grad_of_rows if blocks is None else blocks.in_order(grad_of_rows, state.step)
        grads, (info, kept) = grad_fn(
            (params, sampler_state, weight), (keys, batch, row_weights, is_usable, kept)
        )

        # A datum whose objective is not finite adds nothing to the loss, but differentiating its
        # infinity can still give 0 * inf. Such a step must not reach the parameters; nor must one
        # without any datum, which an optimizer with momentum would make all the same.
        num_there = len(keys) if row_weights is None else jnp.sum(row_weights > 0.0)
        is_finite = all_finite(grads) & (info.counts["num_nonfinite_objective"] < num_there)
        info = info.with_more({}, {"num_skipped_updates": (~is_finite).astype(jnp.int32)})

        # Each optimizer's step, or none.
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
        return state._replace(params=params, opt_states=opt_states), info, kept

    def train_step(key, state, batch):
        check_key(key)
        info, sampler_states, kept = {}, [], {}
        batch_size = checks.num_rows("batch", batch)
        if blocks is not None:
            blocks.check(batch_size)
        persistence.check_batch(method, state.kept, batch_size)
        batch, row_weights = weighting.parts(batch)
        is_usable = jnp.ones(batch_size, bool)
        if not with_nonfinite_data:
            is_usable = finite_rows(batch)
        if row_weights is not None:
            is_usable &= row_weights > 0.0
        if not with_nonfinite_data or row_weights is not None:
            batch = _harmless(batch, is_usable, with_nonfinite_data=with_nonfinite_data)
        keys = jax.random.split(key, (len(method), batch_size))
        for i, (name, phase) in enumerate(zip(phase_names(method), method, strict=True)):
            sampler_state = state.sampler_states[i]
            last = state.kept[name] if persistence.is_persistent(phase) else None
            state, info[name], last = run_phase(
                *(keys[i], phase, state, sampler_state, batch, row_weights, is_usable, last)
            )
            if last is not None:
                kept[name] = last
            sampler_states.append(phase.sampler.adapt(sampler_state, info[name]))
        state = state._replace(
            step=state.step + 1, sampler_states=tuple(sampler_states), kept=kept or state.kept
        )
        return state, info

    return TrainStep(train_step, method, with_nonfinite_data=with_nonfinite_data)
