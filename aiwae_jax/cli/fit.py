"""`aiwae fit DATA --folder=RUN`: trains a model of your data by any method."""

import dataclasses
import shlex
from collections.abc import Sequence

from absl import flags as absl_flags

from aiwae_jax import report, train
from aiwae_jax.cli import build, command, completion, devices, flags, likelihood, sources
from aiwae_jax.cli.settings import FLAGS, Fitting, help_of
from aiwae_jax.options import option
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import files
from aiwae_jax.runs.folder import COMMAND
from aiwae_jax.train import validation

# Where they are not given.
_USUAL = {"num_temperatures": 5, "latent_size": 10, "batch_size": 64, "epochs": 40.0}
_NOT_YET = ("num_repeats",)  # of `train.fit`


@dataclasses.dataclass(frozen=True)
class Starting:
    """Options of a start of a run, which are not the run's."""

    folder: str | None = option(None, help="Folder of the run; the same command continues there.")
    checkpoint_minutes: float = option(3.0, above=0, help="Minutes between checkpoints, at most.")
    with_report: bool = option(
        False, flag="report", help="Measures the run when it is trained, as `aiwae report` does."
    )


@command.exit_codes(names={**FLAGS, **sources.FLAGS, "folder": "folder"})
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    flags.define_options(fv, Starting)
    flags.define_options(fv, sources.Reading)
    flags.define_options(fv, Fitting, _help_of, without=_NOT_YET)
    flags.define(fv)
    (name,) = flags.parse(
        fv,
        argv,
        f"Trains a model: aiwae fit DATA --folder=RUN, where DATA is {sources.WHAT}",
        arguments=("DATA",),
    )
    starting, reading = flags.make(fv, Starting), flags.make(fv, sources.Reading)
    flags.require(starting.folder is not None, "--folder is needed: the folder of the run.")
    given = flags.given(fv, Fitting, without=_NOT_YET)
    devices.share_one(given.get("ordered_blocks"))
    fitting = completion.complete(Fitting, given, lambda method, model: _USUAL)

    dataset = sources.load(name, fv.data_dir, reading, "DATA")
    print(sources.describe(dataset))
    chosen = likelihood.choose(fitting, dataset)
    print(f"likelihood: {chosen.words}")
    dataset = chosen.dataset
    if "batch_size" not in given:
        # Of tiny data a batch is all of them.
        num_rows = len(validation.training_part(dataset, fitting.validation_share).train)
        fitting = dataclasses.replace(fitting, batch_size=min(fitting.batch_size, num_rows))
    model = likelihood.build_model(fitting, chosen)
    run = train.fit(
        build.build_method(fitting, model),
        model,
        dataset,
        starting.folder,
        checkpoint_minutes=starting.checkpoint_minutes,
        **vars(train.Settings.of(fitting)),
    )
    files.write_text(run.folder / COMMAND, shlex.join(["aiwae", "fit", *argv[1:]]) + "\n")
    best = f" (the weights are those of epoch {run.stopping.epoch:g})" if run.stopping else ""
    advice = "" if starting.with_report else f" Measure it with: aiwae report {starting.folder}"
    print(f"trained, {run.epochs:g} epochs{best}.{advice}", flush=True)
    if starting.with_report:
        report.write(run, dataset, Evaluation())


def _help_of(name: str, said) -> str:
    """The help of an option, with this command's own default."""
    if name in _USUAL:
        return f"{said.help.partition(' Default')[0]} Default {_USUAL[name]:g}."
    return help_of(name, said)
