"""Measures a run, also a running one: `python -m experiments.evaluate --workdir=...`."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

if not __package__:  # a script, from whatever folder: `python experiments/evaluate.py`
    sys.path[0] += "/.."

import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checkpoint, data, evaluate, plots, processes
from aiwae_jax.types import Model, Params
from experiments import (
    build,
    command,
    devices,
    flags,
    measure,
    page,
    repeats,
    report,
    store,
    workdir,
)
from experiments.flags import Evaluation, Training

_PICTURE_SEED = 0


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
    """

    training: Training
    dataset: data.Dataset
    model: Model
    initial: Callable[[Params], Partial]
    params: Params
    epochs: float
    is_finished: bool
    wall_time: dict[str, float]


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
    with workdir.claim_evaluation(folder):
        _write_reports(folder, trained, evaluation, interruption)
        processes.wait_for_all()  # while process 0 draws


def _write_reports(
    folder: pathlib.Path,
    trained: Trained,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> None:
    params = processes.fetch(trained.params)  # training and evaluation may use different devices
    reports = []
    for repeat in repeats.of(trained.training, folder):
        content = processes.on_primary(partial(find_report, repeat, evaluation, trained.epochs))
        if processes.of_primary(np.asarray(content is not None)):
            print("already evaluated like this; here is the existing report")
        else:
            one = trained._replace(params=repeat.select(params))
            content = _write_report(repeat, one, evaluation, interruption)
        if not processes.is_primary():
            continue
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
        workdir.write_json(folder / "summary.json", summary)
        print(report.summary_table(summary, reports[0]))


def find_report(
    repeat: repeats.Repeat, evaluation: Evaluation, epochs: float
) -> dict[str, Any] | None:
    """The report that this very command has already written, or None."""
    if not (repeat.folder / "report.json").exists():
        return None
    content = workdir.read_report(repeat.folder / "report.json")
    is_same = content["config"] == _describe_config(repeat.training, evaluation)
    is_same = is_same and content["epochs"] == epochs and _is_complete(repeat.folder, content)
    return content if is_same else None


def _is_complete(folder: pathlib.Path, content: dict[str, Any]) -> bool:
    """Whether a report has all that belongs to it; a kill can come between numbers and pictures."""
    return "pictures" in content and (folder / "report.html").exists()


def _describe_config(training: Training, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "training": dataclasses.asdict(training),
        "evaluation": dataclasses.asdict(evaluation),
    }


def _write_report(
    repeat: repeats.Repeat,
    trained: Trained,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> dict[str, Any] | None:
    """Measures one model and writes report.json, evaluation.npz and the pictures.

    Only process 0 writes, and has something to return.
    """
    folder, dataset, model, params = repeat.folder, trained.dataset, trained.model, trained.params
    pieces = store.FolderStore(folder / f"evaluation-{evaluation.force_precision}")
    shared = pieces if jax.process_count() == 1 else store.SharedStore(pieces)
    initial = trained.initial(params)
    measured = measure.measure(model, params, initial, dataset, evaluation, shared, interruption)
    if not processes.is_primary():
        return None
    entries = measured.entries
    # The numbers may have cost hours: they are written before anything else is tried.
    _keep_previous_report(folder)
    workdir.write_arrays(folder / "evaluation.npz", measured.arrays)
    content = {
        **entries,
        "epochs": trained.epochs,
        "is_finished": trained.is_finished,
        "config": _describe_config(repeat.training, evaluation),
        "data": workdir.describe_data(dataset),
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
    workdir.write_json(folder / "report.json", content)
    content["pictures"] = report.draw_pictures(
        folder,
        dataset=dataset,
        model=model,
        theta=params.theta,
        initial=initial,
        test_images=measured.test_images,
        likelihood=measured.likelihood,
        training=trained.training,
        evaluation=evaluation,
        seed=_PICTURE_SEED,
    )
    workdir.write_json(folder / "report.json", content)
    workdir.write_text(folder / "report.html", page.render(folder, content))
    pieces.clear()
    return content


def _keep_previous_report(folder: pathlib.Path) -> None:
    """A report may have cost hours: it is moved aside, not overwritten."""
    if not (folder / "report.json").exists():
        return  # arrays without one are of a report that was not written
    if "pictures" not in workdir.read_report(folder / "report.json"):
        return  # the same numbers come again, with their pictures
    number = 1
    while any(folder.glob(f"report-{number}.*")):
        number += 1
    for name in ("report.json", "evaluation.npz", "report.html"):
        path = folder / name
        if path.exists():
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def paired_difference(folder: pathlib.Path, other: pathlib.Path) -> str:
    """The difference of two runs' test NLLs on the same images, with its paired standard error.

    Raises:
      workdir.WorkdirError: if one has no report, or they were not evaluated alike.
    """
    for path in (folder, other):
        if (path / "summary.json").exists():
            raise workdir.WorkdirError(
                f"{path} holds several seeds: name one of them, such as {path / 'repeat_0'}."
            )
        if not (path / "report.json").exists():
            raise workdir.WorkdirError(
                f"{path} has no report.json: it is no run, or was not evaluated."
            )
    reports = [workdir.read_report(path / "report.json") for path in (folder, other)]
    ours, theirs = reports
    if ours["data"]["sha256"] != theirs["data"]["sha256"]:
        raise workdir.WorkdirError("The two reports were not made on the same data.")
    of_halves = [content["config"]["training"]["model"] == "conditional" for content in reports]
    if of_halves[0] != of_halves[1]:
        raise workdir.WorkdirError(
            "One of the two is of whole images, the other of lower halves given upper ones; these "
            "are different quantities."
        )
    settings = [content["config"]["evaluation"] for content in reports]
    differing = [
        f"{name}={value} here, {settings[1].get(name)} there"
        for name, value in settings[0].items()
        if settings[1].get(name) != value
    ]
    if differing:
        raise workdir.WorkdirError(
            f"The two reports were not evaluated alike ({'; '.join(differing)})."
        )
    values = [workdir.read_arrays(path / "evaluation.npz")["nll_test"] for path in (folder, other)]
    mean, error = evaluate.mean_and_standard_error(values[0] - values[1])
    return (
        f"{ours['data']['title']}, {ours['num_examples']} test images: NLL "
        f"{ours['nll_test']:.2f} here, {theirs['nll_test']:.2f} there; "
        f"paired difference {mean:+.2f} ± {error:.2f} nats"
    )


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    arguments = flags.parse_evaluate(argv)
    devices.join(arguments.layout)
    if arguments.against is not None:
        pair = (pathlib.Path(path).expanduser() for path in (arguments.workdir, arguments.against))
        print(paired_difference(*pair))
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
    )
    with command.Interruption() as interruption:
        write_reports(folder, trained, evaluation, interruption)
    print(f"report and pictures: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
