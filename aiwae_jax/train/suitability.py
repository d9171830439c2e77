"""Whether a model can be trained on data: looked at before there is a folder."""

from collections.abc import Sequence

import jax
import numpy as np

from aiwae_jax import data
from aiwae_jax.data import on_disk
from aiwae_jax.types import Model, Phase

_MOST_OF_A_REASON = 300  # characters


def check_support(model: Model, phases: Sequence[Phase], dataset: data.Dataset) -> None:
    """Refuses data that the model's likelihood is not of, see `Model.check_data`."""
    if dataset.missing and not model.takes_missing:
        raise ValueError(
            f"`model` takes no missing values, and {dataset.title} may have them: give it "
            "`likelihoods.masked(...)`, or a model of your own `takes_missing=True`."
        )
    if dataset.num_given != model.num_given:
        raise ValueError(
            f"`model` must be given the {dataset.num_given} columns of the condition of "
            f"{dataset.title}, its last ones, and is given {model.num_given}: build it with "
            "`condition=data.condition_of(dataset)`."
        )
    if dataset.max_level is not None and not dataset.num_given:
        return  # bits by construction
    for check in {phase.sampler.check_data for phase in phases} - {None}:
        for name in ("train", "test"):
            rows = getattr(dataset, name)
            for first, chunk in on_disk.chunks_of(rows):
                where = name if len(chunk) == len(rows) else f"{name}[{first}:]"
                check(_seen(dataset, chunk), name=where)


def _seen(dataset: data.Dataset, chunk: np.ndarray) -> np.ndarray:
    """Rows as a model may see them: of grey levels, bits by construction, 0s and the condition."""
    if dataset.max_level is None:
        return np.asarray(data.as_floats(chunk))
    found = np.zeros(chunk.shape, jax.dtypes.canonicalize_dtype(float))
    found[:, -dataset.num_given :] = chunk[:, -dataset.num_given :]
    return found


def check_fits(model: Model, dataset: data.Dataset) -> None:
    """Refuses a model that cannot take a row of the data, before there is a folder.

    Raises:
      ValueError: with what it failed with; nothing is computed.
    """
    num = dataset.train.shape[1]

    def log_joint(key: jax.Array, x: jax.Array) -> jax.Array:
        params = model.init(key)
        return model.log_joint(params.theta, x, model.posterior(params.phi, x).sample(key))

    like_row = jax.eval_shape(data.as_floats, jax.ShapeDtypeStruct((num,), np.float32))
    try:
        jax.eval_shape(log_joint, jax.random.key(0), like_row)
    except Exception as error:  # of any kind: it is the caller's own function
        reason = " ".join(str(error).split())[:_MOST_OF_A_REASON] or type(error).__name__
        raise ValueError(
            f"`model` cannot take a row of {num} numbers, which those of {dataset.title} are: "
            f"{reason.rstrip('.')}."
        ) from error
