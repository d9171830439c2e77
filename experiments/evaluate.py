"""Measures a run, also a running one: `python -m experiments.evaluate --workdir=...`."""

import math
import pathlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import checkpoint, data, evaluate
from aiwae_jax.types import Model, Params
from experiments import build, command, flags, progress, report, workdir
from experiments.flags import Evaluation, Training

_CHUNK_SIZE = 100
_KEY_TAG = 0x65766C  # fold_in(key, i) equals split(key)[i] for small i; this is none
_PICTURE_SEED = 0


def _keys(evaluation: Evaluation) -> jax.Array:
    """The six keys of an evaluation: four for the images, one for the NLL, one for the bound.

    The tag keeps them apart from a training's keys, whose seed may be the same number.
    """
    return jax.random.split(jax.random.fold_in(jax.random.key(evaluation.seed), _KEY_TAG), 6)


def choose_images(dataset: data.Dataset, evaluation: Evaluation) -> tuple[np.ndarray, ...]:
    """Chooses and binarizes the evaluated images once, from the evaluation seed alone.

    Every run on the same data and seed sees the same images and the same pixels.

    Returns:
      (test images `[N, X]`, as many training images, all test images for the active units).
    """
    num = min(evaluation.num_examples or len(dataset.test), len(dataset.test), len(dataset.train))
    test_key, train_key, pixel_key, train_pixel_key = _keys(evaluation)[:4]
    binarize = partial(data.binarize, max_level=dataset.max_level)
    all_test = np.asarray(binarize(pixel_key, jnp.asarray(dataset.test)))
    # Permutations of everything, so that a larger number of images contains the smaller.
    test_order = np.asarray(jax.random.permutation(test_key, len(dataset.test)))[:num]
    train_order = np.asarray(jax.random.permutation(train_key, len(dataset.train)))[:num]
    train_images = binarize(train_pixel_key, jnp.asarray(dataset.train[train_order]))
    return all_test[test_order], np.asarray(train_images), all_test


