"""From a configuration to the compiled pieces of a run."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial

from aiwae_jax import belief, data, methods, models, sharding, train
from aiwae_jax.types import Method, Model, Params
from experiments.flags import Layout, Training, UsageError

_ANYWHERE = Layout()


class Run(NamedTuple):
    """Everything that training and evaluation share.

    Attributes:
      model: the model.
      initial: parameters -> (x -> the distribution that evaluation starts from): q, or where φ is
        not trained the prior given x.
      mesh: devices by axis, in words.
      steps_per_epoch: full batches in the training set.
      stage_ends: steps done at the end of each stage.
      init: `init() -> LoopState` at step 0; several repeats have a leading axis for them.
      run_steps: `run_steps(loop_state, num_steps) -> LoopState`.
      lower: `lower(loop_state)`, its program, not compiled yet.
      learning_rate: `learning_rate(step)`.
    """

    model: Model
    initial: Callable[[Params], Partial]
    mesh: str
    steps_per_epoch: int
    stage_ends: list[int]
    init: Callable[[], train.LoopState]
    run_steps: Callable[[train.LoopState, int], train.LoopState]
    lower: Callable[[train.LoopState], jax.stages.Lowered]
    learning_rate: Callable[[int], float]


def build_method(training: Training, model: Model) -> Method:
    """The configured method, by its builder in `aiwae_jax.methods`."""
    return getattr(methods, training.method)(model, **training.method_options)


def initial_fn(model: Model, method: Method) -> Callable[[Params], Partial]:
    """What evaluation starts its chains and importance samples from, see `Run.initial`."""
    if any("phi" in phase.updates for phase in method):
        return lambda params: Partial(model.posterior, params.phi)
    return lambda params: Partial(model.prior_given, params.theta)


def _vae_sizes(training: Training) -> dict[str, Any]:
    hidden_sizes = (training.hidden_size, training.hidden_size)
    return {"latent_size": training.latent_size, "hidden_sizes": hidden_sizes}


def _one_layer(training: Training, **start) -> Model:
    flow = {} if training.num_flow_layers is None else {"num_layers": training.num_flow_layers}
    return models.bernoulli_vae(
        **_vae_sizes(training), posterior=training.posterior, **start, **flow
    )


def _two_layer(training: Training, **start) -> Model:
    return models.two_layer_vae(**_vae_sizes(training), **start)


def _sbn(training: Training, **start) -> Model:
    return belief.sigmoid_belief_network(layer_sizes=training.layer_sizes, **start)


def _conditional(training: Training, **start) -> Model:
    return belief.half_predictor(layer_sizes=training.layer_sizes, **start)


_MODELS = {
    "one_layer": _one_layer,
    "two_layer": _two_layer,
    "sbn": _sbn,
    "conditional": _conditional,
}


def build_model(training: Training, dataset: data.Dataset) -> Model:
    """The configured model, by its builder in `aiwae_jax.models` or `aiwae_jax.belief`."""
    return _MODELS[training.model](
        training,
        data_size=dataset.train.shape[1],
        mean_image=dataset.mean_image(),
        initialization=training.initialization,
    )


def build_mesh(layout: Layout, batch_size: int) -> Mesh:
    """The mesh that was asked for, or the largest data axis that divides the batch."""
    try:
        if layout.num_data is None:
            return sharding.largest_mesh(batch_size, layout.num_particle)
        return sharding.make_mesh(layout.num_data, layout.num_particle)
    except ValueError as error:
        raise UsageError(f"--mesh, --batch_size: {error}") from None


def build(training: Training, dataset: data.Dataset, layout: Layout = _ANYWHERE) -> Run:
    """Builds a run; nothing is compiled before it is called.

    Raises:
      data.DataError: for a data set that `data.check` refuses, or that is smaller than a batch.
      UsageError: for a mesh that there are no devices for.
    """
    data.check(dataset)
    num_examples = len(dataset.train)
    if training.batch_size > num_examples:
        raise data.DataError(
            f"--batch_size={training.batch_size} is larger than the {num_examples} training images "
            f"of {dataset.title}."
        )
    steps_per_epoch = num_examples // training.batch_size
    model = build_model(training, dataset)
    mesh = build_mesh(layout, training.batch_size)
    method = tuple(
        phase._replace(sampler=sharding.over_particles(phase.sampler, mesh))
        for phase in build_method(training, model)
    )
    ends = train.stage_ends(steps_per_epoch, training.num_stages, epochs=training.epochs)
    learning_rate = train.paper_learning_rate(ends)
    optimizers = train.adam(learning_rate, eps=training.adam_eps)
    train_step = train.make_train_step(method, optimizers, loss_reduction=training.loss_reduction)
    batch_fn = partial(data.binarize, max_level=dataset.max_level)
    on_each_device = sharding.replicated(mesh)
    run_steps = train.make_run_steps(
        train_step,
        batch_fn,
        num_examples=num_examples,
        batch_size=training.batch_size,
        sharding=sharding.over_data(mesh),
    )
    images = sharding.put(dataset.train, on_each_device)
    like_images = jax.ShapeDtypeStruct(images.shape, images.dtype)

    def init(key: jax.Array) -> train.LoopState:
        state = train.init_state(key, model, method, optimizers)
        return train.init_loop_state(train_step, state, batch_fn, like_images, training.batch_size)

    init_key, root_key = jax.random.split(jax.random.key(training.seed))
    if training.num_repeats > 1:
        seeds = training.seed + np.arange(training.num_repeats)
        init_key, root_key = jax.vmap(jax.random.split, out_axes=1)(
            jnp.stack([jax.random.key(seed) for seed in seeds])
        )
        init = jax.vmap(init)
        run_steps = jax.vmap(run_steps, in_axes=(0, 0, None, None))
    # Inside a function of our own it says nothing of what goes wrong; the trainer does.
    run_steps = jax.jit(run_steps, donate_argnums=1, out_shardings=on_each_device)
    root_key = sharding.put(root_key, on_each_device)

    return Run(
        mesh=" ".join(f"{axis}:{size}" for axis, size in mesh.shape.items() if size > 1)
        or "data:1",
        model=model,
        initial=initial_fn(model, method),
        steps_per_epoch=steps_per_epoch,
        stage_ends=ends,
        init=lambda: sharding.put(jax.jit(init)(init_key), on_each_device),
        run_steps=lambda state, num_steps: run_steps(root_key, state, images, num_steps),
        lower=lambda state: run_steps.lower(root_key, state, images, 1),
        learning_rate=lambda step: float(learning_rate(step)),
    )
