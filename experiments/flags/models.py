"""What each model takes: the fields of `Training` that are the model's and its posterior's."""

from typing import Any

from absl import flags as absl_flags

from aiwae_jax.models import flows
from experiments.flags import common

CONTINUOUS = ("one_layer", "two_layer")
CONDITIONAL = ("conditional",)
BINARY = ("sbn", *CONDITIONAL)
MODELS = (*CONTINUOUS, *BINARY)
_DEFAULT_LAYERS = "200"

POSTERIORS = tuple(flows.FAMILIES)
DEFAULT_FLOW_LAYERS = {"planar": 4, "iaf": 2}
# Their density can be had for their own samples only, so chains run in base space.
WITHOUT_DENSITY = flows.FLOWS


def define(fv: absl_flags.FlagValues) -> None:
    """Defines them."""
    absl_flags.DEFINE_enum(
        "model",
        "one_layer",
        list(MODELS),
        "`one_layer` is the paper's, `two_layer` the IWAE paper's (2·latent_dim units under "
        "latent_dim). Of binary latents: `sbn`, a sigmoid belief network, and `conditional`, which "
        "predicts the lower half of an image from the upper one.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "latent_dim", 50, "Dimension of a continuous latent z.", flag_values=fv
    )
    absl_flags.DEFINE_integer(
        "hidden_dim",
        200,
        "Units in each of the two tanh layers of both networks of a continuous latent.",
        flag_values=fv,
    )
    absl_flags.DEFINE_list(
        "layers",
        None,
        "Binary units of each layer: 200, or 200,200 for two. Default 200, for --model="
        f"{' and '.join(BINARY)}.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "posterior",
        "normal",
        list(POSTERIORS),
        "Family of q(z|x): diagonal normal, full-covariance normal, planar flow, inverse "
        "autoregressive flow.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "flow_layers",
        None,
        "Layers of a flow. Default "
        + "; ".join(f"{num} for {name}" for name, num in DEFAULT_FLOW_LAYERS.items())
        + ".",
        flag_values=fv,
    )


def _binary_settings(fv: absl_flags.FlagValues) -> dict[str, Any]:
    """The fields of a model of binary latents."""
    for name in ("latent_dim", "hidden_dim", "posterior", "flow_layers"):
        common.require(
            not fv[name].present,
            f"--{name} is of continuous latents; --model={fv.model} has binary ones, of --layers.",
        )
    layers = _DEFAULT_LAYERS.split(",") if fv.layers is None else fv.layers
    common.require(
        bool(layers) and all(n.isdecimal() and 1 <= int(n) <= 10**6 for n in layers),
        f"--layers must be positive numbers like 200 or 200,200, got {','.join(layers)!r}.",
    )
    none = dict.fromkeys(("latent_size", "hidden_size", "posterior", "num_flow_layers"))
    return {"model": fv.model, "layers": ",".join(layers), **none}


def parse(fv: absl_flags.FlagValues) -> dict[str, Any]:
    """The fields of the model and its posterior.

    Raises:
      common.UsageError: for a model that cannot be.
    """
    if fv.model in BINARY:
        return _binary_settings(fv)
    common.require(
        fv.layers is None, f"--layers is of binary latents: --model={' or '.join(BINARY)}."
    )
    is_flow = fv.posterior in DEFAULT_FLOW_LAYERS
    common.require(
        fv.model == "one_layer" or fv.posterior == "normal",
        f"--posterior={fv.posterior}: --model={fv.model} has a posterior of its own, one normal "
        "for each layer; leave --posterior out.",
    )
    common.require(
        is_flow or fv.flow_layers is None,
        f"--flow_layers belongs to --posterior={' or '.join(DEFAULT_FLOW_LAYERS)}.",
    )
    num_layers = DEFAULT_FLOW_LAYERS.get(fv.posterior) if fv.flow_layers is None else fv.flow_layers
    return {
        "model": fv.model,
        "latent_size": fv.latent_dim,
        "hidden_size": fv.hidden_dim,
        "posterior": fv.posterior,
        "num_flow_layers": num_layers,
    }
