"""What each method and each posterior takes: the fields of `Training` that are theirs.

A method's fields have the names of its builder's arguments in `aiwae_jax.methods`.
"""

from typing import Any, NamedTuple

from absl import flags as absl_flags

from aiwae_jax import ais, differentiable, flows, methods, networks, paths
from experiments.flags import common


class MethodFlags(NamedTuple):
    """A method's own settings.

    Attributes:
      defaults: field -> its default here.
      needs_density: whether φ learns from samples that q did not draw, which asks for log q there.
    """

    defaults: dict[str, Any]
    needs_density: bool = False


_PARTICLES = {"num_particles": 5}
_SCHEDULE = {"schedule": "linear", "chain_space": "latent"}
_FORCE = {"force_precision": "float32"}
_ANNEALED = {
    **_PARTICLES,
    **{"num_temperatures": 8, "num_leapfrog_steps": 5},
    **_SCHEDULE,
    **_FORCE,
    "particle_chunk": None,
}
_FLOW = {"num_particles": 1}

METHODS = {
    "aiwae": MethodFlags(_ANNEALED),
    "iwae": MethodFlags(_PARTICLES),
    "vae": MethodFlags({}),
    "aiwae_wake": MethodFlags(_ANNEALED, needs_density=True),
    "rws": MethodFlags({**_PARTICLES, "rws_phi": "wake"}, needs_density=True),
    "hoffman": MethodFlags({"num_moves": 7, "num_leapfrog_steps": 5, **_FORCE}),
    "dreg": MethodFlags(_PARTICLES),
    "stl": MethodFlags(_PARTICLES),
    "hvae": MethodFlags({**_FLOW, "num_leapfrog_steps": 5, "tempering": "fixed"}),
    "hvi": MethodFlags({**_FLOW, "num_moves": 2, "num_leapfrog_steps": 3}),
    "uha": MethodFlags(
        {
            **_FLOW,
            **{"num_temperatures": 8, "num_leapfrog_steps": 1},
            **_SCHEDULE,
            "with_rematerialization": False,
        }
    ),
}
# All fields that only some methods take.
FIELDS = tuple(dict.fromkeys(name for m in METHODS.values() for name in m.defaults))

POSTERIORS = tuple(flows.FAMILIES)
MODELS = ("one_layer", "two_layer")
DEFAULT_FLOW_LAYERS = {"planar": 4, "iaf": 2}
# Their density can be had for their own samples only, so chains run in base space.
WITHOUT_DENSITY = flows.FLOWS


def takers(field: str) -> list[str]:
    """The methods that take a field."""
    return [name for name, method in METHODS.items() if field in method.defaults]


# field -> flag, where their names differ.
FLAGS_OF = {
    "num_particles": "K",
    "num_temperatures": "T",
    "num_leapfrog_steps": "L",
    "latent_size": "latent_dim",
    "hidden_size": "hidden_dim",
    "num_stages": "stages",
    "initialization": "init",
    "num_repeats": "repeats",
    "num_flow_layers": "flow_layers",
    "num_moves": "moves",
    "with_rematerialization": "remat",
}


def flag_of(field: str) -> str:
    """The flag that sets a field."""
    return FLAGS_OF.get(field, field)


def _of(field: str, text: str) -> str:
    """A help text with the methods that take the flag, and their defaults."""
    defaults = {}
    for name in takers(field):
        defaults.setdefault(METHODS[name].defaults[field], []).append(name)
    if list(defaults) == [None]:
        return f"{text} For {', '.join(takers(field))}."
    words = [f"{value} for {', '.join(names)}" for value, names in defaults.items()]
    return f"{text} Default {'; '.join(words)}."


