"""Builders of `Model`s: of any networks, for any data, of the papers, of binary latents."""

from aiwae_jax.models.binary import half_predictor, sigmoid_belief_network
from aiwae_jax.models.general import vae
from aiwae_jax.models.images import INITIALIZATIONS, bernoulli_vae, mean_image_logits, two_layer_vae
from aiwae_jax.models.own import from_file
from aiwae_jax.models.ready import conv_vae, mlp_vae

__all__ = [
    "INITIALIZATIONS",
    "bernoulli_vae",
    "conv_vae",
    "from_file",
    "half_predictor",
    "mean_image_logits",
    "mlp_vae",
    "sigmoid_belief_network",
    "two_layer_vae",
    "vae",
]
