"""NLL of whole test sets at a frozen plan: `python results/recipe/measure.py RUN [RUN ...]`.

Prints for each run, and each of the seeds that one trained side by side, NLL and its standard error
over all 10,000 test images of MNIST, binarized once by evaluation seed 0 as reports do, and the gap
on simulated images at the same plan. Chunks are kept in RUN/whole_test_0/, so that a stopped
measurement continues, and the values of the images in RUN/whole_test_0.npz; 0 is the seed's number.
With --against=RUN also the paired difference to it, seed by seed.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np

import aiwae_jax
from aiwae_jax import data, evaluate
from aiwae_jax.report import images
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import config, files, progress, store


def measure(
    folder: pathlib.Path, repeat: int, dataset: data.Dataset, settings: evaluate.Settings
) -> dict:
    """Per-image values of a run, measured or found."""
    path = folder / f"whole_test_{repeat}.npz"
    if not path.exists():
        keys = images.keys_of(Evaluation())
        test = np.asarray(dataset.batch_fn(keys.test_pixels, jnp.asarray(dataset.test)))
        target = aiwae_jax.load(folder, repeat=repeat).target()
        pieces = store.FolderStore(folder / path.stem)
        with progress.Stages() as shown:
            options = {"plan": evaluate.tune(keys.tuning, target, test, settings, store=pieces)}
            options["store"] = pieces
            gap = evaluate.bidirectional(
                *(keys.gap, target, settings),
                **options | {"num_data": 200, "progress_fn": shown.titled("gap")},
            )
            found = evaluate.log_likelihood(
                *(keys.nll, target, test, settings),
                **options | {"progress_fn": shown.titled("NLL")},
            )
        arrays = {
            "nll": -found.log_likelihood,
            "effective_sample_size": found.effective_sample_size,
            "is_reliable": found.is_reliable,
            "gap": np.asarray([gap.gap, gap.gap_standard_error]),
            "num_temperatures": np.asarray(settings.num_temperatures),
        }
        files.write_whole(path, lambda file: np.savez(file, **arrays))
    with np.load(path) as arrays:
        found = dict(arrays)
    if found["num_temperatures"] != settings.num_temperatures:
        raise SystemExit(
            f"{path} is of {found['num_temperatures']} temperatures, and "
            f"{settings.num_temperatures} were asked for; move it away."
        )
    return found


def line(name: str, found: dict, other: dict | None) -> str:
    """A run in a line."""
    mean, error = evaluate.mean_and_standard_error(found["nll"])
    text = (
        f"{name:44} NLL {mean:.3f} ± {error:.3f}  gap {found['gap'][0]:.3f} ± "
        f"{found['gap'][1]:.3f}  ESS {found['effective_sample_size'].mean():.1f}, at least "
        f"{found['effective_sample_size'].min():.1f}, {(~found['is_reliable']).sum()} unreliable"
    )
    if other is not None:
        mean, error = evaluate.mean_and_standard_error(found["nll"] - other["nll"])
        text += f"  difference {mean:+.3f} ± {error:.3f}"
    return text


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--data_dir")
    parser.add_argument("--temperatures", type=int, default=100)
    arguments = parser.parse_args()
    dataset = data.load("mnist", arguments.data_dir)
    settings = evaluate.Settings(num_temperatures=arguments.temperatures)
    for run in arguments.runs:
        for repeat in range(config.read(run)["training"].get("num_repeats", 1)):
            other = arguments.against and measure(arguments.against, repeat, dataset, settings)
            found = measure(run, repeat, dataset, settings)
            print(line(f"{run.name}, {repeat}", found, other), flush=True)


if __name__ == "__main__":
    main()
