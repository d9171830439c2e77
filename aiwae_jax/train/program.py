"""From a method, a model and data to the compiled pieces of a run."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aiwae_jax import data
from aiwae_jax.data import on_disk
from aiwae_jax.operations import operations
from aiwae_jax.parallel import sharding
from aiwae_jax.recipe import Recipe
from aiwae_jax.train import feed as feeding
from aiwae_jax.train import suitability, weighting
from aiwae_jax.train.blocks import Blocks
from aiwae_jax.train.legs import (
    Leg,
    Stretch,
    as_legs,
    check_psi,
    check_rates,
    index_at,
    merge,
    place,
    view,
)
from aiwae_jax.train.loop import LoopState, init_loop_state, make_run_steps
from aiwae_jax.train.optimizers import Optimizers
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.state import init_state
from aiwae_jax.train.step import has_kl, make_train_step
from aiwae_jax.train.validation import Validation, epochs_between, training_part
from aiwae_jax.train.watch import TrainInfo
from aiwae_jax.types import BuiltMethod, Method, Model


class Program(NamedTuple):
    """Everything that training and evaluation share.

    Attributes:
      settings: what it was built by.
      model: the model.
      start: what evaluation starts from, see `evaluate.Target.of`: "posterior", or where φ is not
        trained "prior".
      max_level: the grey level that stands for 1, of grey levels that are drawn as bits.
      condition: columns that the model is given -> names of their classes' codes, None of numbers.
      mesh: devices by axis, in words.
      legs: where each of its methods begins and ends; mostly one.
      stage_ends: steps done at the end of each stage.
      init: `init() -> LoopState` at step 0; several repeats have a leading axis for them.
      run_steps: `run_steps(loop_state, num_steps) -> LoopState`.
      lower: `lower(loop_state, leg=0)`, the program of a leg, not compiled yet.
      learning_rate: `learning_rate(step)`; None for optimizers of your own.
      kl_weight: `kl_weight(step)`, of the KL in ELBOs; None without a warm-up.
      validation: of the rows that are held out; None where there are none.
      validation_every: epochs of each leg from one validation to the next.
    """

    settings: Settings
    model: Model
    start: str
    max_level: float | None
    condition: Mapping[str, Sequence[str] | None]
    mesh: str
    legs: tuple[Stretch, ...]
    stage_ends: list[int]
    init: Callable[[], LoopState]
    run_steps: Callable[[LoopState, int], LoopState]
    lower: Callable[..., jax.stages.Lowered]
    learning_rate: Callable[[int], float] | None
    kl_weight: Callable[[int], float] | None = None
    validation: Validation | None = None
    validation_every: tuple[int, ...] = ()

    def leg_at(self, step: int) -> Stretch:
        """The leg that the next step belongs to."""
        return self.legs[index_at(self.legs, step)]

    def totals(self, state: LoopState, leg: Stretch) -> TrainInfo:
        """Finds the sums over the steps of a leg's epoch in a state."""
        return state.totals if len(self.legs) == 1 else state.totals[self.legs.index(leg)]

    def epochs_at(self, step: int) -> float:
        """Passes over the data that so many steps are."""
        return sum(
            (min(max(step, leg.start), leg.end) - leg.start) / leg.steps_per_epoch
            for leg in self.legs
        )


def _check_kl_warmup(
    legs: Sequence[Leg], stretches: Sequence[Stretch], settings: Settings, num_steps: int
) -> None:
    """Refuses a warm-up of the KL in a leg that has none.

    Raises:
      ValueError: naming the method.
    """
    num_warmup = settings.num_kl_warmup(num_steps)
    for leg, stretch in zip(legs, stretches, strict=True):
        if stretch.start < num_warmup and not has_kl(leg.method):
            recipe = getattr(leg.method, "recipe", None)
            name = recipe.builder.rpartition(".")[2] if recipe else "your method"
            raise ValueError(
                f"`kl_warmup_share`={settings.kl_warmup_share:g} weighs the KL of an ELBO, and no "
                f"phase of {name} climbs one; leave it out, or use a method that does (vae; aiwae "
                "and hoffman for φ)."
            )


def _check_patience(settings: Settings, legs: Sequence[Stretch], every: tuple[int, ...]) -> None:
    """Refuses patience that is longer than the training."""
    last, apart = legs[-1], every[-1]  # patience begins with the last leg
    num_looks = math.ceil((last.end - last.start) / last.steps_per_epoch / apart)
    if settings.patience and num_looks <= settings.patience:
        where = " in the last leg" if len(legs) > 1 else ""
        raise ValueError(
            f"`patience`={settings.patience} could not end this training: held-out rows are looked "
            f"at {num_looks} times{where}, every {apart} epochs. Train for more epochs, or look "
            "more often by `validation_every`."
        )


