"""`aiwae sample --workdir=RUN --num=100`: rows that are drawn from the model."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from aiwae_jax.cli import command, flags, using
from aiwae_jax.options import option


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """What is drawn."""

    num: int = option(100, at_least=1, help="Rows to draw.")
    with_latents: bool = option(
        False, flag="latents", help="Adds the latents that the rows were drawn from, as z_0, z_1."
    )


@command.exit_codes(names=using.NAMES | {"num": "num"})
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = using.begin(argv, "Draws from the model: aiwae sample --workdir=RUN --num=100", _Sampling)
    asked, sampling = flags.make(fv, using.Using), flags.make(fv, _Sampling)
    run = asked.load()
    flags.require(
        run.model.sample is not None and not run.model.is_conditional,
        f"--workdir={asked.workdir}: its model draws no rows by itself; `run.sample` in Python "
        "takes the datum to go on from.",
    )
    x, z = run.sample(asked.key, sampling.num)
    columns = using.named(np.asarray(x), run.config["data"])
    if sampling.with_latents:
        columns |= using.numbered("z", z)
    asked.write(columns, f"{sampling.num} rows drawn from the model")
