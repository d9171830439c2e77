"""Measures a run, also a running one: `python -m experiments.evaluate --workdir=...`."""

import dataclasses
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

if not __package__:  # a script, from whatever folder: `python experiments/evaluate.py`
    sys.path[0] += "/.."

import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checkpoint, data, metrics, plots, processes
from aiwae_jax.types import Model, Params
from experiments import (
    against,
    build,
    command,
    contents,
    devices,
    files,
    flags,
    measure,
    page,
    pictures,
    repeats,
    report,
    store,
    workdir,
)
from experiments.flags import Evaluation, Training


class Trained(NamedTuple):
    """What there is to measure, and the facts that a report states of it.

    Attributes:
      training: the configuration of the run.
      dataset: its data.
      model: its model.
      initial: parameters -> what evaluation starts from, see `build.Run`.
      params: a leading axis for its repeats, if it has several.
      epochs: passes over the data.
      is_finished: whether the run has come to its end.
      wall_time: of all repeats together.
      data_dir: where its data were found, if it was said.
    """

    training: Training
    dataset: data.Dataset
    model: Model
    initial: Callable[[Params], Partial]
    params: Params
    epochs: float
    is_finished: bool
    wall_time: dict[str, float]
    data_dir: str | None


def write_reports(
    folder: pathlib.Path,
    trained: Trained,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> None:
    """Measures each repeat of a run, or finds its report; prints them, and what sums them up.

    Raises:
      command.Interrupted: on SIGINT, SIGTERM or SIGHUP.
      workdir.WorkdirError: if another process is measuring this run.
    """
    with workdir.claim_evaluation(folder) as claim:
        _write_reports(claim, trained, evaluation, interruption)
        processes.wait_for_all()  # while process 0 draws


def _write_reports(
    claim: workdir.Claim,
    trained: Trained,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> None:
    params = processes.fetch(trained.params)  # training and evaluation may use different devices
    reports = []
    for repeat in repeats.of(trained.training, claim.folder):
        content = processes.on_primary(partial(find_report, repeat, evaluation, trained.epochs))
        one = trained._replace(params=repeat.select(params))
        if processes.of_primary(np.asarray(content is not None)):
            print("already evaluated like this; here is the existing report")
        else:
            content = _measure(claim, repeat, one, evaluation, interruption)
        if not processes.is_primary():
            continue
        _draw(repeat, one, evaluation, content)
        if repeat.number is not None:
            print(f"\n{repeat.folder.name}, seed {repeat.training.seed}:")
        if not trained.is_finished:
            print("the run is not finished; this is its newest checkpoint")
        print(report.table(content))
        reports.append(content)
    if len(reports) > 1:
        summary = {
            **repeats.summarize(reports, list(report.METRICS)),
            "epochs": trained.epochs,
            "config": _describe_config(trained.training, evaluation),
            "data": reports[0]["data"],
        }
        files.write_json(claim.folder / "summary.json", summary)
        print(report.summary_table(summary, reports[0]))


def find_report(
    repeat: repeats.Repeat, evaluation: Evaluation, epochs: float
) -> dict[str, Any] | None:
    """The report that this very command has already written, or None."""
    if not (repeat.folder / "report.json").exists():
        return None
    content = contents.read_report(repeat.folder / "report.json", is_shown=True)
    is_same = content["config"] == _describe_config(repeat.training, evaluation)
    return content if is_same and content["epochs"] == epochs else None


def _describe_config(training: Training, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "training": dataclasses.asdict(training),
        "evaluation": dataclasses.asdict(evaluation),
    }


def _measure(
    claim: workdir.Claim,
    repeat: repeats.Repeat,
    trained: Trained,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> dict[str, Any] | None:
    """Measures one model, and writes report.json and evaluation.npz.

    Only process 0 writes, and has something to return.
    """
    folder, dataset = repeat.folder, trained.dataset
    pieces = store.FolderStore(folder / f"evaluation-{evaluation.force_precision}")
    measured = measure.measure(
        trained.model,
        trained.params,
        trained.initial(trained.params),
        dataset,
        evaluation,
        pieces if jax.process_count() == 1 else store.SharedStore(pieces),
        measure.Watch(interruption, claim.check),
    )
    claim.check()
    if not processes.is_primary():
        return None
    entries = measured.entries
    _keep_previous_report(folder)
    pictures.forget(folder)
    files.write_arrays(folder / "evaluation.npz", measured.arrays)
    content = {
        **entries,
        "epochs": trained.epochs,
        "is_finished": trained.is_finished,
        "config": _describe_config(repeat.training, evaluation),
        "data": workdir.describe_data(dataset),
        "data_dir": trained.data_dir,
        "environment": report.environment(),
        "wall_time": {**trained.wall_time, "evaluation_seconds": entries["evaluation"]["seconds"]},
        "repeat": {"number": repeat.number or 0, "num_repeats": trained.training.num_repeats},
    }
    cell = report.paper_cell(trained.training, dataset.is_stand_in)
    if cell is not None:
        content["paper"] = cell
        used = dataclasses.replace(
            evaluation, num_temperatures=entries["evaluation"]["num_temperatures"]
        )
        content["differs"] = report.differences_from_paper(
            trained.training, used, trained.epochs, len(dataset.test)
        )
    files.write_json(folder / "report.json", content)
    pieces.clear()
    return content


def _draw(
    repeat: repeats.Repeat, trained: Trained, evaluation: Evaluation, content: dict[str, Any]
) -> None:
    """Makes whatever is missing of a report's pictures and page, from what is there."""
    folder = repeat.folder
    drawn = []
    if pictures.present(folder) != list(pictures.NAMES):
        try:
            arrays = contents.read_evaluation(folder, content, pictures.ARRAYS)
        except workdir.WorkdirError as error:
            warnings.warn(f"The moves of the evaluation cannot be drawn: {error}", stacklevel=2)
            arrays = {}
        drawn = pictures.draw_missing(
            pictures.Shown(
                folder,
                trained.dataset,
                trained.model,
                trained.params.theta,
                trained.initial(trained.params),
                measure.choose_images(trained.dataset, evaluation).test,
                metrics.read(folder),
                arrays,
                trained.training,
                evaluation,
            )
        )
    there = pictures.present(folder)
    is_other = content.get("pictures") != there
    if is_other:
        content["pictures"] = there
        files.write_json(folder / "report.json", content)
    if is_other or drawn or not (folder / "report.html").exists():
        content.setdefault("data_dir", trained.data_dir)
        files.write_text(folder / "report.html", page.render(folder, content))


def is_drawn(folder: pathlib.Path) -> bool:
    """Whether a report has the pictures and the page that it names."""
    content = contents.read_report(folder / "report.json")
    there = pictures.present(folder)
    return content.get("pictures") == there and (folder / "report.html").exists()


def _keep_previous_report(folder: pathlib.Path) -> None:
    """A report may have cost hours: it is moved aside, not overwritten."""
    if not (folder / "report.json").exists():
        return  # arrays without one are of a report that was not written
    number = 1
    while any(folder.glob(f"report-{number}.*")):
        number += 1
    for name in ("report.json", "evaluation.npz", "report.html"):
        path = folder / name
        if path.exists():
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    print(f"the report that was there, of other settings, is kept as report-{number}.json")


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    arguments = flags.parse_evaluate(argv)
    devices.join(arguments.layout)
    if arguments.against is not None:
        pair = (pathlib.Path(path).expanduser() for path in (arguments.workdir, arguments.against))
        print(against.paired_difference(*pair))
        return
    plots.load()
    folder, training, stored = workdir.open_run(arguments.workdir)
    dataset = data.load(training.dataset, arguments.data_dir or stored["data_dir"])
    if workdir.describe_data(dataset)["sha256"] != stored["data"]["sha256"]:
        raise workdir.WorkdirError(
            f"The run was trained on {stored['data']['title']} of another content."
        )
    evaluation = arguments.evaluation(training)
    flags.check_evaluation(training, evaluation)
    run = build.build(training, dataset, arguments.layout)
    template = run.init()  # first, because it takes a while and a running run replaces checkpoints
    restored = checkpoint.Checkpoints(folder / "checkpoints").restore(template)
    if restored is None:
        raise workdir.WorkdirError(f"--workdir={arguments.workdir} has no checkpoint yet.")
    loop_state, facts = restored
    trained = Trained(
        training=training,
        dataset=dataset,
        model=run.model,
        initial=run.initial,
        params=loop_state.train.params,
        epochs=loop_state.num_steps / run.steps_per_epoch,
        is_finished=facts["is_finished"],
        wall_time=facts["wall_time"],
        data_dir=workdir.absolute(arguments.data_dir) or stored["data_dir"],
    )
    with command.Interruption() as interruption:
        write_reports(folder, trained, evaluation, interruption)
    print(f"report and pictures: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