def trains_posterior(method: Method | Sequence[Leg]) -> bool:
    """Whether any phase moves φ."""
    return any("phi" in phase.updates for leg in as_legs(method) for phase in leg.method)


def start_of(method: Method | Sequence[Leg]) -> str:
    """What evaluation starts from: "posterior", or where φ is not trained "prior"."""
    return "posterior" if trains_posterior(method) else "prior"


def describe(method: Method | Sequence[Leg], model: Model) -> dict[str, Any]:
    """How method and model were built, as config.json has it; None for what is your own."""
    legs = as_legs(method)
    built = [_written(getattr(leg.method, "recipe", None)) for leg in legs]
    found = {"model": _written(model.built_by), "trains_posterior": trains_posterior(method)}
    if len(legs) == 1:
        found["method"] = built[0]
    if len(legs) == 1 and legs[0].batch_size is None:
        return found
    places = [{"share": leg.share, "batch_size": leg.batch_size} for leg in legs]
    return found | {"legs": [p | {"method": m} for p, m in zip(places, built, strict=True)]}


def _written(recipe: Recipe | None) -> dict[str, Any] | None:
    """As JSON; None also for what was built from something that JSON cannot say."""
    try:
        return recipe and recipe.to_json()
    except TypeError:
        return None


def _on_mesh(method: Method, mesh: Mesh) -> Method:
    """The same phases, whose particles are split over the mesh."""
    phases = (p._replace(sampler=sharding.over_particles(p.sampler, mesh)) for p in method)
    recipe = getattr(method, "recipe", None)
    return tuple(phases) if recipe is None else BuiltMethod.of(phases, recipe)


