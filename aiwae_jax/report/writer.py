"""Measures a run and writes what came out: numbers, tables, pictures, a page."""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax import data, evaluate, recipe
from aiwae_jax.parallel import processes
from aiwae_jax.report import (
    baselines,
    certificate,
    contents,
    drawing,
    headline,
    images,
    measure,
    per_datum,
    pictures,
    text,
)
from aiwae_jax.report.environment import environment
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.levels import bits_per_dim
from aiwae_jax.report.measurable import Measurable as Measurable
from aiwae_jax.report.measurable import check_start
from aiwae_jax.runs import extras, files, folder, repeats, store
from aiwae_jax.runs.callbacks import Callback, Moment, check, numbers_of
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.runs.repeats import Repeat
from aiwae_jax.train import validation
from aiwae_jax.train.run import Run

# Of a report, which are moved aside together.
_KEPT = ("report.json", "evaluation.npz", "report.html", certificate.NAME, *per_datum.NAMES)


def _config_of(measurable: Measurable, evaluation: Evaluation) -> dict[str, Any]:
    return {**measurable.config, "evaluation": vars(evaluation)}


def find(
    where: pathlib.Path,
    config: dict[str, Any],
    epochs: float | None,
    read_fn: Callable[..., dict[str, Any]] = contents.read_report,
) -> dict[str, Any] | None:
    """The report in a folder that these very settings have already written, or None.

    Args:
      where: the folder.
      config: the settings.
      epochs: of the training; None for those at which it was finished, however many.
      read_fn: reads a report.json.
    """
    if not (where / "report.json").exists():
        return None
    content = read_fn(where / "report.json", is_shown=True)
    there = content["config"]
    is_same = all(there.get(name) == value for name, value in config.items())
    is_there = content["is_finished"] if epochs is None else content["epochs"] == epochs
    return content if is_same and is_there else None


def measured(
    claim: folder.Claim,
    repeat: Repeat,
    measurable: Measurable,
    evaluation: Evaluation,
    interruption: Interruption,
    more_fn: Callable[[dict[str, Any]], dict[str, Any]] = lambda content: {},
) -> dict[str, Any] | None:
    """Measures one model, and writes report.json and evaluation.npz.

    Only process 0 writes, and has something to return.

    Args:
      claim: on the run's folder.
      repeat: whose folder it is written to.
      measurable: what is measured.
      evaluation: how.
      interruption: the user's.
      more_fn: from what was measured, what else report.json is to say.

    Raises:
      Interrupted: on SIGINT, SIGTERM or SIGHUP; finished chunks are kept.
    """
    where = repeat.folder
    pieces = store.FolderStore(where / f"evaluation-{evaluation.force_precision}")
    result = measure.measure(
        measurable.target,
        measurable.params,
        measurable.dataset,
        evaluation,
        pieces if jax.process_count() == 1 else store.SharedStore(pieces),
        measure.Watch(interruption, claim.check),
        measurable.validation_share,
        measurable.other_start(evaluation.start),
    )
    claim.check()
    if not processes.is_primary():
        return None
    entries = result.entries
    _keep_previous(where)
    pictures.forget(where)
    for name in per_datum.NAMES:
        (where / name).unlink(missing_ok=True)  # of a report that was not written to its end
    files.write_arrays(where / "evaluation.npz", result.arrays)
    seconds = {"evaluation_seconds": entries["evaluation"]["seconds"]}
    content = {
        **entries,
        "epochs": measurable.epochs,
        "is_finished": measurable.is_finished,
        "config": _config_of(measurable, evaluation),
        "data": measurable.dataset.describe(),
        "data_dir": measurable.data_dir,
        "environment": environment(),
        "wall_time": {**measurable.wall_time, **seconds},
        "repeat": {"number": repeat.number or 0, "num_repeats": measurable.num_repeats},
    }
    if measurable.stopping is not None and measurable.stopping.step is not None:
        content["stopping"] = dataclasses.asdict(measurable.stopping)
    if (said := claim.folder / folder.COMMAND).is_file():
        content["command"] = said.read_text(encoding="utf-8").strip()
    of_model = measurable.dataset, measurable.model, measurable.params.theta
    weights = result.arrays.get("weight_test")
    content |= bits_per_dim(result.arrays["nll_test"], *of_model, weights)
    content |= _baselines(measurable, evaluation, result.arrays["nll_test"], weights)
    stated = certificate.state(where, result.evidence, content.get("check"))
    content |= stated.entries() | more_fn(content)
    certificate.write(
        *(where, stated, result.evidence, result.arrays, content),
        num_examples=evaluation.num_examples,
        seed=evaluation.seed,
        validation_share=measurable.validation_share,
    )
    files.write_json(where / "report.json", content)
    pieces.clear()
    return content


def _baselines(
    measurable: Measurable,
    evaluation: Evaluation,
    nll: np.ndarray,
    weights: np.ndarray | None,
) -> dict[str, Any]:
    """Those of the measured test rows, for report.json."""
    dataset, share = measurable.dataset, measurable.validation_share
    return baselines.entries(
        nll,
        images.choose_images(dataset, evaluation, share).test,
        validation.training_part(dataset, share),
        *(measurable.model, measurable.params.theta),
        weights=weights,
    )


def _keep_previous(where: pathlib.Path) -> None:
    """A report may have cost hours: it is moved aside, not overwritten."""
    if not (where / "report.json").exists():
        return  # arrays without one are of a report that was not written
    number = 1
    while any(where.glob(f"report-{number}.*")):
        number += 1
    for name in _KEPT:
        path = where / name
        if path.exists():
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    print(f"the report that was there, of other settings, is kept as report-{number}.json")


