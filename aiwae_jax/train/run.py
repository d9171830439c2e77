"""A trained run: its model and parameters, and what one does with them."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import checks, evaluate, likelihoods, models, recipe
from aiwae_jax.data.dataset import as_floats
from aiwae_jax.runs import checkpoint, config, extras, files
from aiwae_jax.train.stopping import Stopping, of_facts
from aiwae_jax.types import Model, Params, PyTree

_PARAMS = "train.params."  # of a checkpoint's names
_BEST = "best."
_AVERAGE = re.compile(r"train\.opt_states\.(?P<of>theta|phi)\.(?:\d+\.)+average(?P<name>.*)")


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model in its folder, as `train.fit` and `load` return it.

    Rows are data as the model sees them: bits, of a data set of grey levels.

    Attributes:
      folder: of the run.
      model: its model.
      params: its newest parameters; of a run with patience its best ones by validation.
      config: what its config.json says.
      num_steps: steps done.
      epochs: passes over the data.
      is_finished: whether it has been trained to its end.
      wall_time: seconds of its training, by name.
      repeat: which one it is, of several that were trained side by side.
      stopping: how far its early stopping is: `epoch` is that of `params`, `stopped_at` the one
        where training stopped. None of a run without patience.
    """

    folder: pathlib.Path
    model: Model
    params: Params
    config: dict[str, Any]
    num_steps: int
    epochs: float
    is_finished: bool
    wall_time: dict[str, float]
    repeat: int = 0
    stopping: Stopping | None = None

    @property
    def start(self) -> str:
        """Names the start of evaluation: "posterior", or where q is not trained "prior"."""
        return "posterior" if self.config.get("trains_posterior", True) else "prior"

    def target(self, **options: Any) -> evaluate.Target:
        """Makes the target of `evaluate`, the model at these parameters; see `Target.of`."""
        return evaluate.Target.of(self.model, self.params, start=self.start, **options)

    def encode(self, x: chex.Array) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x), each `[N, D]`, for rows `x` `[N, X]`."""
        x = _rows("x", x)

        def of_datum(phi, row):
            q = self.model.posterior(phi, row)
            return q.mean(), q.stddev()

        found = jax.jit(jax.vmap(of_datum, in_axes=(None, 0)))(self.params.phi, x)
        return jax.device_get(found)

    def decode(self, z: chex.Array) -> np.ndarray:
        """Mean of p(x|z) `[N, X]` for latents `z` `[N, D]`.

        Raises:
          ValueError: for a model without a `likelihood`.
        """
        z = _rows("z", z)
        if self.model.likelihood is None:
            raise ValueError(
                "`decode` needs a model with a `likelihood`: Model(..., likelihood=lambda theta, z:"
                " a distribution over x with a `mean()`)."
            )

        def of_latent(theta, row):
            return self.model.likelihood(theta, row).mean()

        found = jax.jit(jax.vmap(of_latent, in_axes=(None, 0)))(self.params.theta, z)
        return jax.device_get(found)

    def sample(self, key: chex.PRNGKey, num: int, x: PyTree = None) -> tuple[PyTree, np.ndarray]:
        """Draws (x `[num, X]`, z `[num, D]`) from the model.

        Args:
          key: consumed.
          num: how many.
          x: the datum `[X]` whose given part a conditional model goes on from.

        Raises:
          ValueError: for a model without a `sample`, or a conditional one without an `x`.
        """
        checks.key(key)
        keys = jax.random.split(key, checks.integer("num", num, least=1))
        checks.given("model.sample", self.model.sample, "it makes exact draws (x', z)")
        if x is None and self.model.is_conditional:
            raise ValueError(
                "`x` must be a datum: this model is of a part of it given the rest; use "
                "run.sample(key, num, x)."
            )
        draw = jax.jit(jax.vmap(self.model.sample, in_axes=(0, None, None)))
        return jax.device_get(draw(keys, self.params.theta, x))

    def log_likelihood(
        self,
        key: chex.PRNGKey,
        x: chex.Array,
        settings: evaluate.Settings = evaluate.Settings(),  # noqa: B008 - it is frozen
        **options: Any,
    ) -> evaluate.Likelihood:
        """Annealed estimates of log p(x), a row each; see `evaluate.log_likelihood`."""
        return evaluate.log_likelihood(key, self.target(), _rows("x", x), settings, **options)


def _rows(name: str, rows: chex.Array) -> chex.Array:
    """Rows as a model takes them; 0s and 1s may be integers."""
    if np.ndim(rows) != 2:
        raise ValueError(
            f"`{name}` must be rows, of shape [N, size]; got {list(np.shape(rows))}. One row alone "
            f"is `{name}[None]`."
        )
    return as_floats(rows)


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
    return Run(
        folder=path,
        model=model,
        params=params,
        config=stored,
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
