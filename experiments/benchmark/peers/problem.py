"""What all sides measure: one trained decoder, images simulated from it, their exact latents."""

import pathlib
import tempfile
from typing import NamedTuple

import chex
import jax
import numpy as np

from aiwae_jax import data, evaluate, methods, models, train
from aiwae_jax.evaluate import simulation
from aiwae_jax.parallel import sharding
from aiwae_jax.types import Model, Params

LATENT_SIZE, HIDDEN_SIZES = 50, (200, 200)  # of the paper's model
BATCH_SIZE, ADAM_EPS = 20, 1e-8  # of `--preset=best`, which learns fast


class Problem(NamedTuple):
    """A model at its parameters, and data simulated from it.

    Attributes:
      model: Bernoulli pixels.
      params: trained.
      key: of every side of ours; `x` are the images that `evaluate.bidirectional` simulates by it.
      x: `[N, X]`.
      latents: `[N, D]`, exact posterior samples.
      num_chains: of each image.
      words: what was trained, and on what.
    """

    model: Model
    params: Params
    key: chex.PRNGKey
    x: np.ndarray
    latents: np.ndarray
    num_chains: int
    words: str

    def target(self, start: str) -> evaluate.Target:
        """What is measured, with chains that start from "prior" or "posterior", which is q."""
        return evaluate.Target.of(self.model, self.params, start=start)

    def over_devices(self, rows: chex.Array) -> jax.Array:
        """Rows `[N, ...]` split over all devices, as ours are."""
        return jax.device_put(rows, sharding.over_data(sharding.largest_mesh(len(rows))))

    def of_pilots(self, num_data: int) -> "Problem":
        """The same with other images, for settings to be chosen on."""
        return simulated(
            *(self.model, self.params, jax.random.fold_in(self.key, 1)),
            num_data=num_data,
            num_chains=self.num_chains,
            words=self.words,
        )


def simulated(
    model: Model,
    params: Params,
    key: chex.PRNGKey,
    *,
    num_data: int,
    num_chains: int,
    words: str = "",
) -> Problem:
    """Simulates the images that `evaluate.bidirectional(key, ..., num_data=num_data)` simulates."""
    sample = evaluate.Target.of(model, params).sample
    x, latents = simulation.draws(jax.random.split(key, 5)[0], sample, num_data)
    return Problem(model, params, key, x, latents, num_chains, words)


def dataset(data_dir: str | None) -> data.Dataset:
    """MNIST where its files are named, else the digits that come with scikit-learn."""
    return data.load("mnist", data_dir) if data_dir else data.load("digits")


def untrained(given: data.Dataset) -> Model:
    """The paper's model for such data."""
    return models.bernoulli_vae(
        given.train.shape[1],
        LATENT_SIZE,
        hidden_sizes=HIDDEN_SIZES,
        mean_image=given.mean_image(),
    )


def trained(given: data.Dataset, num_epochs: int) -> tuple[Model, Params, str]:
    """A model trained for seconds or minutes, and what it is, in words."""
    model = untrained(given)
    with tempfile.TemporaryDirectory() as folder:
        method = methods.vae(model)
        run = train.fit(
            method,
            model,
            given,
            pathlib.Path(folder) / "run",
            epochs=num_epochs,
            batch_size=BATCH_SIZE,
            adam_eps=ADAM_EPS,
        )
    words = (
        f"the paper's model (50 latents, 200-200), {num_epochs} epochs as a VAE on {given.title}"
    )
    return model, run.params, words


def of_run(folder: str) -> tuple[Model, Params, str]:
    """The model of a run's folder, and what it is, in words."""
    run = train.load(folder)
    of_data, of_training = run.config["data"], run.config.get("training", {})
    name = of_data.get("title") or of_data.get("name") or "its data"
    words = f"{of_training.get('method', 'a model')} trained for {run.epochs:g} epochs on {name}"
    return run.model, run.params, words
