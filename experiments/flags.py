"""The command lines of `experiments.run` and `experiments.evaluate`, made of their settings."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags as absl_flags

from aiwae_jax.cli import devices
from aiwae_jax.cli import flags as cli
from aiwae_jax.cli.curriculum import legs_of
from aiwae_jax.cli.flags import UsageError as UsageError
from aiwae_jax.cli.layout import Layout, Processes
from aiwae_jax.cli.settings import OF_METHODS, foreign_to
from aiwae_jax.options import option
from aiwae_jax.report.evaluation import Evaluation
from experiments import completion, settings, workdir
from experiments.config import Config
from experiments.settings import Training


@dataclasses.dataclass(frozen=True)
class _Evaluating:
    """Which settings an evaluation starts from."""

    eval: str = option(
        "default",
        choices=completion.EVALUATIONS,
        help="Evaluation settings: `paper` is 16 chains, 10 leapfrog steps, 10,000 linear "
        "temperatures in latent space, fresh momenta and all images (its time is printed before it "
        "starts); `none` trains only. The other --eval flags override single settings.",
    )


@dataclasses.dataclass(frozen=True)
class _Running(_Evaluating):
    """Options of a start of a run, which are not the run's."""

    preset: str = option(
        "default",
        choices=list(completion.PRESETS),
        help="Defaults of the other flags: `paper` keeps to the authors' in everything, `best` is "
        "what gave the best likelihood for its cost here: Muon at batch 512, a rate that falls "
        "from 0.04 to 0, 90 epochs, and for AIWAE the first 83 % of them by a plain VAE.",
    )
    workdir: str | None = option(
        None,
        help="Folder of the run: checkpoints, metrics, report, pictures. The same command, started "
        "again, continues there. Default runs/<dataset>-<method>-K..-T..-b..-seed...",
    )
    checkpoint_minutes: float = option(
        3.0,
        above=0,
        help="Minutes between checkpoints at most; one is also written at every stage's end.",
    )
    dry_run: bool = option(
        False, help="Prints the plan, with estimates of time and memory, and starts nothing."
    )


@dataclasses.dataclass(frozen=True)
class _Measuring(_Evaluating):
    """Options of a start of an evaluation."""

    workdir: str | None = option(None, help="Folder of a finished or running run.")
    against: str | None = option(
        None,
        help="Folder of another run that was evaluated on the same images: prints the paired "
        "difference of the NLLs of the two existing reports, and evaluates nothing.",
    )


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Flags of `experiments.evaluate`."""

    workdir: str
    data_dir: str | None
    against: str | None
    layout: Processes
    preset: str
    given: dict[str, Any]

    def evaluation(self, training: Training) -> Evaluation:
        """The evaluation that they describe, of a run.

        Raises:
          UsageError: for one that this run cannot have.
        """
        return completion.complete_evaluation(self.given, training, self.preset)


def parse_run(
    argv: Sequence[str], *, join_fn: Callable[[Processes], None] = lambda layout: None
) -> Config:
    """Flags of `experiments.run`.

    Args:
      argv: of which the first is the command.
      join_fn: joins the other processes of the run, before anything is built for a trial.

    Raises:
      UsageError: for anything that cannot be run, in one line.
    """
    fv = absl_flags.FlagValues()
    cli.define_options(fv, Training, settings.help_of)
    for kind in (_Running, Evaluation, Layout):
        cli.define_options(fv, kind)
    cli.define(fv)
    cli.parse(fv, argv, "Trains and measures a model: python -m experiments.run --dataset=digits")
    running, layout = cli.make(fv, _Running), cli.make(fv, Layout)
    join_fn(layout)
    asked = cli.given(fv, Training)
    if not layout.is_distributed:
        devices.share_one(asked.get("ordered_blocks"))
    training = completion.complete(asked, running.preset)
    given = cli.given(fv, Evaluation)
    evaluation = completion.complete_evaluation(given, training, running.eval)
    folder = running.workdir or workdir.default_workdir(training)
    cli.check_folder("workdir", folder)
    for own, _ in legs_of(training):
        layout.check_splits("data", batch_size=own.batch_size)
        layout.check_splits("particle", K=own.num_particles, particle_chunk=own.particle_chunk)
    return Config(
        training=training,
        evaluation=evaluation,
        data_dir=fv.data_dir,
        workdir=folder,
        checkpoint_minutes=running.checkpoint_minutes,
        layout=layout,
        is_dry_run=running.dry_run,
    )


def parse_evaluate(argv: Sequence[str]) -> EvaluateFlags:
    """Flags of `experiments.evaluate`.

    Raises:
      UsageError: as `parse_run`.
    """
    fv = absl_flags.FlagValues()
    for kind in (_Measuring, Evaluation, Processes):
        cli.define_options(fv, kind)
    cli.define(fv)
    cli.parse(fv, argv, "Measures a run: python -m experiments.evaluate --workdir=runs/...")
    measuring = cli.make(fv, _Measuring)
    cli.require(measuring.workdir is not None, "--workdir is needed: the folder of a run.")
    cli.check_folder("workdir", measuring.workdir)
    cli.require(measuring.eval != "none", "--eval=none leaves nothing to do.")
    return EvaluateFlags(
        workdir=measuring.workdir,
        data_dir=fv.data_dir,
        against=measuring.against,
        layout=cli.make(fv, Processes),
        preset=measuring.eval,
        given=cli.given(fv, Evaluation),
    )


def arguments_of(config: dict[str, dict[str, Any]]) -> list[str]:
    """The flags that `parse_run` makes this configuration of, whatever the defaults are.

    Args:
      config: "training" and, if there is one, "evaluation", as in report.json.
    """
    training = config["training"]
    foreign = foreign_to(training["method"], training["model"])
    if training.get("curriculum") is not None:
        foreign |= {"method", *OF_METHODS}
    its_own = {name: value for name, value in training.items() if name not in foreign}
    return [
        *cli.arguments(Training, its_own),
        *cli.arguments(Evaluation, config.get("evaluation", {})),
    ]
