"""Measures a run, also a running one: `python -m experiments.evaluate --workdir=...`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

if not __package__:  # a script, from whatever folder: `python experiments/evaluate.py`
    sys.path[0] += "/.."

from aiwae_jax.cli import command, devices, sources
from aiwae_jax.parallel import processes
from aiwae_jax.report import headline, pictures, plots, text, writer
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import checkpoint, files, folder
from aiwae_jax.runs import repeats as run_repeats
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.train import stopping
from aiwae_jax.train.program import Program
from aiwae_jax.train.stopping import Stopping
from experiments import against, build, contents, flags, repeats, report, workdir
from experiments.settings import Training


def measurable(training: Training, run: Program, **facts: Any) -> writer.Measurable:
    """A run with all of its repeats, as a report takes it; `facts` are its other fields."""
    return writer.Measurable(
        config={"training": dataclasses.asdict(training)},
        model=run.model,
        start=run.start,
        move=training.move or "hmc",
        num_repeats=training.num_repeats,
        **facts,
    )


def write_reports(
    where: pathlib.Path,
    training: Training,
    trained: writer.Measurable,
    evaluation: Evaluation,
    interruption: Interruption,
    stopped: Sequence[Stopping] = (),
) -> None:
    """Measures each repeat of a run, or finds its report; prints them, and what sums them up.

    Args:
      where: the run's folder.
      training: its settings.
      trained: all repeats.
      evaluation: how.
      interruption: the user's.
      stopped: how far the early stopping of each repeat is; none without patience.

    Raises:
      Interrupted: on SIGINT, SIGTERM or SIGHUP.
      WorkdirError: if another process is measuring this run.
    """
    with folder.claim_evaluation(where) as claim:
        _write_reports(claim, training, trained, evaluation, interruption, stopped)
        processes.wait_for_all()  # while process 0 draws


def _write_reports(
    claim: folder.Claim,
    training: Training,
    trained: writer.Measurable,
    evaluation: Evaluation,
    interruption: Interruption,
    stopped: Sequence[Stopping],
) -> None:
    params = processes.fetch(trained.params)  # training and evaluation may use different devices
    reports = []
    for repeat in run_repeats.of(claim.folder, training.seed, training.num_repeats):
        of_repeat = repeats.training_of(training, repeat)
        content = writer.first_or_measured(
            claim,
            repeat,
            trained._replace(
                config={"training": dataclasses.asdict(of_repeat)},
                params=repeat.select(params),
                stopping=stopped[repeat.number or 0] if stopped else None,
            ),
            evaluation,
            interruption,
            read_fn=contents.read_report,
            more_fn=partial(report.beside_the_paper, of_repeat, evaluation, trained.dataset),
            describe_fn=report.describe,
        )
        if not processes.is_primary():
            continue
        if repeat.number is not None:
            print(f"\n{repeat.folder.name}, seed {repeat.seed}:")
        if not trained.is_finished:
            print("the run is not finished; this is its newest checkpoint")
        print(text.table(content, report.describe(content)), *report.differs_line(content), sep="")
        print(headline.line(content, "images"))
        reports.append(content)
    if len(reports) > 1:
        summary = {
            **repeats.summarize(reports, list(text.METRICS)),
            "epochs": trained.epochs,
            "config": {**trained.config, "evaluation": dataclasses.asdict(evaluation)},
            "data": reports[0]["data"],
        }
        files.write_json(claim.folder / "summary.json", summary)
        print(text.summary_table(summary, reports[0]))


def find_reports(
    where: pathlib.Path, training: Training, evaluation: Evaluation
) -> list[dict[str, Any] | None]:
    """Of each repeat of a finished run the report of this evaluation, or None."""
    found = []
    for repeat in run_repeats.of(where, training.seed, training.num_repeats):
        config = {
            "training": dataclasses.asdict(repeats.training_of(training, repeat)),
            "evaluation": dataclasses.asdict(evaluation),
        }
        epochs = None if training.patience else training.total_epochs
        found.append(writer.find(repeat.folder, config, epochs, contents.read_report))
    return found


def is_finished(where: pathlib.Path, training: Training, evaluation: Evaluation) -> bool:
    """Whether all that an evaluation writes is there."""
    folders = [r.folder for r in run_repeats.of(where, training.seed, training.num_repeats)]
    reports = find_reports(where, training, evaluation)
    return None not in reports and all(map(is_drawn, folders))


def is_drawn(where: pathlib.Path) -> bool:
    """Whether a report has the pictures and the page that it names."""
    content = contents.read_report(where / "report.json")
    there = pictures.present(where)
    return content.get("pictures") == there and (where / "report.html").exists()


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
    where, training, stored = workdir.open_run(arguments.workdir)
    data_dir = arguments.data_dir or stored["data_dir"]
    dataset = build.for_model(training, sources.load(training.dataset, data_dir, training))
    if dataset.differences(stored["data"]):
        raise workdir.WorkdirError(
            f"The run was trained on {stored['data']['title']} of another content."
        )
    evaluation = arguments.evaluation(training)
    run = build.build(training, dataset)
    # First, because it takes a while and a running run replaces checkpoints.
    template = stopping.template(run)
    restored = checkpoint.Checkpoints(where / "checkpoints").restore(template)
    if restored is None:
        raise workdir.WorkdirError(f"--workdir={arguments.workdir} has no checkpoint yet.")
    tree, facts = restored
    stopped = stopping.of_facts(facts)
    has_all = facts["is_finished"] and not training.patience
    trained = measurable(
        training,
        run,
        dataset=dataset,
        params=stopping.shown(tree, stopped),
        epochs=training.total_epochs if has_all else run.epochs_at(tree.num_steps),
        is_finished=facts["is_finished"],
        wall_time=facts["wall_time"],
        data_dir=workdir.absolute(arguments.data_dir) or stored["data_dir"],
    )
    with Interruption() as interruption:
        write_reports(where, training, trained, evaluation, interruption, stopped)
    print(f"report and pictures: {where}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