def measure(
    model: Model,
    params: Params,
    dataset: data.Dataset,
    evaluation: Evaluation,
    interruption: command.Interruption,
) -> tuple[dict[str, Any], dict[str, np.ndarray], evaluate.Likelihood, np.ndarray]:
    """The numbers of the paper's tables, with standard errors over images.

    Returns:
      The report's entries, per-image arrays, the likelihood estimates of test and training images
      together, and the binarized test images.

    Raises:
      command.Interrupted: on SIGINT or SIGTERM; the trained model is safe.
    """
    test_images, train_images, all_test_images = choose_images(dataset, evaluation)
    images = np.concatenate([test_images, train_images])
    num = len(test_images)
    log_joint_fn = Partial(model.log_joint, params.theta)
    posterior_fn = Partial(model.posterior, params.phi)
    nll_key, bound_key = _keys(evaluation)[4:]

    def watch(bar: progress.Progress):
        def on_progress(done, total):
            bar.update(done * 1000 // total)
            if interruption.signal_number is not None:
                raise command.Interrupted(
                    "Interrupted during evaluation; the trained model is kept. Start the same "
                    "command again, or python -m experiments.evaluate.",
                    interruption.signal_number,
                )

        return on_progress

    chunk_size = min(_CHUNK_SIZE, len(images))
    settings = {
        "num_temperatures": evaluation.num_temperatures,
        "num_chains": evaluation.num_chains,
        "num_leapfrog_steps": evaluation.num_leapfrog_steps,
        "chunk_size": chunk_size,
    }
    began = time.monotonic()
    seconds = evaluate.estimate_seconds(log_joint_fn, posterior_fn, images, **settings)
    print(
        f"evaluation: {evaluation.num_chains} chains x {evaluation.num_temperatures} temperatures, "
        f"{len(images)} images, about {progress.format_seconds(seconds)}",
        flush=True,
    )
    bar = progress.Progress(f"evaluating NLL of 2 x {num} images", 1000)
    try:
        likelihood = evaluate.log_likelihood(
            nll_key,
            log_joint_fn,
            posterior_fn,
            images,
            **settings,
            progress_fn=watch(bar),
        )
        bar.close()
        bar = progress.Progress(f"evaluating L_{evaluation.num_bound_samples}", 1000)
        bound = evaluate.importance_bound(
            bound_key,
            log_joint_fn,
            posterior_fn,
            images,
            num_samples=evaluation.num_bound_samples,
            progress_fn=watch(bar),
        )
    finally:
        bar.close()
    num_active, activity = evaluate.active_units(posterior_fn, jnp.asarray(all_test_images))

    per_image = {
        "nll_test": -likelihood.log_likelihood[:num],
        "nll_train": -likelihood.log_likelihood[num:],
        "nvlb_test": -bound.bound[:num],
        "nvlb_train": -bound.bound[num:],
    }
    per_image["variational_gap"] = per_image["nvlb_test"] - per_image["nll_test"]
    entries: dict[str, Any] = {}
    for name, values in per_image.items():
        entries[name], entries[f"{name}_se"] = evaluate.mean_and_standard_error(values)
    entries["generalization_gap"] = entries["nll_test"] - entries["nll_train"]
    entries["generalization_gap_se"] = math.hypot(entries["nll_test_se"], entries["nll_train_se"])
    entries["active_units"] = num_active
    entries["num_examples"] = num
    entries["evaluation"] = {
        "seconds": time.monotonic() - began,
        "acceptance_mean": float(likelihood.acceptance.mean())
        if likelihood.acceptance.size
        else None,
        "acceptance_min": float(likelihood.acceptance.min())
        if likelihood.acceptance.size
        else None,
        "effective_sample_size_mean": float(likelihood.effective_sample_size.mean()),
        "log_weight_variance_mean": float(likelihood.log_weight_variance.mean()),
        "num_nonfinite_energies": likelihood.num_nonfinite,
        "num_zero_weight_chains": likelihood.num_zero_weight,
        "num_zero_weight_bound_samples": bound.num_zero_weight,
        "num_gradients": likelihood.num_gradients,
        "nll": "AIS from q, step sizes tuned on pilot chains and frozen; a stochastic upper bound",
    }
    for name in ("betas", "acceptance", "step_sizes"):  # per temperature
        per_image[name] = getattr(likelihood, name)
    per_image["log_weight_variance"] = likelihood.log_weight_variance
    per_image["effective_sample_size"] = likelihood.effective_sample_size
    per_image["activity"] = activity
    return entries, per_image, likelihood, test_images


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
    entries, per_image, likelihood, test_images = measure(
        model, params, dataset, evaluation, interruption
    )
    # The numbers may have cost hours: they are written before anything else is tried.
    _keep_previous_report(folder)
    np.savez(folder / "evaluation.npz", **per_image)
    content = {
        **entries,
        "epochs": epochs,
        "is_finished": is_finished,
        "config": {
            "training": report.as_plain(training),
            "evaluation": report.as_plain(evaluation),
        },
        "data": workdir.describe_data(dataset),
        "environment": report.environment(),
        "wall_time": {**wall_time, "evaluation_seconds": entries["evaluation"]["seconds"]},
    }
    cell = report.paper_cell(training, dataset.is_stand_in)
    if cell is not None:
        content["paper"] = cell
        content["differs"] = report.differences_from_paper(
            training, evaluation, epochs, len(dataset.test)
        )
    workdir.write_json(folder / "report.json", content)
    content["pictures"] = report.draw_pictures(
        folder,
        dataset=dataset,
        model=model,
        params=params,
        test_images=test_images,
        likelihood=likelihood,
        seed=_PICTURE_SEED,
    )
    workdir.write_json(folder / "report.json", content)
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
