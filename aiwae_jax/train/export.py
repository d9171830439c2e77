"""A trained model as one .npz file of plain arrays and a JSON string, for NumPy alone.

    arrays = numpy.load("model.npz")        # without pickle
    about = json.loads(str(arrays["about"]))

`theta.<name>` are the model's parameters and `phi.<name>` those of q(z|x), where a name is the way
to an array in the pytree of the parameters: `theta.hidden.0.kernel` `[in, out]`, `.bias` `[out]`.
`about` says how the model was built (`model`, null for one of your own), on what it was trained
(`data`), how (`training`), and lists the arrays (`arrays`: name -> shape).
"""

import os
import pathlib
from typing import Any

import jax
import numpy as np

from aiwae_jax.recipe import Recipe
from aiwae_jax.runs import files
from aiwae_jax.types import Model, Params, PyTree

FORMAT = "aiwae_jax model, version 1"


def write(path: str | os.PathLike, model: Model, params: Params, facts: dict[str, Any]) -> None:
    """Writes a model, whole or not at all.

    Args:
      path: of the file, which ends in .npz.
      model: the model.
      params: its parameters.
      facts: for `about`, as JSON has them.

    Raises:
      ValueError: for a name that does not end in .npz.
      WorkdirError: for a path that cannot be written.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz, got {os.fspath(path)!r}.")
    arrays = {
        f"{of}.{name}": a for of in ("theta", "phi") for name, a in named(getattr(params, of))
    }
    if model.built_by is not None:
        arrays |= {f"model.{name}": a for name, a in model.built_by.arrays().items()}
    about = {
        "format": FORMAT,
        "model": _recipe(model.built_by),
        "latents": model.latents,
        **facts,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
    files.prepare(path, "`path`")
    files.write_arrays(path, {"about": np.asarray(files.to_json(about)), **arrays})


def named(tree: PyTree) -> list[tuple[str, np.ndarray]]:
    """The arrays of a pytree with their names, dots between the steps of the way."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or "0", np.asarray(leaf))
        for path, leaf in leaves
    ]


def _recipe(recipe: Recipe | None) -> dict[str, Any] | None:
    """How the model was built, of arrays their shapes."""
    try:
        return recipe and recipe.summary()
    except TypeError:  # of what JSON cannot say
        return None
