"""Flags of a training run; the paper's letters K, T and L are translated here."""

import dataclasses
import hashlib
from typing import Any

from absl import flags as absl_flags

from aiwae_jax import data, models, train
from experiments.flags import common, methods
from experiments.flags import models as model_flags
from experiments.flags.methods import METHODS

# The authors' are 128 for AIWAE and 20 for IWAE.
PAPER_BATCH_SIZES = dict.fromkeys(METHODS, 20) | {"aiwae": 128, "aiwae_wake": 128}
PAPER_STAGES = 8
# `--preset`: defaults of flags, which a flag on the command line overrides.
PRESETS = {
    "default": {},
    "paper": {"init": "torch", "batch_size": PAPER_BATCH_SIZES, "stages": PAPER_STAGES},
    "best": {"batch_size": 20, "adam_eps": 1e-8, "chain_space": "base"},
}
# The digits are small, and a first run should end within two minutes on two cores.
DIGITS_BATCH_SIZE, DIGITS_STAGES = 32, 4
COMMON_BATCH_SIZE = 20  # where methods are compared


@dataclasses.dataclass(frozen=True)
class Training:
    """What identifies a training run; two runs that differ here need two work folders."""

    dataset: str
    method: str
    num_particles: int
    num_temperatures: int | None
    num_leapfrog_steps: int | None
    latent_size: int | None
    hidden_size: int | None
    batch_size: int
    num_stages: int
    adam_eps: float
    loss_reduction: str
    initialization: str
    seed: int
    schedule: str = "linear"
    chain_space: str = "latent"
    force_precision: str = "float32"
    particle_chunk: int | None = None
    num_repeats: int = 1
    model: str = "one_layer"
    posterior: str | None = "normal"
    num_flow_layers: int | None = None
    num_moves: int | None = None
    rws_phi: str | None = None
    tempering: str | None = None
    with_rematerialization: bool | None = None
    epochs: float | None = None
    layers: str | None = None
    move: str | None = None
    raiko_estimator: str | None = None

    @property
    def total_epochs(self) -> float:
        """Passes over the training set, of all stages together."""
        return float(self.epochs or train.paper_epochs(self.num_stages))

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Units of each layer of binary latents; none for continuous ones."""
        return tuple(int(size) for size in self.layers.split(",")) if self.layers else ()

    @property
    def method_options(self) -> dict[str, Any]:
        """Arguments of the method's builder."""
        return {name: getattr(self, name) for name in METHODS[self.method].defaults}


def define(fv: absl_flags.FlagValues) -> None:
    """Defines them."""
    absl_flags.DEFINE_string(
        "dataset", "digits", f"Data set: {', '.join(data.NAMES)}.", flag_values=fv
    )
    absl_flags.DEFINE_string("method", "aiwae", f"Method: {', '.join(METHODS)}.", flag_values=fv)
    model_flags.define(fv)
    methods.define(fv)
    absl_flags.DEFINE_enum(
        "preset",
        "default",
        list(PRESETS),
        "Defaults of the other flags: `paper` keeps to the authors' in everything, `best` is what "
        "gave the best likelihood at equal epochs here (batch 20, Adam's ε 1e-8, chains in base "
        "space).",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "batch_size",
        None,
        "Images per step. Default as in the paper: 128 for aiwae, 20 for iwae and vae; 20 for "
        "binary latents, 32 on digits.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "stages",
        None,
        "Runs stages i = 0 .. N-1 of 3^i epochs at learning rate 0.001 * 10^(-i/7): 1, 4, 13, 40, "
        "121, 364, 1093, 3280 epochs in all for N = 1 .. 8. Default 8, the paper's; 4 on digits. A "
        "finished run continues when started again with more stages.",
        flag_values=fv,
    )
    absl_flags.DEFINE_float("adam_eps", 1e-4, "Adam's ε (β1 = 0.9, β2 = 0.999).", flag_values=fv)
    absl_flags.DEFINE_enum(
        "loss_reduction",
        "mean",
        ["mean", "sum"],
        "Over the batch. The AIWAE authors take the mean, the IWAE authors the sum; beside a sum "
        "Adam's ε weighs far less.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "init",
        "torch_mean_bias",
        sorted(models.INITIALIZATIONS),
        "Initialization: weights and biases uniform in ±1/sqrt(fan-in) (torch, as the AIWAE "
        "authors) or Glorot with zero biases; `mean_bias` starts the decoder's output bias at the "
        "logit of the mean training image, as the IWAE authors do.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer("seed", 0, "Seed of the whole training.", flag_values=fv)
    absl_flags.DEFINE_integer(
        "repeats",
        1,
        "Trains N seeds, from --seed on, side by side in one program. Each writes its own report "
        "to repeat_<i>/, the run a summary.json with mean and standard deviation.",
        flag_values=fv,
    )
    absl_flags.DEFINE_float(
        "epochs",
        None,
        "Passes over the data in all, instead of the stages' own number: each of the --stages is "
        "stretched alike. Such a run cannot be extended.",
        flag_values=fv,
    )
    absl_flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run: checkpoints, metrics, report, pictures. The same command, started "
        "again, continues there. Default runs/<dataset>-<method>-K..-T..-b..-seed...",
        flag_values=fv,
    )
    absl_flags.DEFINE_float(
        "checkpoint_minutes",
        3.0,
        "Minutes between checkpoints at most; one is also written at every stage's end.",
        flag_values=fv,
    )


