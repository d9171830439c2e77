"""Training in a folder of its own: watched, saved, and continued where it stopped."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from aiwae_jax import data
from aiwae_jax.parallel import processes
from aiwae_jax.runs import config, extras, files
from aiwae_jax.runs import folder as run_folder
from aiwae_jax.runs.callbacks import Callback, check
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.train import program as programs
from aiwae_jax.train.legs import Leg
from aiwae_jax.train.optimizers import Optimizers
from aiwae_jax.train.run import Run
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.trainer import Trainer
from aiwae_jax.types import Method, Model


def fit(
    method: Method | Sequence[Leg],
    model: Model,
    dataset: data.Dataset,
    folder: str | os.PathLike,
    *,
    epochs: float = 40.0,
    batch_size: int = 64,
    optimizers: Optimizers | None = None,
    checkpoint_minutes: float = 3.0,
    mesh: Mesh | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Trains a model to its end, in a folder where the same call continues.

    What was interrupted, by a signal, a kill or a full disk, ends bit for bit as if nothing had
    happened, and what is finished is returned at once. Of a model, phases or optimizers of your own
    only the shapes of what they learn are compared with what the folder has: change the folder when
    you change them.

    Args:
      method: from `aiwae_jax.methods` for this very `model`, or a tuple of phases of your own; or
        a list of `train.Leg`s, methods that follow one another.
      model: from `aiwae_jax.models`, or a `Model` of your own.
      dataset: from `aiwae_jax.data`.
      folder: of the run: its settings (config.json), checkpoints, metrics.
      epochs: passes over the data.
      batch_size: B; what fills no batch is left out of an epoch, other rows in each.
      optimizers: of θ, φ and ψ, `Params` of optax transformations, in the place of those of the
        settings: by default Adam with the paper's learning rates, stretched over `epochs`.
      checkpoint_minutes: between checkpoints, at most.
      mesh: of devices; by default the largest that divides the batch.
      callbacks: who is told how the training goes, each a `train.Callback`. One that raises ends
        the run, which is saved before; the same call continues after what it was told.
      **settings: other fields of `train.Settings`: `seed`, `optimizer`, `learning_rate`,
        `lr_schedule`, `warmup_share`, `clip_norm`, `ema`, `loss_reduction`, `validation_share`,
        `patience`, `kl_warmup_share`, ...

    Returns:
      The run.

    Raises:
      WorkdirError: if the folder holds something else, or a run of other settings or data, or
        another process is at work in it.
      data.DataError: for data that cannot be trained on.
      ValueError: for a setting that cannot be.
      Interrupted: on SIGINT, SIGTERM or SIGHUP, after it has been saved.
      NonFiniteError: if parameters became NaN; the last good checkpoint is kept.
      ImportError: if the packages of the extra `run` are missing.
    """
    extras.require("`train.fit`")
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := sorted(settings.keys() - set(known)):
        raise TypeError(f"`{unknown[0]}` is no argument of `fit`; settings are {', '.join(known)}.")
    callbacks = check(callbacks)
    whole = Settings(epochs=epochs, batch_size=batch_size, **settings)
    if whole.num_repeats > 1:
        raise ValueError(
            f"`num_repeats` must be 1, got {whole.num_repeats}: `fit` returns one run; call it for "
            "every seed, with a folder for each."
        )
    if optimizers is not None:
        _refuse_beside(settings, "optimizers")
    program = programs.build(method, model, dataset, whole, mesh=mesh, optimizers=optimizers)
    content = _describe(method, model, dataset, whole, optimizers)
    with (
        run_folder.claim(folder, content, _check_fn(content, dataset, folder)) as claim,
        Interruption() as interruption,
    ):
        trainer = Trainer(program, claim, checkpoint_minutes, callbacks)
        try:
            if processes.is_primary() and 0 < trainer.step < trainer.total_steps:
                print(f"continuing at step {trainer.step} of {trainer.total_steps}")
            trainer.train(interruption)
        finally:
            trainer.close()
        return Run.of(
            model,
            trainer.weights,
            content,
            folder=claim.folder,
            num_steps=trainer.step,
            epochs=program.epochs_at(trainer.step),
            is_finished=True,
            wall_time=trainer.wall_time,
            stopping=trainer.stopping[0] if trainer.stopping else None,
        )


_OF_OPTIMIZERS = (
    *("optimizer", "learning_rate", "lr_schedule", "warmup_share", "clip_norm", "ema", "adam_eps"),
)


def _refuse_beside(settings: Mapping[str, Any], name: str) -> None:
    """Refuses settings that optimizers of one's own would make idle."""
    if idle := sorted(settings.keys() & set(_OF_OPTIMIZERS)):
        raise ValueError(
            f"`{idle[0]}` has no effect beside `{name}` of your own; leave one of them out. An "
            "average of the weights is kept by `train.average_weights`, the last in a chain."
        )


def _describe(
    method: Method | Sequence[Leg],
    model: Model,
    dataset: data.Dataset,
    settings: Settings,
    optimizers: Optimizers | None,
) -> dict[str, Any]:
    """Makes the content of config.json."""
    return {
        "training": dataclasses.asdict(settings)
        | {"optimizers": settings.optimizer if optimizers is None else "your own"},
        **programs.describe(method, model),
        "data": dataset.describe(),
        "data_dir": None,
    }


def _check_fn(content: dict[str, Any], dataset: data.Dataset, given: str | os.PathLike):
    """Refuses the folder of another run, naming what differs."""

    def check(folder: pathlib.Path) -> None:
        there = config.read(folder)
        training = dataclasses.asdict(Settings()) | there["training"]  # of before a field came
        found = [
            f"`{name}`: {training.get(name)} there, {value} here"
            for name, value in content["training"].items()
            if training.get(name) != value
        ]
        found += dataset.differences(there["data"])
        found += [
            f"`{name}` was built otherwise"
            for name in ("method", "legs", "model")
            if _said(there.get(name)) != _said(content.get(name)) and not found  # a consequence
        ]
        if found:
            raise files.WorkdirError(
                f"`folder`={given} holds a run of another configuration ({'; '.join(found)}); "
                "name another folder."
            )

    return check


def _said(written: Any) -> Any:
    """How something was built, without arguments of None: an earlier version did not know some."""
    if isinstance(written, dict):
        return {name: _said(value) for name, value in written.items() if value is not None}
    return [_said(each) for each in written] if isinstance(written, list) else written