def build(
    method: Method | Sequence[Leg],
    model: Model,
    dataset: data.Dataset,
    settings: Settings,
    *,
    mesh: Mesh | None = None,
    optimizers: Optimizers | None = None,
) -> Program:
    """Builds a run; nothing is compiled before it is called.

    Args:
      method: from `aiwae_jax.methods`, or a tuple of phases of your own; or a list of `Leg`s, which
        follow one another.
      model: what it trains.
      dataset: what it is trained on.
      settings: how long, and in what batches.
      mesh: of devices, by default the largest data axis that divides the batch.
      optimizers: of θ, φ and ψ, by default those of the settings.

    Raises:
      data.DataError: for a data set that `data.check` refuses, or that is smaller than a batch.
      ValueError: for data that the likelihood is not of.
      TypeError: if method, model or data set are something else.
    """
    legs = as_legs(method)
    if not isinstance(model, Model):
        raise TypeError(f"`model` must be a `types.Model`, got {type(model).__name__}.")
    data.check(dataset)
    whole, dataset = dataset, training_part(dataset, settings.validation_share)
    num_examples = len(dataset.train)
    for size in [leg.batch_size or settings.batch_size for leg in legs]:
        if size > num_examples:
            left = f" that `validation_share`={settings.validation_share:g} leaves"
            raise data.DataError(
                f"`batch_size`={size} is larger than the {num_examples} training rows of "
                f"{dataset.title}{left if settings.validation_share else ''}; a batch must fit "
                f"into them: use {num_examples} at most."
            )
    check_psi(legs)
    stretches, ends = place(legs, settings, num_examples)
    if optimizers is None:
        check_rates(legs, settings)
    if mesh is None:
        sizes = [each.batch_size for each in stretches]
        # Of as many devices as share what is split evenly: batches, or blocks of them.
        mesh = sharding.largest_mesh(math.gcd(*sizes, settings.ordered_blocks or 0), 1)
    legs = tuple(leg._replace(method=_on_mesh(leg.method, mesh)) for leg in legs)
    phases = tuple(phase for leg in legs for phase in leg.method)
    suitability.check_support(model, phases, whole)
    suitability.check_fits(model, whole)
    _check_kl_warmup(legs, stretches, settings, ends[-1])
    start = start_of(method)
    blocks = settings.ordered_blocks and Blocks(settings.ordered_blocks, mesh)
    if blocks:
        for stretch in stretches:
            blocks.check(stretch.batch_size)
        blocks.check_devices()

    # The compiled pieces: a step, and a loop over steps, for each leg.
    learning_rate = None
    if optimizers is None:
        learning_rate = settings.make_learning_rate(ends)
        optimizers = settings.make_optimizers(learning_rate)
    batch_fn = dataset.batch_fn
    on_each_device = sharding.replicated(mesh)
    kl_weight = settings.make_kl_weight(ends[-1])
    steps = [
        make_train_step(
            leg.method,
            optimizers,
            loss_reduction=settings.loss_reduction,
            kl_weight=kl_weight if has_kl(leg.method) else None,
            with_nonfinite_data=model.takes_missing,  # where it is infinite, it was refused
            blocks=blocks,
        )
        for leg in legs
    ]
    loops = [
        make_run_steps(
            step,
            batch_fn,
            num_examples=num_examples,
            batch_size=stretch.batch_size,
            sharding=sharding.over_data(mesh),
            start=stretch.start,
            first_epoch=stretch.first_epoch,
        )
        for step, stretch in zip(steps, stretches, strict=True)
    ]
    rows = weighting.of_training(dataset)
    if is_on_disk := isinstance(dataset.train, on_disk.Rows):
        feeding.check(settings)
    else:
        rows = sharding.put(rows, on_each_device)
    like_rows, _ = weighting.parts(rows)  # shapes do not follow from weights
    like_rows = jax.ShapeDtypeStruct(like_rows.shape, like_rows.dtype)

    def init(key: jax.Array) -> LoopState:
        state, first = init_state(key, model, phases, optimizers), 0
        totals, kept = [], []
        for leg, step, stretch in zip(legs, steps, stretches, strict=True):
            own = state.sampler_states[first : first + len(leg.method)]
            part = state._replace(sampler_states=own)
            found = init_loop_state(step, part, batch_fn, like_rows, stretch.batch_size)
            totals.append(found.totals)
            kept.append(found.train.kept)
            first += len(leg.method)
        if len(legs) == 1:
            return LoopState(state._replace(kept=kept[0]), totals[0])
        return LoopState(state._replace(kept=tuple(kept)), tuple(totals))

    # What is held out, and how often it is looked at.
    validation, every = None, ()
    if settings.validation_share:
        validation = Validation(model, whole, settings, start, mesh)
        state = jax.eval_shape(init, jax.random.key(0))

        def operations_of(index: int) -> float:
            part = state
            if len(legs) > 1:
                part = jax.eval_shape(lambda s: view(s, legs, stretches, index), state)
            batch = jax.eval_shape(
                lambda key, raw: batch_fn(key, raw[: stretches[index].batch_size]),
                *(jax.random.key(0), like_rows),
            )
            kept = jax.eval_shape(steps[index].init_kept, part.train, batch)
            part = part.train._replace(kept=kept)
            step = operations(steps[index], jax.random.key(0), part, batch)
            return stretches[index].steps_per_epoch * step

        cost_fn = partial(validation.operations, state.train.weights)
        every = tuple(
            settings.validation_every or epochs_between(cost_fn, partial(operations_of, index))
            for index in range(len(legs))
        )
        _check_patience(settings, stretches, every)

    def run_leg(index: int) -> Callable:
        if len(legs) == 1:
            return loops[0]

        def run(key, state, rows, num_steps):
            part = view(state, legs, stretches, index)
            return merge(state, loops[index](key, part, rows, num_steps), legs, index)

        return run

    # Repeats are the same under `vmap`, each with the keys that it would have alone.
    init_key, root_key = jax.random.split(jax.random.key(settings.seed))
    if settings.num_repeats > 1:
        seeds = settings.seed + np.arange(settings.num_repeats)
        init_key, root_key = jax.vmap(jax.random.split, out_axes=1)(
            jnp.stack([jax.random.key(seed) for seed in seeds])
        )
        init = jax.vmap(init)
    runs = []
    for index in range(len(legs)):
        run = run_leg(index)
        if settings.num_repeats > 1:
            run = jax.vmap(run, in_axes=(0, 0, None, None))
        # Inside a function of our own it says nothing of what goes wrong; the trainer does.
        runs.append(jax.jit(run, donate_argnums=1, out_shardings=on_each_device))
    feed = feeding.Feed(rows, root_key, stretches, on_each_device) if is_on_disk else None
    root_key = sharding.put(root_key, on_each_device)

    def run_steps(state: LoopState, num_steps: int) -> LoopState:
        index = 0 if len(legs) == 1 else index_at(stretches, state.num_steps)
        if feed is not None:
            return feed.run(partial(runs[index], root_key), state, index, num_steps)
        return runs[index](root_key, state, rows, num_steps)

    return Program(
        settings=settings,
        max_level=dataset.max_level,
        condition=dataset.classes_given,
        mesh=" ".join(f"{axis}:{size}" for axis, size in mesh.shape.items() if size > 1)
        or "data:1",
        model=model,
        start=start,
        legs=stretches,
        stage_ends=ends,
        init=lambda: sharding.put(jax.jit(init)(init_key), on_each_device),
        run_steps=run_steps,
        lower=lambda state, leg=0: runs[leg].lower(
            root_key, state, rows if feed is None else feed.like(leg), 1
        ),
        learning_rate=None if learning_rate is None else lambda step: float(learning_rate(step)),
        kl_weight=None if kl_weight is None else lambda step: float(kl_weight(step)),
        validation=validation,
        validation_every=every,
    )
