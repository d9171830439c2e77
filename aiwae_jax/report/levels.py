"""Bits per dimension: what an image's NLL is as a code length, for each of its levels."""

import math
from typing import Any

import jax
import numpy as np

from aiwae_jax import evaluate
from aiwae_jax.data import Dataset
from aiwae_jax.likelihoods.pixels import DiscretizedLogistic
from aiwae_jax.types import Model, PyTree


def bits_per_dim(
    nll: np.ndarray,
    dataset: Dataset,
    model: Model,
    theta: PyTree,
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    """The NLL of images of levels over X ln 2, for report.json; nothing of other data.

    It is a code length where p(x|z) gives a probability to every level, as the discretized logistic
    does (van den Oord et al. 2016, PixelRNN, section 5.1). A density of real numbers changes with
    their unit, and the bits that stand for grey levels in Bernoulli pixels are no code of those.

    Args:
      nll: `[N]` of test images, nats.
      dataset: that they are of.
      model: the model.
      theta: its parameters.
      weights: `[N]` of the images, or None.
    """
    num_levels = _num_levels(dataset, model, theta)
    if num_levels is None:
        return {}
    num_dims = dataset.num_modelled
    mean, error = evaluate.mean_and_standard_error(
        np.asarray(nll) / (num_dims * math.log(2.0)), weights
    )
    return {
        "bits_per_dim": mean,
        "bits_per_dim_se": error,
        "num_levels": num_levels,
        "num_dims": num_dims,
    }


def _num_levels(dataset: Dataset, model: Model, theta: PyTree) -> int | None:
    """How many levels the likelihood shares its probability among; None where it has none."""
    if dataset.image_shape is None or model.likelihood is None or model.prior is None:
        return None
    x = dataset.batch_fn(jax.random.key(0), dataset.test[0])
    found = likelihood_of(model, theta, x)
    return int(found.num_levels) if isinstance(found, DiscretizedLogistic) else None


def likelihood_of(model: Model, theta: PyTree, x: Any) -> Any:
    """The distribution p(x|z) of a datum `[X]` at some z, without its numbers; of what is modelled.

    The model must have a `likelihood` and a `prior`.
    """
    found = []

    def look(key, x):
        likelihood = model.likelihood(theta, model.prior(theta, x).sample(key))
        found.append(likelihood.given(x).base if model.num_given else likelihood)
        return 0.0

    jax.eval_shape(look, jax.random.key(0), x)
    return found[0]
