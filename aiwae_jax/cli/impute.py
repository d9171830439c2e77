"""`aiwae impute --workdir=RUN --data=new.csv`: missing values of new rows, filled in."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from aiwae_jax import evaluate
from aiwae_jax.cli import command, flags, using
from aiwae_jax.evaluate.target import STARTS
from aiwae_jax.options import option

_FLAGS = {**flags.names_of(evaluate.Settings, prefix="eval_"), **using.NAMES}
_USUAL = {"num_temperatures": 200, "num_chains": 100}  # as `Trained.impute` has it


@dataclasses.dataclass(frozen=True)
class _Imputing:
    """What is said of a missing value."""

    num_draws: int | None = option(
        None,
        flag="samples",
        at_least=1,
        help="Draws of each row, a row of the table each, in the place of means (of categories the "
        "most probable one).",
    )
    with_intervals: bool = option(
        False,
        flag="intervals",
        help="Adds the ends of each number's interval, as NAME_low and NAME_high; categories and "
        "draws have none.",
    )
    level: float = option(0.9, above=0, below=1, help="Probability of the intervals.")
    start: str | None = option(
        None,
        choices=STARTS,
        help="What chains start from: q(z|x), the default where it is trained, or the prior.",
    )


@command.exit_codes(names=_FLAGS | flags.names_of(_Imputing))
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = using.begin(
        argv,
        "Missing values filled in: aiwae impute --workdir=RUN --data=new.csv --out=whole.csv",
        *(using.Rows, _Imputing, evaluate.Settings),
    )
    asked, imputing = flags.make(fv, using.Using), flags.make(fv, _Imputing)
    is_drawn = imputing.num_draws is not None
    flags.require(
        not (is_drawn and imputing.with_intervals),
        "--intervals are of means, and --samples are draws; leave one of them out.",
    )
    given = _USUAL | flags.given(fv, evaluate.Settings, prefix="eval_")
    run = asked.load()
    with flags.refusals(_FLAGS):
        settings = dataclasses.replace(run.settings, **given)
    content = flags.make(fv, using.Rows).read(run)
    found = run.impute(
        *(content.rows, asked.key, settings),
        num_draws=imputing.num_draws or 1,
        level=imputing.level,
        start=imputing.start,
    )
    columns, facts = using.identity(content), run.config["data"]
    if is_drawn:
        num = imputing.num_draws
        columns = {name: np.repeat(column, num) for name, column in columns.items()}
        columns["sample"] = np.tile(np.arange(num), len(found.mean))
        columns |= using.named(found.draws.reshape(-1, found.draws.shape[-1]), facts)
    else:
        columns |= using.named(found.mean, facts)
        columns["is_reliable"] = found.is_reliable
    if imputing.with_intervals:
        # Of numbers: a category has no interval.
        words = facts.get("categories") or {}
        for end in ("low", "high"):
            ends = using.named(getattr(found, end), facts | {"categories": None})
            columns |= {f"{name}_{end}": each for name, each in ends.items() if name not in words}
    said = f"{found.is_missing.sum()} missing values of {len(found.mean)} rows filled in"
    if num_bad := int((~found.is_reliable).sum()):
        said += f"; {num_bad} rows cannot be relied on"
    asked.write(columns, said)
