"""From a method, a model and data to the compiled pieces of a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aiwae_jax import data
from aiwae_jax.parallel import sharding
from aiwae_jax.recipe import Recipe
from aiwae_jax.train import optimizers as rates
from aiwae_jax.train.loop import LoopState, init_loop_state, make_run_steps
from aiwae_jax.train.optimizers import Optimizers
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.step import check_method, init_state, make_train_step, phase_names
from aiwae_jax.types import Method, Model


class Program(NamedTuple):
    """Everything that training and evaluation share.

    Attributes:
      settings: what it was built by.
      model: the model.
      start: what evaluation starts from, see `evaluate.Target.of`: "posterior", or where φ is not
        trained "prior".
      mesh: devices by axis, in words.
      steps_per_epoch: full batches in the training set.
      stage_ends: steps done at the end of each stage.
      phases: their names in their order, which a compiled function's dictionaries do not keep.
      init: `init() -> LoopState` at step 0; several repeats have a leading axis for them.
      run_steps: `run_steps(loop_state, num_steps) -> LoopState`.
      lower: `lower(loop_state)`, its program, not compiled yet.
      learning_rate: `learning_rate(step)`; None for optimizers of your own.
    """

    settings: Settings
    model: Model
    start: str
    mesh: str
    steps_per_epoch: int
    stage_ends: list[int]
    phases: list[str]
    init: Callable[[], LoopState]
    run_steps: Callable[[LoopState, int], LoopState]
    lower: Callable[[LoopState], jax.stages.Lowered]
    learning_rate: Callable[[int], float] | None


def trains_posterior(method: Method) -> bool:
    """Whether any phase moves φ."""
    return any("phi" in phase.updates for phase in method)


def describe(method: Method, model: Model) -> dict[str, Any]:
    """How method and model were built, as config.json has it; None for what is your own."""
    return {
        "model": _written(model.built_by),
        "method": _written(getattr(method, "recipe", None)),
        "trains_posterior": trains_posterior(method),
    }


def _written(recipe: Recipe | None) -> dict[str, Any] | None:
    """As JSON; None also for what was built from something that JSON cannot say."""
    try:
        return recipe and recipe.to_json()
    except TypeError:
        return None


def _check_support(method: Method, dataset: data.Dataset) -> None:
    """Refuses data that the model's likelihood is not of, see `Model.check_data`."""
    if dataset.max_level is not None:
        return  # bits by construction
    for check in {phase.sampler.check_data for phase in method} - {None}:
        for name in ("train", "test"):
            check(np.asarray(data.as_floats(getattr(dataset, name))), name=name)


def build(
    method: Method,
    model: Model,
    dataset: data.Dataset,
    settings: Settings,
    *,
    mesh: Mesh | None = None,
    optimizers: Optimizers | None = None,
) -> Program:
    """Builds a run; nothing is compiled before it is called.

    Args:
      method: from `aiwae_jax.methods`, or a tuple of phases of your own.
      model: what it trains.
      dataset: what it is trained on.
      settings: how long, and in what batches.
      mesh: of devices, by default the largest data axis that divides the batch.
      optimizers: of θ, φ and ψ, by default Adam with the paper's learning rates.

    Raises:
      data.DataError: for a data set that `data.check` refuses, or that is smaller than a batch.
      ValueError: for data that the likelihood is not of.
      TypeError: if method, model or data set are something else.
    """
    check_method(method)
    if not isinstance(model, Model):
        raise TypeError(f"`model` must be a `types.Model`, got {type(model).__name__}.")
    data.check(dataset)
    num_examples, batch_size = len(dataset.train), settings.batch_size
    if batch_size > num_examples:
        raise data.DataError(
            f"`batch_size`={batch_size} is larger than the {num_examples} training images of "
            f"{dataset.title}."
        )
    steps_per_epoch = num_examples // batch_size
    _check_support(method, dataset)
    if mesh is None:
        mesh = sharding.largest_mesh(batch_size, 1)
    method = tuple(
        phase._replace(sampler=sharding.over_particles(phase.sampler, mesh)) for phase in method
    )

    # The compiled pieces: a step, and a loop over steps.
    ends = rates.stage_ends(steps_per_epoch, settings.num_stages, epochs=settings.epochs)
    learning_rate = None
    if optimizers is None:
        learning_rate = rates.paper_learning_rate(ends)
        optimizers = rates.adam(learning_rate, eps=settings.adam_eps)
    train_step = make_train_step(method, optimizers, loss_reduction=settings.loss_reduction)
    batch_fn = dataset.batch_fn
    on_each_device = sharding.replicated(mesh)
    run_steps = make_run_steps(
        train_step,
        batch_fn,
        num_examples=num_examples,
        batch_size=batch_size,
        sharding=sharding.over_data(mesh),
    )
    rows = sharding.put(dataset.train, on_each_device)
    like_rows = jax.ShapeDtypeStruct(rows.shape, rows.dtype)

    def init(key: jax.Array) -> LoopState:
        state = init_state(key, model, method, optimizers)
        return init_loop_state(train_step, state, batch_fn, like_rows, batch_size)

    # Repeats are the same under `vmap`, each with the keys that it would have alone.
    init_key, root_key = jax.random.split(jax.random.key(settings.seed))
    if settings.num_repeats > 1:
        seeds = settings.seed + np.arange(settings.num_repeats)
        init_key, root_key = jax.vmap(jax.random.split, out_axes=1)(
            jnp.stack([jax.random.key(seed) for seed in seeds])
        )
        init = jax.vmap(init)
        run_steps = jax.vmap(run_steps, in_axes=(0, 0, None, None))
    # Inside a function of our own it says nothing of what goes wrong; the trainer does.
    run_steps = jax.jit(run_steps, donate_argnums=1, out_shardings=on_each_device)
    root_key = sharding.put(root_key, on_each_device)

    return Program(
        settings=settings,
        mesh=" ".join(f"{axis}:{size}" for axis, size in mesh.shape.items() if size > 1)
        or "data:1",
        model=model,
        start="posterior" if trains_posterior(method) else "prior",
        steps_per_epoch=steps_per_epoch,
        stage_ends=ends,
        phases=phase_names(method),
        init=lambda: sharding.put(jax.jit(init)(init_key), on_each_device),
        run_steps=lambda state, num_steps: run_steps(root_key, state, rows, num_steps),
        lower=lambda state: run_steps.lower(root_key, state, rows, 1),
        learning_rate=None if learning_rate is None else lambda step: float(learning_rate(step)),
    )
