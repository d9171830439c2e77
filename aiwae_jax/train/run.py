"""A trained run: its model and parameters, and what one does with them."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, likelihoods, models, recipe
from aiwae_jax.data.dataset import classes_of
from aiwae_jax.runs import checkpoint, config, extras, files
from aiwae_jax.train.stopping import Stopping, of_facts
from aiwae_jax.train.trained import Trained
from aiwae_jax.types import Model, Params

_PARAMS = "train.params."  # of a checkpoint's names
_BEST = "best."
_AVERAGE = re.compile(r"train\.opt_states\.(?P<of>theta|phi)\.(?:\d+\.)+average(?P<name>.*)")


@dataclasses.dataclass(frozen=True)
class Run(Trained):
    """A trained model in its folder, as `train.fit` and `load` return it.

    What one does with it is that of every `Trained` model.

    Attributes:
      model: its model.
      params: its newest parameters; of a run with patience its best ones by validation.
      max_level: the grey level that stands for 1, of grey levels.
      has_posterior: whether its method trains q(z|x).
      condition: columns that its model is given -> names of their classes' codes, None of numbers.
      folder: of the run.
      config: what its config.json says.
      num_steps: steps done.
      epochs: passes over the data.
      is_finished: whether it has been trained to its end.
      wall_time: seconds of its training, by name.
      repeat: which one it is, of several that were trained side by side.
      stopping: how far its early stopping is: `epoch` is that of `params`, `stopped_at` the one
        where training stopped. None of a run without patience.
    """

    _: dataclasses.KW_ONLY
    folder: pathlib.Path
    config: dict[str, Any]
    num_steps: int
    epochs: float
    is_finished: bool
    wall_time: dict[str, float]
    repeat: int = 0
    stopping: Stopping | None = None

    @classmethod
    def of(cls, model: Model, params: Params, config: dict[str, Any], **facts: Any) -> "Run":
        """Makes one of what its config.json says; `facts` are the other fields."""
        return cls(
            model=model,
            params=params,
            max_level=config["data"].get("max_level"),
            has_posterior=config.get("trains_posterior", True),
            condition=classes_of(config["data"]),
            config=config,
            **facts,
        )

    def _facts(self) -> dict[str, Any]:
        names = ("data", "training", "method", "legs")
        said = {name: self.config[name] for name in names if name in self.config}
        return super()._facts() | said | {"epochs": self.epochs, "is_finished": self.is_finished}


def load(folder: str | os.PathLike, model: Model | None = None, *, repeat: int = 0) -> Run:
    """Opens a run with its newest parameters, or with patience its best; also one still at work.

    Args:
      folder: of the run.
      model: what it trained. Models of this package's builders, `models.from_file` among them, are
        built again, from arguments that the folder has; any other must be given.
      repeat: which one, of a run that trained several side by side.

    Raises:
      WorkdirError: if the folder holds no run, or its files are damaged.
      CheckpointError: if none of its checkpoints can be read.
      ValueError: if its model must be given, or the one that was given has other parameters.
      ImportError: if the packages of the extra `run` are missing.
    """
    extras.require("`load`")
    path = pathlib.Path(folder).expanduser().absolute()
    if not (path / "config.json").exists():
        raise files.WorkdirError(f"`folder`={folder} holds no run: it has no config.json.")
    stored = config.read(path)
    if model is None:
        model = _build(folder, stored)
    found = checkpoint.Checkpoints(path / "checkpoints").read()
    if found is None:
        raise files.WorkdirError(f"`folder`={folder} has no checkpoint yet.")
    num_steps, arrays, facts = found
    settings = stored["training"]
    num_repeats = settings.get("num_repeats", 1)
    if not 0 <= checks.integer("repeat", repeat) < num_repeats:
        raise ValueError(f"`repeat` must lie in 0 .. {num_repeats - 1}, got {repeat}.")
    stopping = of_facts(facts)
    if stopping and stopping[repeat].step is not None:
        # The best weights are an average already, where one is kept.
        best = {name.removeprefix(_BEST): a for name, a in arrays.items() if name.startswith(_BEST)}
        arrays = {f"{_PARAMS}{name}": array for name, array in best.items()}
    params = _params(folder, model, arrays, repeat if num_repeats > 1 else None)
    steps_per_epoch = stored["data"].get("train_images", 0) // settings.get("batch_size", 1)
    return Run.of(
        model,
        params,
        stored,
        folder=path,
        num_steps=num_steps,
        epochs=facts.get("epochs", num_steps / max(steps_per_epoch, 1)),
        is_finished=facts["is_finished"],
        wall_time=facts["wall_time"],
        repeat=repeat,
        stopping=stopping[repeat] if stopping else None,
    )


def _build(folder: str | os.PathLike, stored: Mapping[str, Any]) -> Model:
    """The model that a builder of ours made for the run."""
    written = stored.get("model")
    if not written:
        raise ValueError(
            f"`folder`={folder} is a run of a model of your own: give it, as load(folder, model)."
        )
    said = recipe.from_json(written)
    try:
        return recipe.rebuilt(said, {"models": models, "likelihoods": likelihoods})
    except recipe.UnknownBuilderError as error:
        raise ValueError(
            f"`folder`={folder}: its model was built by {error}, which is no builder of "
            "this version; give the model, as load(folder, model)."
        ) from None
    except (TypeError, ValueError) as error:
        raise files.WorkdirError(
            f"`folder`={folder}: its model cannot be built again ({str(error).rstrip('.')}); give "
            "it, as load(folder, model)."
        ) from error


def _params(
    folder: str | os.PathLike, model: Model, arrays: dict[str, np.ndarray], repeat: int | None
) -> Params:
    """A model's parameters among the arrays of a checkpoint."""
    wanted = jax.eval_shape(model.init, jax.random.key(0))._replace(psi=())
    leaves, structure = jax.tree_util.tree_flatten_with_path(wanted)
    there = {
        name.removeprefix(_PARAMS)
        for name in arrays
        if name.startswith((f"{_PARAMS}theta", f"{_PARAMS}phi"))
    }
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    averages = {  # of `train.average_weights`, where it was on
        f"{match['of']}{match['name']}": array
        for path, array in arrays.items()
        if (match := _AVERAGE.fullmatch(path))
    }
    found = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        array = averages.get(name, arrays.get(f"{_PARAMS}{name}"))
        if array is not None and repeat is not None:
            array = array[repeat]
        if array is None or array.shape != leaf.shape:
            is_what = "has none" if array is None else f"has one of shape {list(array.shape)}"
            raise ValueError(
                f"`model` has parameters {name} of shape {list(leaf.shape)}, and the run in "
                f"{folder} {is_what}: it is another model."
            )
        found.append(jnp.asarray(array, leaf.dtype))
    if more := sorted(there - set(names)):
        raise ValueError(
            f"`model` has no parameters {more[0]}, and the run in {folder} has: it is another "
            "model."
        )
    return jax.tree.unflatten(structure, found)
