"""The options of a run of a command, of its method and of its model: one field each.

A method's options have the names of its builder's arguments in `aiwae_jax.methods`, and its
defaults; a field here gives such an argument its flag.
"""

import dataclasses
import inspect
from typing import Any

from aiwae_jax import (
    differentiable,
    likelihoods,
    methods,
    models,
    moves,
    networks,
    paths,
    schedules,
    train,
)
from aiwae_jax.cli import flags
from aiwae_jax.options import Option, option

_MANY = 10**6
# What each model takes, with its defaults.
_CONTINUOUS = {"latent_size": 50, "hidden_size": 200, "hidden_sizes": None, "posterior": "normal"}
# Of data of any kind; with none of these it is the paper's model, if data are bits.
OF_ANY_DATA = (
    *("likelihood", "standardize", "network", "channels", "activation"),
    *("prior", "num_components"),
)
_BINARY = {"layers": "200"}
MODELS = {
    "one_layer": _CONTINUOUS | {"num_flow_layers": None} | dict.fromkeys(OF_ANY_DATA),
    "two_layer": _CONTINUOUS,
    "sbn": _BINARY,
    "conditional": _BINARY,
}
BINARY = ("sbn", "conditional")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting(train.Settings):
    """A method, a model, and how they are trained."""

    method: str = option(choices=list(methods.BUILDERS), help="Method. Default aiwae.")
    curriculum: str | None = option(
        None,
        help="Methods one after the other, in the place of --method: each with flags of its own "
        "after plus signs (those of methods, and batch_size), and its share of --epochs: "
        "vae:0.3,aiwae+K=1+T=5:0.5,aiwae+K=5+T=11:0.2. Parameters, optimizers and one learning "
        "rate go through all.",
    )
    num_particles: int = option(
        flag="K",
        at_least=1,
        at_most=_MANY,
        help="The paper's K: (annealed) importance samples per image.",
    )
    model: str = option(
        "one_layer",
        help=f"Model: {', '.join(MODELS)}, or FILE.py:FUNCTION, one of your own. `one_layer` is "
        "the paper's, `two_layer` the IWAE paper's (2·latent_dim units under latent_dim). Of "
        "binary latents: `sbn`, a sigmoid belief network, and `conditional`, which predicts the "
        "lower half of an image from the upper one.",
    )
    latent_size: int | None = option(
        None,
        flag="latent_dim",
        at_least=1,
        at_most=_MANY,
        help="Dimension of a continuous latent z.",
    )
    hidden_size: int | None = option(
        None,
        flag="hidden_dim",
        at_least=1,
        at_most=_MANY,
        help="Units in each of the two tanh layers of both networks of a continuous latent.",
    )
    hidden_sizes: str | None = option(
        None,
        help="Units of the decoder's hidden layers, in the place of --hidden_dim: 200,100; the "
        "encoder has them in reverse order.",
    )
    activation: str | None = option(
        None,
        choices=list(networks.ACTIVATIONS),
        help="Hidden layers, tanh where it is not given. Chains follow gradients: smooth ones are "
        "accepted more.",
    )
    network: str | None = option(
        None,
        choices=("mlp", "conv"),
        help="Networks: dense (mlp) where it is not given, or for images convolutions, with a "
        "dense layer of --hidden_dim units between them and z.",
    )
    channels: str | None = option(
        None,
        help="Channels of the convolutions of --network=conv, each of which halves an image: 32,64 "
        "where it is not given.",
    )
    prior: str | None = option(
        None,
        choices=list(models.priors.PRIORS),
        help="p(z): N(0, I) (normal) where it is not given, or a mixture of normals, learned.",
    )
    num_components: int | None = option(
        None,
        flag="prior_components",
        at_least=1,
        at_most=_MANY,
        help="Normals of --prior=mixture: 10 where it is not given.",
    )
    likelihood: str | None = option(
        None,
        help="p(x|z): " + ", ".join(likelihoods.BUILDERS) + "; options after plus signs, "
        "normal+scale=per_datum; several with their columns, "
        "normal:age,income;categorical:colour. Where it is not given, what fits the data, which is "
        "said: bernoulli of bits and grey levels, negative_binomial of counts, normal of real "
        "numbers, categorical of categories.",
    )
    standardize: bool | None = option(
        None,
        help="Whether columns that are normal or Student's t are standardized within the model "
        "(yes, where it is not given); NLLs are in the data's own units in either case.",
    )
    layers: str | None = option(None, help="Binary units of each layer: 200, or 200,200 for two.")
    posterior: str | None = option(
        "normal",
        choices=list(models.flows.FAMILIES),
        help="Family of q(z|x): diagonal normal, full-covariance normal, planar flow, inverse "
        "autoregressive flow.",
    )
    num_flow_layers: int | None = option(
        None,
        flag="flow_layers",
        at_least=1,
        help="Layers of a flow. Default 4 for planar; 2 for iaf.",
    )
    num_temperatures: int | None = option(
        None,
        flag="T",
        at_least=2,
        at_most=_MANY,
        help="The paper's T: inverse temperatures, counting β=0 and β=1, so T-1 moves.",
    )
    num_leapfrog_steps: int | None = option(
        None,
        flag="L",
        at_least=1,
        at_most=_MANY,
        help="The paper's L: leapfrog integration steps per HMC move; of binary latents the "
        "proposals or sweeps of each move.",
    )
    schedule: str = option(
        "linear",
        choices=list(schedules.SCHEDULES),
        help="Temperatures: evenly spaced, as in the paper, or dense at both ends.",
    )
    chain_space: str = option(
        "latent",
        choices=list(paths.SPACES),
        help="Where the chains move: `latent` moves z, as the paper; `base` moves the noise that q "
        "turns into z, so that q's standard deviations become the mass matrix (always so with "
        "--posterior=planar or iaf).",
    )
    force_precision: str = option(
        "float32",
        choices=list(networks.PRECISIONS),
        help="Precision of the gradients inside HMC; energies and weights stay fp32, so that the "
        "sampler stays exact. Faster where the hardware multiplies tf32 or bf16.",
    )
    particle_chunk: int | None = option(
        None,
        at_least=1,
        help="Particles of an image at work at once, a divisor of K: bounds the memory for a large "
        "K; all, where it is not given.",
    )
    num_moves: int | None = option(
        None, flag="moves", at_least=1, at_most=_MANY, help="Moves of the chain or flow."
    )
    restart_every: int | None = option(
        None,
        at_least=1,
        at_most=_MANY,
        help="Epochs for which persistent chains go on, and each image keeps its bits, before both "
        "begin anew.",
    )
    rws_phi: str | None = option(
        None,
        choices=list(methods.RWS_PHI),
        help="What φ learns from: weighted samples of the image (wake), dreams of the model "
        "(sleep), or the mean of both.",
    )
    tempering: str | None = option(
        None,
        choices=list(differentiable.TEMPERINGS),
        help="Cooling of the flow's momentum: from temperature 2, or none.",
    )
    with_rematerialization: bool | None = option(
        None,
        flag="remat",
        help="Keeps only what is between the moves for the way back: less memory, more time.",
    )
    move: str | None = option(
        None,
        choices=moves.names("binary"),
        help="How chains move binary latents: many flips at once (langevin, the default), one "
        "where the gradient promises most (informed), or unit by unit (gibbs).",
    )
    raiko_estimator: str | None = option(
        None,
        choices=list(methods.RAIKO_ESTIMATORS),
        help="Raiko et al.'s gradient: G5, Tang & Salakhutdinov's with less noise, or G3, through "
        "each bit's probability, which is biased.",
    )
    initialization: str = option(
        "torch_mean_bias",
        flag="init",
        choices=sorted(models.INITIALIZATIONS),
        help="Initialization: weights and biases uniform in ±1/sqrt(fan-in) (torch, as the AIWAE "
        "authors) or Glorot with zero biases; `mean_bias` starts the decoder's output bias at the "
        "logit of the mean training image, as the IWAE authors do.",
    )

    def __post_init__(self):
        """Raises ValueError for a value that cannot be."""
        super().__post_init__()
        if self.model not in MODELS and ".py:" not in self.model:
            raise ValueError(
                f"`model` must be one of {', '.join(MODELS)}, or FILE.py:FUNCTION, one of your "
                f"own; got {self.model!r}."
            )
        for name in ("layers", "hidden_sizes", "channels"):
            _sizes(name, getattr(self, name))
        if self.likelihood is not None:
            likelihoods.parse(self.likelihood)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Units of each layer of binary latents; none for continuous ones."""
        return _sizes("layers", self.layers)

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """Units of each hidden layer of the decoder of a continuous latent."""
        if self.hidden_sizes is not None:
            return _sizes("hidden_sizes", self.hidden_sizes)
        return (self.hidden_size, self.hidden_size)

    @property
    def conv_channels(self) -> tuple[int, ...]:
        """Channels of the encoder's convolutions, where they were given."""
        return _sizes("channels", self.channels)

    @property
    def total_epochs(self) -> float:
        """Passes over the training set, of all stages together."""
        return float(self.epochs or train.paper_epochs(self.num_stages))

    @property
    def method_options(self) -> dict[str, Any]:
        """Arguments of the method's builder."""
        return {name: getattr(self, name) for name in method_options(self.method)}


