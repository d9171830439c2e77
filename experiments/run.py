"""Trains a model and measures it: `python -m experiments.run --dataset=omniglot --K=5 --T=8`."""

import dataclasses
import sys
from collections.abc import Sequence

if not __package__:  # a script, from whatever folder: `python experiments/run.py`
    sys.path[0] += "/.."

from aiwae_jax.cli import command, devices, likelihood, sources
from aiwae_jax.report import plots
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.train.trainer import Trainer
from experiments import build, cost, evaluate, flags, memory, plan, report, workdir


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = flags.parse_run(argv, join_fn=devices.join)
    if config.evaluation is not None:
        plots.load()
    dataset = sources.load(config.training.dataset, config.data_dir, config.training)
    print(sources.describe(dataset))
    chosen = likelihood.choose(config.training, dataset)
    print(f"likelihood: {chosen.words}")
    if chosen.likelihood is not None:  # so that the folder says it, whatever fits in later versions
        training = dataclasses.replace(config.training, likelihood=chosen.text)
        config = dataclasses.replace(config, training=training)
    dataset = chosen.dataset
    run = build.build(config.training, dataset, config.layout)
    memory.check(config, dataset, run)
    epochs = config.training.total_epochs
    print(config.describe())
    print(
        f"schedule: {epochs:g} epochs of {' then '.join(str(s.steps_per_epoch) for s in run.legs)} "
        f"steps, over a mesh {run.mesh} of {report.environment()['device']}",
        flush=True,
    )
    print(cost.line(cost.describe(config.training, dataset)), flush=True)
    if config.is_dry_run:
        print(plan.describe(config, dataset, run))
        return
    recipes = build.recipes_of(config.training, run.model)
    with workdir.claim(config, dataset, recipes) as claim, Interruption() as interruption:
        folder = claim.folder
        trainer = Trainer(run, claim, config.checkpoint_minutes)
        try:
            if 0 < trainer.step < trainer.total_steps:
                print(f"continuing at step {trainer.step} of {trainer.total_steps}")
            trainer.train(interruption)
        finally:
            trainer.close()
        if config.evaluation is None:
            print(f"trained; --eval=none. The run is in {folder}")
            return
        trained = evaluate.measurable(
            config.training,
            run,
            dataset=dataset,
            params=trainer.weights,
            epochs=run.epochs_at(trainer.step) if trainer.stopping else epochs,
            is_finished=True,
            wall_time=trainer.wall_time,
            data_dir=workdir.absolute(config.data_dir),
        )
        evaluate.write_reports(
            *(folder, config.training, trained, config.evaluation, interruption), trainer.stopping
        )
    print(f"report and pictures: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
