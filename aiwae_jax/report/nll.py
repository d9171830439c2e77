"""The NLL of some rows alone, with its bound: what a report says of it, without the report."""

import dataclasses
import pathlib
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np

from aiwae_jax import evaluate, fingerprint, row_weights
from aiwae_jax.evaluate.check import check
from aiwae_jax.report import certificate, measure, text
from aiwae_jax.report.environment import environment
from aiwae_jax.runs import config, files, folder, progress, store
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.runs.schema import Measured
from aiwae_jax.train.run import Run

_ADVICE = "move it away to go on"


class _Asked(TypedDict):
    """The question, by which the same one is known again."""

    parameters: str
    rows: str
    settings: dict
    weights: NotRequired[str]


class _Content(TypedDict):
    """The part of an evaluation's file that is read again."""

    asked: _Asked
    nll: Measured
    nll_se: Measured
    num_examples: int
    num_unreliable: int
    nll_at_most: NotRequired[float | None]
    effective_rows: NotRequired[dict[str, float]]


def write(
    path: pathlib.Path,
    run: Run,
    rows: np.ndarray,
    settings: evaluate.Settings,
    *,
    key: jax.Array,
    weights: np.ndarray | None = None,
    start: str | None = None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Measures the NLL of rows, and writes it as JSON; the same question is answered from the file.

    The chains' key follows from parameters, rows, settings and plan, as a report's does, so that
    the bound holds with its probability; the look is noted in the run's folder.

    Args:
      path: of the file.
      run: what is measured.
      rows: `[N, X]`, as the model sees them.
      settings: of the chains.
      key: of the pilots that tune the chains.
      weights: `[N]` of the rows in means and in the bound, part of the question; or None.
      start: what chains start from; by default the run's own.
      facts: what else the file says, of the rows.

    Returns:
      What the file says.

    Raises:
      WorkdirError: if the file holds the answer to another question, or the run's folder is gone.
      Interrupted: on SIGINT, SIGTERM or SIGHUP; finished chunks are kept beside the file.
    """
    asked: _Asked = {
        "parameters": fingerprint.sha256(run.params.theta, run.params.phi),
        "rows": fingerprint.sha256(rows),
        "settings": dataclasses.asdict(settings) | {"start": start or run.start},
    }
    if weights is not None:
        asked["weights"] = fingerprint.sha256(weights)
    if path.exists():
        return _read(path, asked)
    with folder.claim_evaluation(run.folder) as claim, Interruption() as interruption:
        pieces = store.FolderStore(path.with_name(f".{path.name}-{fingerprint.digest(asked)}"))
        watch = measure.Watch(interruption, claim.check)
        content = (
            facts
            | {"asked": asked}
            | _measure(run, rows, weights, settings, key, start, pieces, watch)
        )
        files.write_json(path, content)
        pieces.clear()
    return content


def sentences(content: dict[str, Any], noun: str) -> str:
    """Says what was measured, and what of it cannot be relied on.

    Args:
      content: of the file.
      noun: what several rows are called.
    """
    num = content["num_examples"]
    lines = [f"NLL {text.number(content['nll'], content['nll_se'])} nats over {num} {noun}"]
    if "effective_rows" in content:
        lines[0] += f", weighted mean: they count as {content['effective_rows']['test']:.1f} of one"
        lines[0] += " weight"
    lines += filter(None, [text.bound_sentence(content, noun), text.check_sentence(content)])
    if num_bad := content["num_unreliable"]:
        lines.append(
            f"{num_bad} of the {num} estimates cannot be relied on; aiwae score says which"
        )
    return "\n".join(lines)


def _read(path: pathlib.Path, asked: _Asked) -> dict[str, Any]:
    content = config.check(path, files.read_json(path, _ADVICE), _Content, _ADVICE)
    there = content["asked"]
    names = [name for name in _Asked.__annotations__ if name in asked or name in there]
    different = [name for name in names if asked.get(name) != there.get(name)]
    if different:
        raise files.WorkdirError(
            f"`out` must be another file: {path} holds an evaluation of other "
            f"{' and '.join(different)}; or move that one away."
        )
    print("already evaluated like this; here is what was found")
    return content


def _measure(
    run: Run,
    rows: np.ndarray,
    weights: np.ndarray | None,
    settings: evaluate.Settings,
    key: jax.Array,
    start: str | None,
    pieces: store.FolderStore,
    watch: measure.Watch,
) -> dict[str, Any]:
    target = run.target(**({} if start is None else {"start": start}))
    chunk_size = evaluate.fit_chunk_size(target, rows, settings)
    seconds = evaluate.estimate_seconds(
        target, rows, settings, num_data=len(rows), chunk_size=chunk_size
    )
    print(
        f"evaluation: {settings.num_chains} chains x {settings.num_temperatures} temperatures, "
        f"{len(rows)} data, about {progress.format_seconds(seconds)}",
        flush=True,
    )
    checked = check(target, rows)
    with watch:
        plan = evaluate.tune(
            *(key, target, rows, settings), store=pieces, progress_fn=watch.titled("tuning")
        )
        chains = dataclasses.asdict(settings) | {"start": start, "force_precision": "float32"}
        subject = certificate.Subject.of(run.params, rows, chains, plan, weights)
        found = evaluate.log_likelihood(
            *(subject.key(), target, rows, settings),
            plan=plan,
            store=pieces,
            chunk_size=chunk_size,
            progress_fn=watch.titled(f"NLL of {len(rows)}"),
        )
    evidence = certificate.Evidence(subject, chains, found, chunk_size, False, weights)
    nll, nll_se = evaluate.mean_and_standard_error(-found.log_likelihood, weights)
    weighted = {}
    if weights is not None:
        weighted["effective_rows"] = {"test": row_weights.effective_number(weights)}
    return weighted | {
        "nll": nll,
        "nll_se": nll_se,
        "num_examples": len(rows),
        **certificate.state(run.folder, evidence, checked.describe()).entries(),
        "check": checked.describe(),
        "evaluation": measure.describe_chains(found, settings),
        "epochs": run.epochs,
        "is_finished": run.is_finished,
        "environment": environment(),
    }
