"""Posteriors of models with two latents, as the paper's Figures S0 to S10.

`python -m experiments.posteriors --dataset=mnist --K=1,5 --T=5,8,11 --stages=4 --workdir=ROOT`
trains what is missing and draws p(z|x) for one test image of each class.
"""

import pathlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

if not __package__:  # a script, from whatever folder: `python experiments/posteriors.py`
    sys.path[0] += "/.."

import jax
import numpy as np
from absl import flags as absl_flags
from jax.tree_util import Partial

from aiwae_jax import ais, data, evaluate, weights
from aiwae_jax.cli import command
from aiwae_jax.cli import flags as cli
from aiwae_jax.evaluate import grid
from aiwae_jax.report import plots
from aiwae_jax.runs import checkpoint, files, progress
from aiwae_jax.train import stopping
from aiwae_jax.types import Model, Params
from experiments import build, flags, launch, pool

_SETTINGS = evaluate.Settings(
    num_temperatures=100, num_leapfrog_steps=5, chain_space="latent", momentum_persistence=0.0
)
_NUM_CHAINS, _NUM_SHOWN = 1000, 60  # annealed particles of a panel; drawn from them by weight
_SEED = 0
_FACTS, _IMAGES = "posteriors.json", "images.png"


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string("workdir", "runs/posteriors", "Folder of the runs.", flag_values=fv)
    absl_flags.DEFINE_string(
        "out", None, "Folder of the pictures. Default <workdir>/figures.", flag_values=fv
    )
    absl_flags.DEFINE_string("dataset", "mnist", "Data set, with labels.", flag_values=fv)
    absl_flags.DEFINE_list("K", ["1", "5"], "Numbers of particles, the columns.", flag_values=fv)
    absl_flags.DEFINE_list(
        "T", ["5", "8", "11"], "Numbers of temperatures, the rows below IWAE's.", flag_values=fv
    )


def _picture_of(label: int) -> str:
    return f"posterior-{label}.png"


