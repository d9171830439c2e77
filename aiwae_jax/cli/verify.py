"""`aiwae verify RUN/certificate.json`: whether a report's bound rests on what it says."""

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags as absl_flags

from aiwae_jax import data, report, train
from aiwae_jax.cli import command, flags, likelihood
from aiwae_jax.options import check, option
from aiwae_jax.report import certificate, verification


@dataclasses.dataclass(frozen=True)
class Checking:
    """How much is looked at, and where the data are."""

    share: float = option(
        0.05,
        help="Share of the chunks of data, drawn at random, whose chains are run again; at least "
        "one chunk. Default 0.05.",
        above=0,
        at_most=1,
    )
    data: str | None = option(
        None, help="Where the data are now, if not where the run was trained from."
    )

    def __post_init__(self):
        check(self)


@command.exit_codes(names={**flags.names_of(Checking), "dataset": "data", "where": "data"})
def main(argv: Sequence[str]) -> None:
    """Entry point: 1 for a certificate that is refused."""
    fv = absl_flags.FlagValues()
    flags.define_options(fv, Checking)
    flags.define(fv)
    (name,) = flags.parse(
        fv, argv, "Checks a certificate: aiwae verify RUN/certificate.json", arguments=("FILE",)
    )
    checking, path = flags.make(fv, Checking), pathlib.Path(name).expanduser().absolute()
    path = path / certificate.NAME if path.is_dir() else path
    number = verification.read(path)["repeat"]["number"]

    run_folder = path.parent.parent if path.parent.name == f"repeat_{number}" else path.parent
    run = train.load(run_folder, repeat=number)
    dataset = data.reload(run.config["data"], where=checking.data, data_dir=fv.data_dir)
    dataset = likelihood.as_trained(dataset, run.config)
    print(report.verify(path, run, dataset, share=checking.share).words())