def first_or_measured(
    claim: folder.Claim,
    repeat: Repeat,
    measurable: Measurable,
    evaluation: Evaluation,
    interruption: Interruption,
    *,
    read_fn: Callable[..., dict[str, Any]] = contents.read_report,
    more_fn: Callable[[dict[str, Any]], dict[str, Any]] = lambda content: {},
    describe_fn: Callable[[dict[str, Any]], text.Description] = text.describe,
    with_parquet: bool = False,
) -> dict[str, Any] | None:
    """The report that is there, or a new one, with its pictures and its page.

    Args:
      claim: on the run's folder.
      repeat: of the run.
      measurable: what is measured.
      evaluation: how.
      interruption: the user's.
      read_fn: reads a report.json.
      more_fn: see `measured`.
      describe_fn: says what the run was, from its report.json.
      with_parquet: whether the numbers of each datum are written as Parquet, too.

    Returns:
      What report.json says; None in processes other than process 0.
    """
    config = _config_of(measurable, evaluation)
    content = processes.on_primary(lambda: find(repeat.folder, config, measurable.epochs, read_fn))
    if processes.of_primary(np.asarray(content is not None)):
        print("already evaluated like this; here is the existing report")
    else:
        content = measured(claim, repeat, measurable, evaluation, interruption, more_fn)
    if processes.is_primary():
        drawing.drawn(
            *(repeat, measurable, evaluation, content, describe_fn), with_parquet=with_parquet
        )
    return content


def write(
    run: Run,
    dataset: data.Dataset,
    settings: evaluate.Settings | None = None,
    *,
    with_parquet: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> dict[str, Any]:
    """Measures a run, and writes what came out beside it.

    That is report.json and report.html, pictures, and of each datum the numbers with its index and
    label: per_datum.csv, and evaluation.npz with those of each temperature.

    What was interrupted continues at the same call; the same call on a finished report returns it;
    a report of other settings is kept under another name.

    Args:
      run: from `train.fit` or `load`.
      dataset: what it was trained on.
      settings: of the chains.
      with_parquet: writes per_datum.parquet, too.
      callbacks: whose `on_report` is told the numbers of report.json, also of one that was there.
      **options: fields of `Evaluation` by name: `num_examples`, `num_simulated`,
        `num_bound_samples`, `target_gap`, `start`, `seed`.

    Returns:
      What report.json says.

    Raises:
      WorkdirError: if the folder is gone, or another process measures the run.
      ValueError: for other data than the run was trained on, or settings that cannot be.
      Interrupted: on SIGINT, SIGTERM or SIGHUP; finished chunks are kept.
      ImportError: if the packages of the extra `run` are missing.
    """
    extras.require("`report.write`")
    callbacks = check(callbacks)
    if with_parquet:
        extras.require("`with_parquet`", ("pyarrow",), extra="tables")
    stored = run.config
    if differences := dataset.differences(stored["data"]):
        raise data.DataError(
            f"The data are not those that the run in {run.folder} was trained on "
            f"({'; '.join(differences)}). Measure it on these, or train anew in another folder."
        )
    settings = evaluate.Settings() if settings is None else settings
    if run.model.sample is None:
        if options.setdefault("num_simulated", 0):
            raise ValueError(
                "`num_simulated` needs a model with `sample`: exact draws (x, z) of it."
            )
        warnings.warn(
            "The model has no `sample`: no bidirectional gap can say how good its likelihood is.",
            stacklevel=2,
        )
    evaluation = Evaluation.of(settings, **options)
    check_start(evaluation.start, run.start)
    training = stored["training"]
    all_repeats = repeats.of(run.folder, training.get("seed", 0), training.get("num_repeats", 1))
    repeat = all_repeats[run.repeat]
    if repeat.number is not None:  # as it would be as a run of its own
        training = {**training, "seed": repeat.seed, "num_repeats": 1}
    recipes = {name: stored.get(name) for name in ("model", "method")}
    summaries = {name: each and recipe.from_json(each).summary() for name, each in recipes.items()}
    method = summaries["method"] or {"arguments": {}}
    if "legs" in stored:
        summaries["legs"] = stored["legs"]
        method = stored["legs"][-1]["method"] or method
    measurable = Measurable(
        config={"training": training, **summaries},
        dataset=dataset,
        model=run.model,
        start=run.start,
        params=processes.fetch(run.params),
        epochs=run.epochs,
        is_finished=run.is_finished,
        wall_time=run.wall_time,
        move=method["arguments"].get("move") or "hmc",
        num_repeats=len(all_repeats),
        stopping=run.stopping,
    )
    with folder.claim_evaluation(run.folder) as claim, Interruption() as interruption:
        content = first_or_measured(
            *(claim, repeat, measurable, evaluation, interruption), with_parquet=with_parquet
        )
        if processes.is_primary():
            print(text.table(content, text.describe(content)), headline.line(content), sep="\n")
            print(f"report and pictures: {run.folder}")
        processes.wait_for_all()
    if processes.is_primary():
        moment = Moment(
            *(run.num_steps, run.num_steps, run.epochs, numbers_of(content)),
            *(repeat.folder, repeat.number),
            run_fn=lambda: run,
        )
        for callback in callbacks:
            callback.on_report(moment)
    return content