def _sizes(name: str, text: str | None) -> tuple[int, ...]:
    """The numbers in a text like 200,100; none of None.

    Raises:
      ValueError: for anything else.
    """
    words = [] if text is None else text.split(",")
    if not all(word.isdecimal() and 1 <= int(word) <= _MANY for word in words):
        raise ValueError(f"`{name}` must be positive numbers like 200 or 200,200, got {text!r}.")
    return tuple(map(int, words))


# argument -> flag
FLAGS = {**flags.names_of(Fitting), "where": "model", "legs": "curriculum"}
OF_MODELS = tuple(dict.fromkeys(name for takes in MODELS.values() for name in takes))


def method_options(method: str) -> dict[str, Any]:
    """Finds the fields that a method takes, with its builder's defaults."""
    _, *parameters = inspect.signature(methods.BUILDERS[method]).parameters.values()
    defaults = {each.name: each.default for each in parameters}
    return {n: defaults[n] for n in FLAGS if n in defaults and n not in OF_MODELS}


OF_METHODS = tuple(dict.fromkeys(n for method in methods.BUILDERS for n in method_options(method)))


def foreign_to(method: str, model: str) -> set[str]:
    """The fields that neither this method nor this model takes; none is foreign to unknown ones."""
    if method not in methods.BUILDERS:
        return set()
    return {*OF_METHODS, *OF_MODELS} - method_options(method).keys() - model_options(model).keys()


def model_options(model: str) -> dict[str, Any]:
    """Finds the fields that a model takes, with their defaults; one of your own takes none."""
    return MODELS.get(model, {})


def help_of(name: str, said: Option) -> str:
    """The help of an option: of one that only some methods take, with these and their defaults."""
    if name in OF_METHODS:
        takers = {m: method_options(m)[name] for m in methods.BUILDERS if name in method_options(m)}
    else:
        takers = {m: takes[name] for m, takes in MODELS.items() if name in takes}
    defaults: dict[Any, list[str]] = {}
    for taker, default in takers.items():
        defaults.setdefault(default, []).append(taker)
    if not defaults:
        return said.help
    if list(defaults) == [None]:
        return f"{said.help} For {', '.join(takers)}."
    words = [f"{default} for {', '.join(names)}" for default, names in defaults.items()]
    return f"{said.help} Default {'; '.join(words)}."
