"""`aiwae report RUN`: measures a run of `aiwae fit` or `train.fit` on its data."""

import dataclasses
import re
from collections.abc import Sequence

from absl import flags as absl_flags

from aiwae_jax import data, report, train
from aiwae_jax.cli import command, flags, likelihood, sources
from aiwae_jax.cli.flags import names_of
from aiwae_jax.options import option
from aiwae_jax.report.evaluation import Evaluation


@dataclasses.dataclass(frozen=True)
class Where:
    """Where the data are."""

    data: str | None = option(
        None, help="Where the data are now, if not where the run was trained from."
    )
    with_parquet: bool = option(
        False, flag="parquet", help="Writes the numbers of each datum as Parquet, too."
    )


@command.exit_codes(
    names={**names_of(Evaluation, prefix="eval_"), "dataset": "data", "where": "data"}
)
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    argv = [re.sub("^--eval_", "--", argument) for argument in argv]  # as `experiments.run` has it
    fv = absl_flags.FlagValues()
    flags.define_options(fv, Where)
    flags.define_options(fv, Evaluation, prefix="eval_")
    flags.define(fv)
    (folder,) = flags.parse(fv, argv, "Measures a run: aiwae report RUN", arguments=("RUN",))
    where = flags.make(fv, Where)
    evaluation = flags.make(fv, Evaluation, prefix="eval_")

    run = train.load(folder)
    facts = run.config["data"]
    sources.say_reading(where.data or (facts.get("origin") or {}).get("file"))
    dataset = data.reload(facts, where=where.data, data_dir=fv.data_dir)
    dataset = likelihood.as_trained(dataset, run.config)
    report.write(run, dataset, evaluation, with_parquet=where.with_parquet)
