"""Command-line flags -> one frozen `Config`; the only place that translates the paper's letters."""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags as absl_flags

from aiwae_jax import data, models

# How `--method` uses K and T: (default K, whether K may differ from 1, whether it anneals).
METHODS = {"aiwae": (5, True, True), "iwae": (5, True, False), "vae": (1, False, False)}
PAPER_BATCH_SIZES = {"aiwae": 128, "iwae": 20, "vae": 20}
PAPER_STAGES = 8
# The digits are small, and a first run should end within two minutes on two cores.
DIGITS_BATCH_SIZE, DIGITS_STAGES, DIGITS_EVAL_TEMPERATURES = 32, 4, 100
EVAL_TEMPERATURES = 1000
PAPER_EVALUATION = {
    "eval_temperatures": 10_000,
    "eval_chains": 16,
    "eval_leapfrog_steps": 10,
    "eval_examples": 0,
}


class UsageError(ValueError):
    """A user's mistake on the command line; the message is one clear line."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What identifies a training run; two runs that differ here need two work folders."""

    dataset: str
    method: str
    num_particles: int
    num_temperatures: int | None
    num_leapfrog_steps: int | None
    latent_size: int
    hidden_size: int
    batch_size: int
    num_stages: int
    adam_eps: float
    loss_reduction: str
    initialization: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a model is measured; `num_examples` 0 means all."""

    num_temperatures: int
    num_chains: int
    num_leapfrog_steps: int
    num_examples: int
    num_bound_samples: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of the command line."""

    training: Training
    evaluation: Evaluation | None
    data_dir: str | None
    workdir: str
    checkpoint_minutes: float


