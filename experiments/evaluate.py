"""Measures a run, also a running one: `python -m experiments.evaluate --workdir=...`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax import checkpoint, data, evaluate
from aiwae_jax.types import Model, Params
from experiments import build, command, flags, measure, report, store, workdir
from experiments.flags import Evaluation, Training

_PICTURE_SEED = 0


def write_report(
    folder: pathlib.Path,
    *,
    training: Training,
    evaluation: Evaluation,
    dataset: data.Dataset,
    model: Model,
    params: Params,
    epochs: float,
    is_finished: bool,
    wall_time: dict[str, float],
    interruption: command.Interruption,
) -> dict[str, Any]:
    """Measures a model and writes report.json, evaluation.npz and the pictures."""
    params = jax.device_get(params)  # training and evaluation may use different devices
    pieces = store.FolderStore(folder / "evaluation")
    measured = measure.measure(model, params, dataset, evaluation, pieces, interruption)
    entries = measured.entries
    # The numbers may have cost hours: they are written before anything else is tried.
    _keep_previous_report(folder)
    np.savez(folder / "evaluation.npz", **measured.arrays)
    content = {
        **entries,
        "epochs": epochs,
        "is_finished": is_finished,
        "config": {
            "training": dataclasses.asdict(training),
            "evaluation": dataclasses.asdict(evaluation),
        },
        "data": workdir.describe_data(dataset),
        "environment": report.environment(),
        "wall_time": {**wall_time, "evaluation_seconds": entries["evaluation"]["seconds"]},
    }
    cell = report.paper_cell(training, dataset.is_stand_in)
    if cell is not None:
        content["paper"] = cell
        used = dataclasses.replace(
            evaluation, num_temperatures=entries["evaluation"]["num_temperatures"]
        )
        content["differs"] = report.differences_from_paper(
            training, used, epochs, len(dataset.test)
        )
    workdir.write_json(folder / "report.json", content)
    content["pictures"] = report.draw_pictures(
        folder,
        dataset=dataset,
        model=model,
        params=params,
        test_images=measured.test_images,
        likelihood=measured.likelihood,
        seed=_PICTURE_SEED,
    )
    workdir.write_json(folder / "report.json", content)
    pieces.clear()
    return content


def _keep_previous_report(folder: pathlib.Path) -> None:
    """A report may have cost hours: it is moved aside, not overwritten."""
    for name in ("report.json", "evaluation.npz"):
        path = folder / name
        if path.exists():
            number = 1
            while (kept := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
                number += 1
            path.rename(kept)


def paired_difference(folder: pathlib.Path, other: pathlib.Path) -> str:
    """The difference of two runs' test NLLs on the same images, with its paired standard error.

    Raises:
      workdir.WorkdirError: if one has no report, or they were not evaluated alike.
    """
    reports = [
        workdir.read_json(path / "report.json", workdir.REPORT_KEYS) for path in (folder, other)
    ]
    ours, theirs = reports
    if ours["data"]["sha256"] != theirs["data"]["sha256"]:
        raise workdir.WorkdirError("The two reports were not made on the same data.")
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
    folder, training, stored = workdir.open_run(arguments.workdir)
    if arguments.against is not None:
        other, _, _ = workdir.open_run(arguments.against)
        print(paired_difference(folder, other))
        return
    dataset = data.load(training.dataset, arguments.data_dir or stored["data_dir"])
    if workdir.describe_data(dataset)["sha256"] != stored["data"]["sha256"]:
        raise workdir.WorkdirError(
            f"The run was trained on {stored['data']['title']} of another content."
        )
    evaluation = arguments.evaluation(training.dataset)
    run = build.build(training, dataset)
    template = run.init()  # first, because it takes a while and a running run replaces checkpoints
    restored = checkpoint.Checkpoints(folder / "checkpoints").restore(template)
    if restored is None:
        raise workdir.WorkdirError(f"--workdir={arguments.workdir} has no checkpoint yet.")
    loop_state, facts = restored
    with command.Interruption() as interruption:
        content = write_report(
            folder,
            training=training,
            evaluation=evaluation,
            dataset=dataset,
            model=run.model,
            params=loop_state.train.params,
            epochs=int(loop_state.train.step) / run.steps_per_epoch,
            is_finished=facts["is_finished"],
            wall_time=facts["wall_time"],
            interruption=interruption,
        )
    if not content["is_finished"]:
        print("the run is not finished; this is its newest checkpoint")
    print(report.table(content))
    print(f"report and pictures: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
