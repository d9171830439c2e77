"""Builders of `Model`s: `vae` of any networks, those of images, and those of binary latents."""

from aiwae_jax.models.binary import half_predictor, sigmoid_belief_network
from aiwae_jax.models.general import vae
from aiwae_jax.models.images import INITIALIZATIONS, bernoulli_vae, mean_image_logits, two_layer_vae
from aiwae_jax.models.own import from_file

__all__ = [
    "INITIALIZATIONS",
    "bernoulli_vae",
    "from_file",
    "half_predictor",
    "mean_image_logits",
    "sigmoid_belief_network",
    "two_layer_vae",
    "vae",
]