def _define_common(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_bool("help", False, "Shows this help.", flag_values=fv, short_name="h")
    absl_flags.DEFINE_string(
        "data_dir",
        None,
        "Folder with raw files, in DIR/<dataset>/ or DIR itself (MNIST: the four IDX files, "
        "gzipped or not; Omniglot: chardata.mat), or a TFDS folder. Without it: TFDS, then a "
        "download.",
        flag_values=fv,
    )


def _define_evaluation(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_enum(
        "eval",
        "default",
        ["default", "paper", "none"],
        "Evaluation settings: `paper` is 16 chains, 10 leapfrog steps, 10,000 temperatures and all "
        "images (its time is printed before it starts); `none` trains only. The flags below "
        "override single settings.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_temperatures",
        None,
        "Number of inverse temperatures for the NLL, counting 0 and 1. Default 1000; 100 on "
        "digits.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_chains", 16, "Independent AIS chains per image for the NLL.", flag_values=fv
    )
    absl_flags.DEFINE_integer(
        "eval_leapfrog_steps", 10, "Leapfrog steps per HMC move for the NLL.", flag_values=fv
    )
    absl_flags.DEFINE_integer(
        "eval_examples",
        None,
        "Images evaluated from the test set, and as many from the training set, drawn by the "
        "evaluation seed; 0 means all test images. Default 200.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_bound_samples",
        5000,
        "K of the variational bound L_K: NVLB = -L_5000 in the paper. A multiple of 50.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_seed",
        0,
        "Seed that chooses and binarizes the evaluated images, once, and drives the chains.",
        flag_values=fv,
    )


def _define_training(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "dataset", "digits", f"Data set: {', '.join(data.NAMES)}.", flag_values=fv
    )
    absl_flags.DEFINE_string("method", "aiwae", f"Method: {', '.join(METHODS)}.", flag_values=fv)
    absl_flags.DEFINE_integer(
        "K",
        None,
        "The paper's K: (annealed) importance samples per image. Default 5; vae has 1.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "T",
        None,
        "The paper's T: number of inverse temperatures, counting β=0 and β=1, so T-1 HMC moves. "
        "Default 8; aiwae only.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "L",
        None,
        "The paper's L: leapfrog integration steps per HMC move. Default 5; aiwae only.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer("latent_dim", 50, "Dimension of the latent z.", flag_values=fv)
    absl_flags.DEFINE_integer(
        "hidden_dim", 200, "Units in each of the two tanh layers of both networks.", flag_values=fv
    )
    absl_flags.DEFINE_integer(
        "batch_size",
        None,
        "Images per step. Default as in the paper: 128 for aiwae, 20 for iwae and vae; 32 on "
        "digits.",
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


def _parse(fv: absl_flags.FlagValues, argv: Sequence[str], usage: str) -> None:
    """Parses, or prints the help and exits."""
    try:
        rest = fv(argv)
    except absl_flags.Error as error:
        raise UsageError(f"{str(error).splitlines()[0]} (--help lists the flags)") from None
    if fv["help"].value:
        print(f"{usage}\n\n{_help_text(fv)}")
        sys.exit(0)
    if len(rest) > 1:
        raise UsageError(f"Unexpected argument {rest[1]!r}; flags are written --name=value.")


def _help_text(fv: absl_flags.FlagValues) -> str:
    lines = []
    for flags in fv.flags_by_module_dict().values():
        for flag in flags:
            default = "" if flag.default is None or flag.boolean else f" (default {flag.default})"
            choices = getattr(flag.parser, "enum_values", None)
            values = f"  one of {', '.join(choices)}" if choices else ""
            lines.append(f"  --{flag.name}{default}{values}")
            text = re.sub(r"^<[\w|]+>: ", "", flag.help)  # absl repeats an enum's values here
            lines.append(absl_flags.text_wrap(text, length=88, indent="      "))
    return "\n".join(lines)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _check_at_least(name: str, value: int | float | None, smallest: int) -> None:
    _require(
        value is None or value >= smallest, f"--{name} must be at least {smallest}, got {value}."
    )


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    _require(value in known, f"--{name} must be one of {', '.join(known)}; got {value!r}.")


def _evaluation(fv: absl_flags.FlagValues, dataset: str) -> Evaluation | None:
    _check_at_least("eval_temperatures", fv.eval_temperatures, 2)
    _check_at_least("eval_chains", fv.eval_chains, 1)
    _check_at_least("eval_leapfrog_steps", fv.eval_leapfrog_steps, 1)
    _require(
        fv.eval_examples is None or fv.eval_examples == 0 or fv.eval_examples >= 2,
        f"--eval_examples must be 0 (all) or at least 2, got {fv.eval_examples}.",
    )
    _require(
        fv.eval_bound_samples >= 50 and fv.eval_bound_samples % 50 == 0,
        f"--eval_bound_samples must be a positive multiple of 50, got {fv.eval_bound_samples}.",
    )
    if fv.eval == "none":
        return None
    temperatures = DIGITS_EVAL_TEMPERATURES if dataset == "digits" else EVAL_TEMPERATURES
    defaults = {"eval_temperatures": temperatures, "eval_examples": 200}
    if fv.eval == "paper":
        defaults = PAPER_EVALUATION

    def value(name: str) -> int:
        return fv[name].value if fv[name].present else defaults.get(name, fv[name].value)

    return Evaluation(
        num_temperatures=value("eval_temperatures"),
        num_chains=value("eval_chains"),
        num_leapfrog_steps=value("eval_leapfrog_steps"),
        num_examples=value("eval_examples"),
        num_bound_samples=fv.eval_bound_samples,
        seed=fv.eval_seed,
    )


def parse_run(argv: Sequence[str]) -> Config:
    """Flags of `experiments.run`.

    Raises:
      UsageError: for anything that cannot be run, in one line.
    """
    fv = absl_flags.FlagValues()
    _define_training(fv)
    _define_evaluation(fv)
    _define_common(fv)
    _parse(fv, argv, "Trains and measures a model: python -m experiments.run --dataset=digits")
    _one_of("dataset", fv.dataset, data.NAMES)
    _one_of("method", fv.method, list(METHODS))
    for name in ("K", "L", "latent_dim", "hidden_dim", "batch_size", "stages"):
        _check_at_least(name, fv[name].value, 1)
    _check_at_least("T", fv.T, 2)
    for name in ("seed", "eval_seed"):
        _check_at_least(name, fv[name].value, 0)
        _require(fv[name].value < 2**32, f"--{name} must be below 2**32, got {fv[name].value}.")
    _require(fv.stages is None or fv.stages <= 12, "--stages must be at most 12 (265,720 epochs).")
    _require(1e-30 < fv.adam_eps < 1e30, f"--adam_eps must be positive, got {fv.adam_eps}.")
    for name in ("K", "T", "L", "latent_dim", "hidden_dim"):
        _require((fv[name].value or 0) <= 10**6, f"--{name} must be at most 1,000,000.")
    _require(fv.checkpoint_minutes > 0, "--checkpoint_minutes must be positive.")
    default_k, with_particles, is_annealed = METHODS[fv.method]
    _require(
        with_particles or fv.K in (None, 1),
        f"--K={fv.K}: {fv.method} uses one sample; for several use --method=iwae or aiwae.",
    )
    for name in ("T", "L"):
        _require(
            is_annealed or fv[name].value is None,
            f"--{name} belongs to annealed sampling, which --method={fv.method} does not do; "
            f"leave it out or use --method=aiwae.",
        )

    is_digits = fv.dataset == "digits"
    batch_size = DIGITS_BATCH_SIZE if is_digits else PAPER_BATCH_SIZES[fv.method]
    training = Training(
        dataset=fv.dataset,
        method=fv.method,
        num_particles=fv.K or default_k,
        num_temperatures=(fv.T or 8) if is_annealed else None,
        num_leapfrog_steps=(fv.L or 5) if is_annealed else None,
        latent_size=fv.latent_dim,
        hidden_size=fv.hidden_dim,
        batch_size=fv.batch_size or batch_size,
        num_stages=fv.stages or (DIGITS_STAGES if is_digits else PAPER_STAGES),
        adam_eps=fv.adam_eps,
        loss_reduction=fv.loss_reduction,
        initialization=fv.init,
        seed=fv.seed,
    )
    return Config(
        training=training,
        evaluation=_evaluation(fv, fv.dataset),
        data_dir=fv.data_dir,
        workdir=fv.workdir or _default_workdir(training),
        checkpoint_minutes=fv.checkpoint_minutes,
    )


def _default_workdir(training: Training) -> str:
    parts = [training.dataset, training.method, f"K{training.num_particles}"]
    if training.num_temperatures is not None:
        parts.append(f"T{training.num_temperatures}")
    parts += [f"b{training.batch_size}", f"seed{training.seed}"]
    return "runs/" + "-".join(parts)


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Flags of `experiments.evaluate`; `evaluation` waits for the data set, which the run knows."""

    workdir: str
    data_dir: str | None
    against: str | None
    evaluation: Callable[[str], Evaluation | None]


def parse_evaluate(argv: Sequence[str]) -> EvaluateFlags:
    """Flags of `experiments.evaluate`.

    Raises:
      UsageError: as `parse_run`.
    """
    fv = absl_flags.FlagValues()
    absl_flags.DEFINE_string(
        "workdir", None, "Folder of a finished or running run.", flag_values=fv
    )
    absl_flags.DEFINE_string(
        "against",
        None,
        "Folder of another run that was evaluated on the same images: prints the paired difference "
        "of the NLLs of the two existing reports, and evaluates nothing.",
        flag_values=fv,
    )
    _define_evaluation(fv)
    _define_common(fv)
    _parse(fv, argv, "Measures a run: python -m experiments.evaluate --workdir=runs/...")
    _require(fv.workdir is not None, "--workdir is needed: the folder of a run.")
    _require(fv.eval != "none", "--eval=none leaves nothing to do.")
    _check_at_least("eval_seed", fv.eval_seed, 0)
    _require(fv.eval_seed < 2**32, f"--eval_seed must be below 2**32, got {fv.eval_seed}.")
    _evaluation(fv, "digits")  # complains before anything is loaded
    return EvaluateFlags(fv.workdir, fv.data_dir, fv.against, functools.partial(_evaluation, fv))


def describe(config: Config) -> str:
    """Every setting on a line, so that no default stays hidden."""

    def line(title: str, settings: Any) -> str:
        items = dataclasses.asdict(settings).items()
        return f"{title}: " + " ".join(f"{k}={v}" for k, v in items if v is not None)

    lines = [line("training", config.training)]
    if config.evaluation is not None:
        lines.append(line("evaluation", config.evaluation))
    return "\n".join(lines)
