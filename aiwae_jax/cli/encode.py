"""`aiwae encode --workdir=RUN --data=new.csv`: mean and standard deviation of q(z|x), or draws."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from aiwae_jax.cli import command, flags, using
from aiwae_jax.options import option


@dataclasses.dataclass(frozen=True)
class _Encoding:
    """What is said of q(z|x)."""

    num_samples: int | None = option(
        None,
        flag="samples",
        at_least=1,
        help="Draws of z for each row, a row of the table each, in the place of mean and standard "
        "deviation.",
    )


@command.exit_codes(names=using.NAMES | {"num_samples": "samples"})
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = using.begin(
        argv,
        "Latents of new rows: aiwae encode --workdir=RUN --data=new.csv --out=latents.csv",
        *(using.Rows, _Encoding),
    )
    asked, num_samples = flags.make(fv, using.Using), flags.make(fv, _Encoding).num_samples
    run = asked.load()
    content = flags.make(fv, using.Rows).read(run)
    columns = using.identity(content)
    if num_samples is None:
        mean, stddev = run.encode(content.rows, key=asked.key)
        columns |= using.numbered("mean", mean) | using.numbered("stddev", stddev)
        words = f"mean and standard deviation of {mean.shape[1]} latents of {len(mean)} rows"
    else:
        z = run.sample_latents(asked.key, content.rows, num_samples)
        columns = {name: np.repeat(column, num_samples) for name, column in columns.items()}
        columns["sample"] = np.tile(np.arange(num_samples), len(z))
        columns |= using.numbered("z", z.reshape(-1, z.shape[-1]))
        words = f"{num_samples} draws of {z.shape[-1]} latents for each of {len(z)} rows"
    asked.write(columns, words)
