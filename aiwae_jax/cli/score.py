"""`aiwae score --workdir=RUN --data=new.csv`: log p(x) of new rows, each with its error."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from aiwae_jax import evaluate, fingerprint, train
from aiwae_jax.cli import command, flags, using
from aiwae_jax.evaluate.target import STARTS
from aiwae_jax.options import option
from aiwae_jax.report import measure
from aiwae_jax.runs import store
from aiwae_jax.runs.interruption import Interruption

_ROWS_AT_ONCE = 256  # between which work is kept; fewer where memory asks for it
_FLAGS = {**flags.names_of(evaluate.Settings, prefix="eval_"), **using.NAMES}


@dataclasses.dataclass(frozen=True)
class _Scoring:
    """What chains begin with."""

    start: str | None = option(
        None,
        choices=STARTS,
        help="What chains start from: q(z|x), the default where it is trained, or the prior.",
    )


@command.exit_codes(names=_FLAGS | {"start": "start"})
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = using.begin(
        argv,
        "Log-likelihood of new rows: aiwae score --workdir=RUN --data=new.csv --out=scores.csv",
        *(using.Rows, _Scoring, evaluate.Settings),
    )
    asked, scoring = flags.make(fv, using.Using), flags.make(fv, _Scoring)
    given = flags.given(fv, evaluate.Settings, prefix="eval_")
    run = asked.load()
    with flags.refusals(_FLAGS):
        settings = dataclasses.replace(run.settings, **given)
    content = flags.make(fv, using.Rows).read(run)
    options = {"key": asked.key, "start": scoring.start, "check": True}
    if asked.path is None:
        found = run.log_likelihood(content.rows, settings, **options)
    else:
        found = _kept(asked, run, content.rows, settings, options)
    columns = {
        "log_likelihood": found.log_likelihood,
        "standard_error": found.standard_errors,
        "is_reliable": found.is_reliable,
        "effective_sample_size": found.effective_sample_size,
    }
    asked.write(using.identity(content) | columns, _words(found))


def _kept(
    asked: using.Using,
    run: train.Run,
    rows: Any,
    settings: evaluate.Settings,
    options: dict[str, Any],
) -> evaluate.Likelihood:
    """The estimates, whose finished parts are kept beside the table until it is written."""
    looked_at = run.rows(rows, asked.key)  # before anything is written
    digest = fingerprint.digest(rows, run.params, settings, asked.key)
    pieces = store.FolderStore(asked.path.absolute().with_name(f".{asked.path.name}-{digest}"))
    fitting = evaluate.fit_chunk_size(run.target(), looked_at, settings)
    chunk_size = min(fitting, _ROWS_AT_ONCE, len(rows))
    with Interruption() as interruption, measure.Watch(interruption, lambda: None) as watch:
        found = run.log_likelihood(
            *(rows, settings),
            **options,
            store=pieces,
            chunk_size=chunk_size,
            progress_fn=watch.titled(f"log p(x) of {len(rows)} rows"),
        )
    pieces.clear()
    return found


def _words(found: evaluate.Likelihood) -> str:
    num = len(found.log_likelihood)
    text = f"log p(x) {found.mean:.2f}"
    if num > 1:
        text += f" ± {found.standard_error:.2f}"
    text += f" nats over {num} rows"
    if num_bad := int((~found.is_reliable).sum()):
        text += f", {num_bad} of which cannot be relied on"
    return text
