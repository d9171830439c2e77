"""What each method takes: the fields of `Training` that are the methods'.

A method's fields have the names of its builder's arguments in `aiwae_jax.methods`.
"""

from typing import Any, NamedTuple

from absl import flags as absl_flags

from aiwae_jax import differentiable, methods, moves, networks, paths, schedules
from experiments.flags import common
from experiments.flags.models import BINARY, CONDITIONAL, CONTINUOUS, MODELS, WITHOUT_DENSITY


class MethodFlags(NamedTuple):
    """A method's own settings.

    Attributes:
      defaults: field -> its default here.
      models: values of --model that it can train.
      trains_posterior: whether there is a q to measure; else evaluation starts from the prior.
      needs_density: whether φ learns from samples that q did not draw, which asks for log q there.
      keeps_its_moves: whether gradients go through all moves, which the memory then holds.
    """

    defaults: dict[str, Any]
    models: tuple[str, ...] = CONTINUOUS
    needs_density: bool = False
    trains_posterior: bool = True
    keeps_its_moves: bool = False


_PARTICLES = {"num_particles": 5}
_SCHEDULE = {"schedule": "linear", "chain_space": "latent"}
_FORCE = {"force_precision": "float32"}
_ANNEALED = {
    **_PARTICLES,
    **{"num_temperatures": 8, "num_leapfrog_steps": 5},
    **_SCHEDULE,
    **_FORCE,
    "particle_chunk": None,
    "move": None,
}
_FLOW = {"num_particles": 1}

METHODS = {
    "aiwae": MethodFlags(_ANNEALED, MODELS),
    "iwae": MethodFlags(_PARTICLES),
    "vae": MethodFlags({}),
    "aiwae_wake": MethodFlags(_ANNEALED, MODELS, needs_density=True),
    "rws": MethodFlags({**_PARTICLES, "rws_phi": "wake"}, MODELS, needs_density=True),
    "hoffman": MethodFlags({"num_moves": 7, "num_leapfrog_steps": 5, **_FORCE}),
    "dreg": MethodFlags(_PARTICLES),
    "stl": MethodFlags(_PARTICLES),
    "hvae": MethodFlags(
        {**_FLOW, "num_leapfrog_steps": 5, "tempering": "fixed"}, keeps_its_moves=True
    ),
    "hvi": MethodFlags({**_FLOW, "num_moves": 2, "num_leapfrog_steps": 3}, keeps_its_moves=True),
    "uha": MethodFlags(
        {
            **_FLOW,
            **{"num_temperatures": 8, "num_leapfrog_steps": 1},
            **_SCHEDULE,
            "with_rematerialization": False,
        },
        keeps_its_moves=True,
    ),
    "vimco": MethodFlags(_PARTICLES, BINARY),
    "nvil": MethodFlags({}, BINARY),
    "tang": MethodFlags(_PARTICLES, CONDITIONAL, trains_posterior=False),
    "tang_annealed": MethodFlags(_ANNEALED, CONDITIONAL, trains_posterior=False),
    "raiko": MethodFlags(
        {**_PARTICLES, "raiko_estimator": "G5"}, CONDITIONAL, trains_posterior=False
    ),
}
# All fields that only some methods take.
FIELDS = tuple(dict.fromkeys(name for m in METHODS.values() for name in m.defaults))


def takers(field: str) -> list[str]:
    """The methods that take a field."""
    return [name for name, method in METHODS.items() if field in method.defaults]


def _takers_for(model: str, field: str) -> str:
    """The methods that take a field and can train a model, in words."""
    return ", ".join(name for name in takers(field) if model in METHODS[name].models)


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
    """Defines the flags that only some methods take."""
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
        _of(
            "num_leapfrog_steps",
            "The paper's L: leapfrog integration steps per HMC move; of binary latents the "
            "proposals or sweeps of each move.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "schedule",
        None,
        list(schedules.SCHEDULES),
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
        "move",
        None,
        moves.names("binary"),
        _of(
            "move",
            "How chains move binary latents: many flips at once (langevin), one where the gradient "
            "promises most (informed), or unit by unit (gibbs). Default langevin.",
        ),
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "raiko_estimator",
        None,
        list(methods.RAIKO_ESTIMATORS),
        _of(
            "raiko_estimator",
            "Raiko et al.'s gradient: G5, Tang & Salakhutdinov's with less noise, or G3, through "
            "each bit's probability, which is biased.",
        ),
        flag_values=fv,
    )


def check_model(fv: absl_flags.FlagValues) -> None:
    """Raises UsageError unless the method can train the model and its posterior."""
    method = METHODS[fv.method]
    common.require(fv.model in method.models, _why_not(fv.method, fv.model))
    common.require(
        fv.posterior not in WITHOUT_DENSITY or not method.needs_density,
        f"--method={fv.method} needs log q at samples that q did not draw, which "
        f"--posterior={fv.posterior} has no density for; use --posterior=normal or full, or a "
        "method that trains q by a bound (aiwae, iwae, dreg).",
    )


def _why_not(method: str, model: str) -> str:
    """Why a method cannot train a model, and what can."""
    models = METHODS[method].models
    reason = f"--model={' or '.join(models)}"
    if models == CONTINUOUS:
        reason = "gradients in z, which binary latents do not have"
    able = ", ".join(name for name, each in METHODS.items() if model in each.models)
    return f"--method={method} needs {reason}; for --model={model} use one of {able}."


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
            f"{_takers_for(fv.model, 'num_particles')}.",
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
                f"one of {_takers_for(fv.model, name) or 'those of other models'}.",
            )
    if fv.posterior in WITHOUT_DENSITY and "chain_space" in settings:
        common.require(
            given["chain_space"] != "latent",
            f"--chain_space=latent needs log q at points that q did not draw, which "
            f"--posterior={fv.posterior} has no density for; use base.",
        )
        settings["chain_space"] = "base"
    if fv.model in BINARY:
        _settle_binary(fv, settings)
    else:
        common.require(
            fv.move is None, f"--move is of binary latents: --model={' or '.join(BINARY)}."
        )
    num_particles, chunk = settings["num_particles"], settings.get("particle_chunk")
    common.require(
        num_particles % (chunk or num_particles) == 0,
        f"--particle_chunk={chunk} must divide --K={num_particles}.",
    )
    return settings


def _settle_binary(fv: absl_flags.FlagValues, settings: dict[str, Any]) -> None:
    """Completes a method's fields for binary latents.

    Raises:
      common.UsageError: for what such latents do not have.
    """
    common.require(
        fv.method != "vimco" or settings["num_particles"] >= 2,
        "--method=vimco leaves one sample out, so that --K must be at least 2; with one use nvil.",
    )
    common.require(
        settings.get("raiko_estimator") != "G5" or settings["num_particles"] >= 2,
        "--raiko_estimator=G5 weighs each sample by w - 1/K, so that --K must be at least 2; with "
        "one use G3.",
    )
    if "chain_space" in settings:
        common.require(
            fv.chain_space != "base",
            "--chain_space=base moves noise that q turns smoothly into z, which binary latents do "
            "not have; use latent.",
        )
        settings["chain_space"] = "latent"
        settings["move"] = settings["move"] or moves.DEFAULTS["binary"]
