"""The problem that is timed: the paper's model, binary images, the least arithmetic they need."""

from typing import NamedTuple

import jax
import numpy as np

from aiwae_jax import models
from aiwae_jax.types import Model

DATA_SIZE, LATENT_SIZE, HIDDEN_SIZE = 784, 50, 200
BATCH_SIZE, NUM_LEAPFROG_STEPS = 128, 5
MEAN_PIXEL = 0.13  # as on MNIST
LEARNING_RATE, ADAM_EPS = 1e-3, 1e-4


class Size(NamedTuple):
    """A cell of the paper's tables."""

    num_particles: int
    num_temperatures: int

    def __str__(self) -> str:
        return f"K={self.num_particles} T={self.num_temperatures}"


def decoder_operations() -> int:
    """Floating-point operations of one gradient of log p(x, z) with respect to z.

    Two per weight forward and two backward.
    """
    weights = LATENT_SIZE * HIDDEN_SIZE + HIDDEN_SIZE**2 + HIDDEN_SIZE * DATA_SIZE
    return 4 * weights


def training_operations(cell: Size) -> int:
    """The least arithmetic of a training step: B·K·((T-1)·L + 1) gradients in z."""
    num_gradients = (cell.num_temperatures - 1) * NUM_LEAPFROG_STEPS + 1
    return BATCH_SIZE * cell.num_particles * num_gradients * decoder_operations()


def images(num: int) -> np.ndarray:
    """Binary images `[num, X]` of independent pixels; what they show costs no time."""
    draws = np.random.default_rng(0).random((num, DATA_SIZE))
    return (draws < MEAN_PIXEL).astype(np.float32)


def model() -> Model:
    """The paper's model."""
    return models.bernoulli_vae(
        DATA_SIZE,
        LATENT_SIZE,
        hidden_sizes=(HIDDEN_SIZE, HIDDEN_SIZE),
        mean_image=np.full(DATA_SIZE, MEAN_PIXEL, np.float32),
    )


def key() -> jax.Array:
    """The key of every side."""
    return jax.random.key(0)
