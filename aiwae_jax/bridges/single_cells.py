"""Models of single cells that scvi-tools trained, as models of ours."""

from typing import Any

import chex
import jax.numpy as jnp

from aiwae_jax import checks, likelihoods, networks
from aiwae_jax.bridges.auto_encoders import encoder_of, trained
from aiwae_jax.bridges.layers import Layer, Layers
from aiwae_jax.train import Trained

_EPSILON = 1e-3  # of scvi-tools' batch normalizations
_LIKELIHOODS = {
    "nb": likelihoods.negative_binomial,
    "zinb": likelihoods.zero_inflated_negative_binomial,
}
_WANTED = {
    "dispersion": "gene",
    "latent_distribution": "normal",
    "use_observed_lib_size": True,
    "use_size_factor_key": False,
    "log_variational": True,
}
_PARTS = {"Linear", "BatchNorm1d", "ReLU", "Dropout", "Softmax", "Identity"}


def scvi(model: Any) -> Trained:
    """An `scvi.model.SCVI` in memory, of one batch: log p(counts | library size) as it has it.

    A datum is a cell's counts and, as the last column, their total: `likelihoods.with_library`.

    Args:
      model: trained, of normal latents, "nb" or "zinb" counts with a dispersion for each gene, the
        observed library size and batch normalization; without covariates.

    Raises:
      ValueError: for any other.
      TypeError: for what is no SCVI.
    """
    module = getattr(model, "module", None)
    if not hasattr(module, "z_encoder"):
        raise TypeError(f"`model` must be a `scvi.model.SCVI`, got {checks.describe(model)}.")
    _check(module)
    layers = Layers(module.state_dict(), _EPSILON)
    for unused in ("l_encoder.", "decoder.px_r_decoder."):
        layers.ignore(unused)

    def hidden(part: str) -> list[Layer]:
        names = [f"{part}.fc_layers.Layer {number}" for number in range(module.n_layers)]
        return [(f"{name}.0", f"{name}.1") for name in names]

    heads = ["decoder.px_scale_decoder.0", "decoder.px_dropout_decoder"]
    if module.gene_likelihood == "nb":
        layers.ignore(heads.pop() + ".")
    decoder = layers.mlp(hidden("decoder.px_decoder"), heads, "relu")
    if decoder.size_in != module.n_latent:
        raise ValueError(
            "`model` must have no covariates and one batch, and its decoder is given "
            f"{decoder.size_in - module.n_latent} numbers beside the {module.n_latent} latents."
        )
    variance_epsilon = module.z_encoder.var_eps

    def log_scale(outputs: chex.Array) -> chex.Array:
        return 0.5 * jnp.log(jnp.exp(outputs) + variance_epsilon)

    of_moments = ["z_encoder.mean_encoder", "z_encoder.var_encoder"]
    of_counts = layers.mlp(hidden("z_encoder.encoder"), of_moments, "relu")
    of_counts = encoder_of(of_counts, log_scale)
    encoder = networks.Network(
        of_counts.init,
        lambda params, x: of_counts.apply(params, jnp.log1p(x[:-1])),
        of_counts.size_in + 1,
    )
    likelihood = _LIKELIHOODS[module.gene_likelihood](library=True)
    learned = {"log_dispersion": layers.tensor("px_r")}
    return trained(layers, encoder, decoder, likelihood, learned)


def _check(module: Any) -> None:
    """Raises ValueError for a model that is put together otherwise."""
    for name, wanted in _WANTED.items():
        found = getattr(module, name)
        if (bool(found) if isinstance(wanted, bool) else found) != wanted:
            raise ValueError(f"`model` must have `{name}`={wanted!r}, got {found!r}.")
    if module.gene_likelihood not in _LIKELIHOODS:
        raise ValueError(
            f"`model` must have a `gene_likelihood` of {', '.join(_LIKELIHOODS)}; got "
            f"{module.gene_likelihood!r}."
        )
    parts = [part for whole in (module.z_encoder, module.decoder) for part in whole.modules()]
    found = {type(part).__name__ for part in parts if not list(part.children())}
    if found - _PARTS:
        raise ValueError(f"`model` must be of {', '.join(sorted(_PARTS))}; got {found - _PARTS}.")