def define(fv: absl_flags.FlagValues) -> None:
    """Defines the flags that only some methods or posteriors take."""
    absl_flags.DEFINE_integer(
        "K",
        None,
        _of("num_particles", "The paper's K: (annealed) importance samples per image."),
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "T",
        None,
        _of(
            "num_temperatures",
            "The paper's T: inverse temperatures, counting β=0 and β=1, so T-1 moves.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "L",
        None,
        _of("num_leapfrog_steps", "The paper's L: leapfrog integration steps per HMC move."),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "schedule",
        None,
        list(ais.SCHEDULES),
        _of("schedule", "Temperatures: evenly spaced, as in the paper, or dense at both ends."),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "chain_space",
        None,
        list(paths.SPACES),
        _of(
            "chain_space",
            "Where the chains move: `latent` moves z, as the paper; `base` moves the noise that q "
            "turns into z, so that q's standard deviations become the mass matrix (always so with "
            "--posterior=planar or iaf).",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "force_precision",
        None,
        list(networks.PRECISIONS),
        _of(
            "force_precision",
            "Precision of the gradients inside HMC; energies and weights stay fp32, so that the "
            "sampler stays exact. Faster where the hardware multiplies tf32 or bf16.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "particle_chunk",
        None,
        _of(
            "particle_chunk",
            "Particles of an image at work at once, a divisor of K: bounds the memory for a large "
            "K; all, where it is not given.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "moves", None, _of("num_moves", "Moves of the chain or flow."), flag_values=fv
    )
    absl_flags.DEFINE_enum(
        "rws_phi",
        None,
        list(methods.RWS_PHI),
        _of(
            "rws_phi",
            "What φ learns from: weighted samples of the image (wake), dreams of the model "
            "(sleep), or the mean of both.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "tempering",
        None,
        list(differentiable.TEMPERINGS),
        _of("tempering", "Cooling of the flow's momentum: from temperature 2, or none."),
        flag_values=fv,
    )
    absl_flags.DEFINE_bool(
        "remat",
        None,
        _of(
            "with_rematerialization",
            "Keeps only what is between the moves for the way back: less memory, more computation.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "model",
        "one_layer",
        list(MODELS),
        "Stochastic layers: the paper's one, or the IWAE paper's two (2·latent_dim units under "
        "latent_dim).",
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


def posterior_settings(fv: absl_flags.FlagValues) -> dict[str, Any]:
    """The fields of the model and its posterior."""
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
    common.require(
        fv.posterior not in WITHOUT_DENSITY or not METHODS[fv.method].needs_density,
        f"--method={fv.method} needs log q at samples that q did not draw, which "
        f"--posterior={fv.posterior} has no density for; use --posterior=normal or full, or a "
        "method that trains q by a bound (aiwae, iwae, dreg).",
    )
    num_layers = DEFAULT_FLOW_LAYERS.get(fv.posterior) if fv.flow_layers is None else fv.flow_layers
    return {"model": fv.model, "posterior": fv.posterior, "num_flow_layers": num_layers}


def method_settings(fv: absl_flags.FlagValues, preset: dict[str, Any]) -> dict[str, Any]:
    """The fields that belong to some methods only; those of others are left at their defaults.

    Args:
      fv: the flags; what they do not give comes from the preset.
      preset: flag -> value; what it does not have is the method's default.

    Raises:
      common.UsageError: for a flag that the method does not take.
    """
    method = METHODS[fv.method]
    given = {name: fv[flag_of(name)].value for name in FIELDS}
    if "num_particles" not in method.defaults:  # --K=1 says what is so anyway
        common.require(
            given["num_particles"] in (None, 1),
            f"--K={given['num_particles']}: {fv.method} uses one sample; methods with several are "
            f"{', '.join(takers('num_particles'))}.",
        )
        given["num_particles"] = 1
    settings = {"num_particles": 1, "num_temperatures": None, "num_leapfrog_steps": None}
    for name, value in given.items():
        if name in method.defaults:
            default = preset.get(flag_of(name), method.defaults[name])
            settings[name] = default if value is None else value
        elif name != "num_particles":
            common.require(
                value is None,
                f"--{flag_of(name)} does not belong to --method={fv.method}; leave it out, or use "
                f"one of {', '.join(takers(name))}.",
            )
    if fv.posterior in WITHOUT_DENSITY and "chain_space" in settings:
        common.require(
            given["chain_space"] != "latent",
            f"--chain_space=latent needs log q at points that q did not draw, which "
            f"--posterior={fv.posterior} has no density for; use base.",
        )
        settings["chain_space"] = "base"
    num_particles, chunk = settings["num_particles"], settings.get("particle_chunk")
    common.require(
        num_particles % (chunk or num_particles) == 0,
        f"--particle_chunk={chunk} must divide --K={num_particles}.",
    )
    return settings