def one_image_per_class(dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first test image of each class, binarized: (images `[C, X]`, classes `[C]`).

    Raises:
      data.DataError: if there are no labels.
    """
    if dataset.test_labels is None:
        raise data.DataError(f"{dataset.title} has no labels to choose an image of each class by.")
    classes, first = np.unique(dataset.test_labels, return_index=True)
    key = jax.random.key(_SEED)
    images = data.binarize(key, dataset.test[first[:10]], dataset.max_level)
    return np.asarray(images), classes[:10]


def restore(
    planned: launch.Planned, root: pathlib.Path, dataset: data.Dataset
) -> tuple[Model, Params]:
    """Model and newest parameters of a cell."""
    run = build.build(planned.config.training, dataset)
    restored = checkpoint.Checkpoints(root / planned.name / "checkpoints").restore(
        stopping.template(run)
    )
    if restored is None:
        raise files.WorkdirError(f"{root / planned.name} has no checkpoint.")
    tree, facts = restored
    return run.model, jax.device_get(stopping.shown(tree, stopping.of_facts(facts)))


@partial(jax.jit, static_argnames="num_leapfrog_steps")
def _anneal(key, x, functions, betas, step_sizes, *, num_leapfrog_steps):
    """Annealed particles of one datum: (`[_NUM_CHAINS, 2]`, log weights)."""
    log_joint, start = functions
    q = start(x)

    def chain(key):
        start_key, chain_key = jax.random.split(key)
        return ais.run_chain(
            chain_key,
            q.sample(start_key),
            q.log_prob,
            partial(log_joint, x),
            betas,
            step_sizes,
            num_leapfrog_steps=num_leapfrog_steps,
            with_last_move=False,
        )

    z, log_weights, _ = jax.vmap(chain)(jax.random.split(key, _NUM_CHAINS))
    return z, log_weights


def panels(model: Model, params: Params, images: np.ndarray, label: str) -> list[dict[str, Any]]:
    """For each image: its grid posterior, q's mean and deviations, and annealed particles."""
    target = evaluate.Target.of(model, params)
    tune_key, *keys = jax.random.split(jax.random.key(_SEED), 1 + len(images))
    plan = evaluate.tune(tune_key, target, images, _SETTINGS)
    found = []
    bar = progress.Progress(label, len(images))
    for number, (key, x) in enumerate(zip(keys, images, strict=True)):
        posterior = grid.posterior_on_grid(Partial(model.log_joint, params.theta, x))
        q = target.start(x)
        z, log_weights = _anneal(
            key,
            x,
            target.functions,
            plan.betas.astype(np.float32),
            plan.step_sizes.astype(np.float32),
            num_leapfrog_steps=_SETTINGS.num_leapfrog_steps,
        )
        probabilities = np.asarray(weights.normalize(log_weights), np.float64)
        shown = np.random.default_rng(number).choice(
            _NUM_CHAINS, _NUM_SHOWN, p=probabilities / probabilities.sum()
        )
        found.append(
            {
                "posterior": posterior,
                "q_mean": np.asarray(q.mean()),
                "q_stddev": np.asarray(q.stddev()),
                "particles": np.asarray(z)[shown],
                "log_evidence_by_ais": float(weights.log_mean_exp(log_weights)),
            }
        )
        bar.update(number + 1)
    bar.close()
    return found


def _facts(panel: dict[str, Any]) -> dict[str, Any]:
    """Makes of a panel what posteriors.json says."""
    posterior = panel["posterior"]
    mean, covariance = posterior.moments()
    return {
        "kl_from_gaussian": posterior.divergence_from_gaussian(),
        "log_evidence": posterior.log_evidence,
        "log_evidence_by_ais": panel["log_evidence_by_ais"],
        "mean": mean.tolist(),
        "covariance": covariance.tolist(),
        "q_mean": panel["q_mean"].tolist(),
        "q_stddev": panel["q_stddev"].tolist(),
    }


def draw(
    out: pathlib.Path,
    dataset: data.Dataset,
    cells: dict[tuple[str, str], tuple[str, list[dict[str, Any]]]],
    images: np.ndarray,
    classes: np.ndarray,
    note: str,
) -> None:
    """Writes a picture for each class, the images, and posteriors.json.

    Args:
      out: their folder.
      dataset: for its title and shape.
      cells: (row, column) labels -> (name of the run, a panel for each class).
      images: `[C, X]`.
      classes: `[C]`.
      note: the schedule, for the titles.
    """
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    for i, label in enumerate(classes):
        with files.whole(out / _picture_of(label)) as path:
            plots.posteriors(
                path,
                {place: found[i] for place, (_, found) in cells.items()},
                rows,
                columns,
                title=f"{dataset.title}, class {label}: p(z|x), {note}",
            )
    with files.whole(out / _IMAGES) as path:
        plots.image_grid(
            path,
            images,
            dataset.image_shape,
            num_columns=len(images),
            title=f"{dataset.title}: the images of the posteriors",
        )
    content = {
        name: {str(label): _facts(panel) for label, panel in zip(classes, found, strict=True)}
        for name, found in cells.values()
    }
    files.write_json(out / _FACTS, content)


def _summary(cells, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Mean KL over classes, a line for each row of the pictures."""
    lines = [f"{'mean KL from a Gaussian':26}" + "".join(f"{column:>10}" for column in columns)]
    for row in rows:
        values = [
            np.mean([p["posterior"].divergence_from_gaussian() for p in cells[row, column][1]])
            for column in columns
        ]
        lines.append(f"{row:26}" + "".join(f"{value:10.3f}" for value in values))
    return "\n".join(lines)


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    launch.define(fv)
    cli.define(fv)
    usage = "Draws p(z|x) of models with two latents: python -m experiments.posteriors"
    for_runs = cli.parse(fv, argv, usage, known_only=True)
    cli.require(bool(fv.K and fv.T), "--K and --T must name at least one each.")
    root = pathlib.Path(fv.workdir).expanduser().absolute()
    own = launch.replacing(["--latent_dim=2", "--eval=none"], for_runs)
    shared = launch.shared_flags(fv, own)
    arguments = launch.cells_of(["iwae", "aiwae"], fv.K, fv.T, shared)
    for cell in arguments:
        training = flags.parse_run(["run", *cell]).training
        cli.require(training.num_repeats == 1, "--repeats: a picture shows one model.")
        cli.require(
            training.latent_size == 2, "--latent_dim: a picture needs two latents, leave it out."
        )
    out = pathlib.Path(fv.out).expanduser() if fv.out else root / "figures"
    plots.load()
    files.prepare(out / _FACTS, "--out", is_dry_run=fv.dry_run)
    dataset = data.load(fv.dataset, fv.data_dir)
    images, classes = one_image_per_class(dataset)
    for name in (_IMAGES, *map(_picture_of, classes)):
        files.prepare(out / name, "--out", is_dry_run=fv.dry_run)
    planned = launch.prepare(root, dataset, arguments)
    failed = pool.carry_out(fv, root, planned, len(dataset.train))
    if failed is None:
        return
    if failed:
        raise files.WorkdirError(f"These cells failed: {', '.join(failed)}.")

    cells = {}
    for cell in planned:
        training = cell.config.training
        row = "IWAE" if training.num_temperatures is None else f"T={training.num_temperatures}"
        label = f"K={training.num_particles}"
        found = panels(*restore(cell, root, dataset), images, f"{row} {label}")
        cells[row, label] = cell.name, found
    rows = ["IWAE", *(f"T={t}" for t in fv.T)]
    columns = [f"K={k}" for k in fv.K]
    cells = {(r, c): cells[r, c] for r in rows for c in columns}
    epochs = planned[0].config.training.total_epochs
    draw(out, dataset, cells, images, classes, f"{epochs:g} epochs")
    print(_summary(cells, rows, columns))
    print(f"pictures: {out}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
