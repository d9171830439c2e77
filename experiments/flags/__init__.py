"""Command-line flags -> one frozen `Config`; the only place that translates the paper's letters."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags as absl_flags

from experiments.flags import common, evaluation, layout, models, training
from experiments.flags.arguments import arguments_of
from experiments.flags.common import UsageError
from experiments.flags.evaluation import Evaluation
from experiments.flags.layout import Layout
from experiments.flags.methods import FIELDS, FLAGS_OF, METHODS, flag_of
from experiments.flags.training import (
    COMMON_BATCH_SIZE,
    DIGITS_BATCH_SIZE,
    PAPER_BATCH_SIZES,
    PAPER_STAGES,
    Training,
)

__all__ = [
    "COMMON_BATCH_SIZE",
    "DIGITS_BATCH_SIZE",
    "FIELDS",
    "FLAGS_OF",
    "METHODS",
    "PAPER_BATCH_SIZES",
    "PAPER_STAGES",
    "Config",
    "EvaluateFlags",
    "Evaluation",
    "Layout",
    "Training",
    "UsageError",
    "arguments_of",
    "check_evaluation",
    "describe",
    "flag_of",
    "parse_evaluate",
    "parse_run",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of the command line."""

    training: Training
    evaluation: Evaluation | None
    data_dir: str | None
    workdir: str
    checkpoint_minutes: float
    layout: Layout
    is_dry_run: bool


def parse_run(argv: Sequence[str]) -> Config:
    """Flags of `experiments.run`.

    Raises:
      UsageError: for anything that cannot be run, in one line.
    """
    fv = absl_flags.FlagValues()
    training.define(fv)
    evaluation.define(fv)
    layout.define_mesh(fv)
    layout.define(fv)
    absl_flags.DEFINE_bool(
        "dry_run",
        False,
        "Prints the plan, with estimates of time and memory, and starts nothing.",
        flag_values=fv,
    )
    common.define(fv)
    common.parse(
        fv, argv, "Trains and measures a model: python -m experiments.run --dataset=digits"
    )
    settings = training.parse(fv)
    evaluating = evaluation.parse(fv, fv.dataset, is_binary=settings.model in models.BINARY)
    check_evaluation(settings, evaluating)
    folder = fv.workdir or training.default_workdir(settings)
    common.check_folder("workdir", folder)
    where = layout.parse(fv)
    layout.check(where, settings.batch_size, settings.num_particles, settings.particle_chunk)
    return Config(
        training=settings,
        evaluation=evaluating,
        data_dir=fv.data_dir,
        workdir=folder,
        checkpoint_minutes=fv.checkpoint_minutes,
        layout=where,
        is_dry_run=fv.dry_run,
    )


def check_evaluation(trained: Training, evaluating: Evaluation | None) -> None:
    """Raises UsageError for an evaluation that the trained posterior cannot serve."""
    common.require(
        evaluating is None
        or evaluating.chain_space == "base"
        or trained.posterior not in models.WITHOUT_DENSITY,
        f"Chains in z need log q at points that q did not draw, which --posterior="
        f"{trained.posterior} has no density for; use --eval_chain_space=base.",
    )


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Flags of `experiments.evaluate`; `evaluation` waits for the run, which has the defaults."""

    workdir: str
    data_dir: str | None
    against: str | None
    layout: Layout
    evaluation: Callable[[Training], Evaluation | None]


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
    evaluation.define(fv)
    layout.define(fv)
    common.define(fv)
    common.parse(fv, argv, "Measures a run: python -m experiments.evaluate --workdir=runs/...")
    common.require(fv.workdir is not None, "--workdir is needed: the folder of a run.")
    common.check_folder("workdir", fv.workdir)
    common.require(fv.eval != "none", "--eval=none leaves nothing to do.")
    evaluation.check(fv)  # before anything is loaded
    return EvaluateFlags(
        fv.workdir,
        fv.data_dir,
        fv.against,
        layout.parse(fv),
        lambda run: evaluation.parse(fv, run.dataset, is_binary=run.model in models.BINARY),
    )


def describe(config: Config) -> str:
    """Every setting on a line, so that no default stays hidden."""

    def line(title: str, settings: Any) -> str:
        items = dataclasses.asdict(settings).items()
        return f"{title}: " + " ".join(f"{k}={v}" for k, v in items if v is not None)

    lines = [line("training", config.training)]
    if config.evaluation is not None:
        lines.append(line("evaluation", config.evaluation))
    return "\n".join(lines)
