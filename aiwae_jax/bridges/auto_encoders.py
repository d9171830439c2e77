"""Variational auto-encoders that PyTorch or pythae trained, as models of ours."""

import json
import os
import pathlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from aiwae_jax import likelihoods, models, networks
from aiwae_jax.bridges.layers import Layer, Layers
from aiwae_jax.likelihoods import Likelihood
from aiwae_jax.runs import extras
from aiwae_jax.train import Trained
from aiwae_jax.types import PyTree

_SPREADS = ("log_variance", "log_scale")


def torch(
    state: Mapping[str, Any] | str | os.PathLike,
    *,
    encoder: Sequence[Layer],
    heads: Sequence[str],
    decoder: Sequence[Layer],
    likelihood: Likelihood,
    activation: str = "relu",
    spread: str = "log_variance",
    batch_norm_epsilon: float = 1e-5,
) -> Trained:
    """A VAE of dense layers that PyTorch trained, by the names of its layers.

    A name is that in the state without `.weight`; a pair of names is a linear layer and the batch
    normalization that follows it. The prior is N(0, I). Nothing may be left out: a state with other
    layers is refused.

    Args:
      state: `module.state_dict()`, or a file of one; read by `torch.load(weights_only=True)`, which
        runs no code of the file.
      encoder: its hidden layers.
      heads: the layers that put out μ and the spread of q(z|x), or the one of both side by side.
      decoder: its hidden layers and the output layer.
      likelihood: what the decoder's outputs are of, such as `likelihoods.bernoulli()` of logits.
      activation: after each hidden layer, a key of `networks.ACTIVATIONS`; "gelu" is
        `nn.GELU(approximate="tanh")`.
      spread: what the second head is, "log_variance" or "log_scale".
      batch_norm_epsilon: of `nn.BatchNorm1d`, which no state says.

    Returns:
      The model and its parameters: `trained.log_likelihood(x)`, `encode`, `decode`, `sample`.

    Raises:
      MissingError: for a file, if PyTorch is missing.
      ValueError: for layers that are not there, do not fit or are left out, and a file that holds
        more than tensors.
      TypeError: for what is no state.
    """
    if isinstance(state, str | os.PathLike):
        state = _load(state, "`bridges.torch`", "torch")
    if spread not in _SPREADS:
        raise ValueError(f"`spread` must be one of {', '.join(_SPREADS)}; got {spread!r}.")
    layers = Layers(state, batch_norm_epsilon)
    factor = 0.5 if spread == "log_variance" else 1.0

    def log_scale(outputs: chex.Array) -> chex.Array:
        return factor * outputs

    return trained(
        layers,
        encoder_of(layers.mlp(encoder, heads, activation), log_scale),
        layers.mlp(decoder[:-1], decoder[-1:], activation),
        likelihood,
    )


def pythae(folder: str | os.PathLike) -> Trained:
    """A `pythae.models.VAE` of its default networks, from the folder that `model.save` wrote.

    Its decoder ends in a sigmoid: means of Bernoulli pixels ("bce"), or of normals with standard
    deviation 1 ("mse"), as its `get_nll` has them. A datum is flat.

    Args:
      folder: with `model_config.json` and `model.pt`.

    Raises:
      MissingError: if PyTorch is missing.
      ValueError: for another model than a VAE, networks of one's own, whose pickles would have to
        be run, and what `torch` refuses.
    """
    folder = pathlib.Path(folder)
    config = json.loads((folder / "model_config.json").read_text(encoding="utf-8"))
    if config["name"] != "VAEConfig":
        raise ValueError(f"`folder` must hold a VAE of pythae, got {config['name']!r}.")
    for part in ("encoder", "decoder"):
        if not config[f"uses_default_{part}"]:
            raise ValueError(
                f"`folder` must hold pythae's default networks, and has a pickled {part}, which "
                "could run any code; give its `state_dict` to `bridges.torch`."
            )
    loaded = _load(folder / "model.pt", "`bridges.pythae`", "pythae")
    likelihood = likelihoods.bernoulli()
    if config["reconstruction_loss"] == "mse":
        likelihood = _of_sigmoid(likelihoods.normal(1.0))
    return torch(
        loaded["model_state_dict"],
        encoder=["encoder.layers.0.0"],
        heads=["encoder.embedding", "encoder.log_var"],
        decoder=["decoder.layers.0.0", "decoder.layers.1.0"],
        likelihood=likelihood,
    )


def _load(path: str | os.PathLike, what: str, extra: str) -> Any:
    """The tensors of a file, of which no code is run."""
    extras.require(what, ["torch"], extra=extra)
    import torch as theirs

    try:
        return theirs.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"`{os.fspath(path)}` must hold tensors only, and holds more, which could run any code;"
            " save `module.state_dict()`."
        ) from error


def encoder_of(network: networks.Network, log_scale: Any) -> networks.Network:
    """An encoder whose second head, or second half, becomes log σ."""

    def apply(params: PyTree, x: chex.Array) -> tuple[chex.Array, chex.Array]:
        outputs = network.apply(params, x)
        loc, spread = jnp.split(outputs[0], 2) if len(outputs) == 1 else outputs
        return loc, log_scale(spread)

    return networks.Network(network.init, apply, network.size_in)


def _of_sigmoid(base: Likelihood) -> Likelihood:
    """A likelihood of outputs that pass through a sigmoid first."""
    return base._replace(
        build=lambda params, *outputs: base.build(params, *map(jax.nn.sigmoid, outputs))
    )


def trained(
    layers: Layers,
    encoder: networks.Network,
    decoder: networks.Network,
    likelihood: Likelihood,
    learned: dict[str, chex.Array] | None = None,
) -> Trained:
    """The model of two networks at what they have learned, and the likelihood has."""
    layers.check_all_read()
    model = models.vae(encoder, decoder, likelihood=likelihood, data_size=encoder.size_in)
    params = model.init(jax.random.key(0))
    if learned is not None:
        params = params._replace(theta=params.theta | {"likelihood": learned})
    params = jax.tree.map(jnp.asarray, params)
    return Trained(model._replace(data_size=encoder.size_in), params)