def parse(fv: absl_flags.FlagValues) -> Training:
    """The training that the flags describe.

    Raises:
      common.UsageError: for one that cannot be run.
    """
    common.one_of("dataset", fv.dataset, data.NAMES)
    common.one_of("method", fv.method, list(METHODS))
    for name in (
        *("K", "L", "latent_dim", "hidden_dim", "batch_size", "stages"),
        *("repeats", "particle_chunk", "moves", "flow_layers"),
    ):
        common.check_at_least(name, fv[name].value, 1)
    common.check_at_least("T", fv.T, 2)
    common.check_seed("seed", fv.seed)
    common.require(
        fv.seed + fv.repeats <= 2**32, "--seed and --repeats: the last seed must be below 2**32."
    )
    common.require(
        fv.stages is None or fv.stages <= 12, "--stages must be at most 12 (265,720 epochs)."
    )
    common.require(1e-30 < fv.adam_eps < 1e30, f"--adam_eps must be positive, got {fv.adam_eps}.")
    for name in ("K", "T", "L", "moves", "latent_dim", "hidden_dim"):
        common.require((fv[name].value or 0) <= 10**6, f"--{name} must be at most 1,000,000.")
    common.require(fv.repeats <= 10**4, f"--repeats must be at most 10,000, got {fv.repeats}.")
    common.require(
        fv.epochs is None or 0.0 < fv.epochs <= 10**6,
        f"--epochs must be positive and at most 1,000,000, got {fv.epochs}.",
    )
    common.require(fv.checkpoint_minutes > 0, "--checkpoint_minutes must be positive.")
    methods.check_model(fv)
    preset = PRESETS[fv.preset]

    def value(name: str):
        return fv[name].value if fv[name].present else preset.get(name, fv[name].value)

    is_digits = fv.dataset == "digits"
    sizes = PAPER_BATCH_SIZES if fv.model in model_flags.CONTINUOUS else COMMON_BATCH_SIZE
    batch_size = value("batch_size") or (DIGITS_BATCH_SIZE if is_digits else sizes)
    if isinstance(batch_size, dict):
        batch_size = batch_size[fv.method]
    return Training(
        dataset=fv.dataset,
        method=fv.method,
        batch_size=batch_size,
        num_stages=value("stages") or (DIGITS_STAGES if is_digits else PAPER_STAGES),
        adam_eps=value("adam_eps"),
        loss_reduction=fv.loss_reduction,
        initialization=value("init"),
        seed=fv.seed,
        num_repeats=fv.repeats,
        epochs=fv.epochs,
        **model_flags.parse(fv),
        **methods.method_settings(fv, preset),
    )


_NAMED = {  # fields that a folder's name has in its own words, or that may change in it
    *("dataset", "method", "num_particles", "num_temperatures", "num_moves", "model", "layers"),
    *("posterior", "move", "rws_phi", "tempering", "raiko_estimator", "epochs", "batch_size"),
    *("seed", "num_repeats", "num_stages"),
}
_MOST_SAID = 3  # further fields of a folder's name; more are a hash


def _usual(training: Training) -> dict[str, Any]:
    """What the fields are if nobody says anything but data, method and model."""
    fv = absl_flags.FlagValues()
    define(fv)
    said = {name: getattr(training, name) for name in ("dataset", "method", "model")}
    fv(["run", *(f"--{name}={value}" for name, value in said.items())])
    return dataclasses.asdict(parse(fv))


def default_workdir(training: Training) -> str:
    """runs/<dataset>-<method>-K..-T..-b..-seed..., and whatever else is not as usual."""
    parts = [training.dataset, training.method, f"K{training.num_particles}"]
    if training.num_temperatures is not None:
        parts.append(f"T{training.num_temperatures}")
    if training.num_moves is not None:
        parts.append(f"M{training.num_moves}")
    special = {
        **{"model": "one_layer", "layers": "200", "posterior": "normal"},
        **{"move": "langevin", "rws_phi": "wake", "tempering": "fixed", "raiko_estimator": "G5"},
    }
    settings, usual = dataclasses.asdict(training), _usual(training)
    parts += [
        settings[name].replace(",", "+")
        for name, value in special.items()
        if settings[name] not in (None, value)
    ]
    others = [
        f"{methods.flag_of(name)}{value}"
        for name, value in settings.items()
        if name not in _NAMED and value not in (None, usual[name])
    ]
    if len(others) > _MOST_SAID:
        others = [hashlib.sha256(" ".join(others).encode()).hexdigest()[:8]]
    parts += others
    if training.epochs is not None:
        parts.append(f"{training.epochs:g}epochs")
    parts += [f"b{training.batch_size}", f"seed{training.seed}"]
    if training.num_repeats > 1:
        parts.append(f"repeats{training.num_repeats}")
    return "runs/" + "-".join(parts)
