"""The search for a recipe, on validation images: `python results/recipe/search.py`.

Every trial trains on 50,000 of MNIST's training images and is measured on 500 of the other 10,000;
no test image is looked at. Trials cost about as much as `--epochs` epochs of AIWAE K=1 T=5, the
optimizer's own products counted. What is there already is not run again.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np

from aiwae_jax import data, evaluate, report, train
from aiwae_jax.cli import build, completion
from aiwae_jax.cli.settings import Fitting
from experiments import cost
from experiments.settings import Training

MODEL = {"latent_size": 50, "hidden_size": 200, "initialization": "torch_mean_bias"}
_NUM_VALIDATION = 10_000
_AIWAE = "aiwae+K=1+T=5+chain_space=base"


def split(folder: str | None) -> data.Dataset:
    """MNIST's training images, cut into training and validation."""
    whole = data.load("mnist", folder)
    order = np.random.default_rng(0).permutation(len(whole.train))
    rows, last = whole.train[order], len(order) - _NUM_VALIDATION
    return data.from_arrays(
        rows[:last], rows[last:], max_level=whole.max_level, name="mnist_validation"
    )


def trials() -> dict[str, dict]:
    """Name -> settings of a trial; `epochs` are found from its cost."""
    adam = {"optimizer": "adam", "adam_eps": 1e-8}
    muon = {"optimizer": "muon", "lr_schedule": "linear", "learning_rate": 2e-2}
    found = {
        "paper": {"curriculum": f"{_AIWAE}:1", "batch_size": 20, **adam},
        "adam-linear-64": {
            **{"curriculum": f"{_AIWAE}:1", "batch_size": 64, "learning_rate": 3e-3},
            **{"lr_schedule": "linear", **adam},
        },
    }
    for size in (256, 512, 1000):
        for share in (0.0, 0.1, 0.17, 0.3, 1.0):
            legs = [f"vae:{1 - share:g}"] * (share < 1) + [f"{_AIWAE}:{share:g}"] * (share > 0)
            found[f"muon-{size}-share{share:g}"] = {
                "curriculum": ",".join(legs),
                "batch_size": size,
                **muon,
            }
    for rate in (1e-2, 4e-2):
        found[f"muon-512-share0.17-rate{rate:g}"] = {
            **found["muon-512-share0.17"],
            "learning_rate": rate,
        }
    for schedule in ("cosine", "wsd"):
        found[f"muon-512-share0.17-{schedule}"] = {
            **found["muon-512-share0.17"],
            "lr_schedule": schedule,
        }
    for decay in (0.99, 0.999):
        found[f"muon-512-share0.17-ema{decay:g}"] = {**found["muon-512-share0.17"], "ema": decay}
    return found


def settings_of(said: dict, budget: float, dataset: data.Dataset, seed: int) -> Fitting:
    """The whole settings of a trial whose training costs `budget` gradients an image."""
    given = {"dataset": "mnist", "seed": seed, "epochs": 1.0, **MODEL, **said}
    fitting = completion.complete(Training, given)
    per_epoch = cost.of(fitting, dataset).num_gradients
    return dataclasses.replace(fitting, epochs=round(budget / per_epoch, 2))


def run(name: str, fitting: Fitting, dataset: data.Dataset, folder: pathlib.Path) -> dict:
    """Trains and measures one trial, or finds what it came to."""
    where = folder / name
    result = where / "result.json"
    said = json.loads(json.dumps(dataclasses.asdict(fitting)))
    if result.exists():
        found = json.loads(result.read_text())
        if found["settings"] != said:
            raise SystemExit(f"{result} is of other settings; move it away.")
        return found
    model = build.build_model(fitting, dataset.mean_image())
    began = time.monotonic()
    options = vars(train.Settings.of(fitting))
    trained = train.fit(build.build_method(fitting, model), model, dataset, where, **options)
    settings = evaluate.Settings(num_temperatures=300)
    content = report.write(trained, dataset, settings, num_examples=500, num_simulated=50)
    found = {
        "name": name,
        "settings": said,
        "curriculum": fitting.curriculum,
        "epochs": fitting.epochs,
        "gradients_per_image": fitting.epochs * cost.of(fitting, dataset).num_gradients,
        "training_seconds": trained.wall_time["training_seconds"],
        "nll": content["nll_test"],
        "nll_se": content["nll_test_se"],
        "nvlb": content["nvlb_test"],
        "gap": content["bidirectional_gap"],
        "seconds": time.monotonic() - began,
    }
    result.write_text(json.dumps(found, indent=1))
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="runs/recipe")
    parser.add_argument("--data_dir")
    parser.add_argument("--epochs", type=float, default=13.0, help="of AIWAE K=1 T=5, as the cost")
    parser.add_argument("--only", help="names that begin so, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = split(arguments.data_dir)
    unit = settings_of({"curriculum": f"{_AIWAE}:1", "batch_size": 128}, 1.0, dataset, 0)
    budget = arguments.epochs * cost.of(unit, dataset).num_gradients
    folder = pathlib.Path(arguments.folder) / f"{arguments.epochs:g}epochs-seed{arguments.seed}"
    for name, said in trials().items():
        if arguments.only and not name.startswith(tuple(arguments.only.split(","))):
            continue
        found = run(name, settings_of(said, budget, dataset, arguments.seed), dataset, folder)
        print(
            f"{name:32} NLL {found['nll']:.2f} ± {found['nll_se']:.2f}  NVLB {found['nvlb']:.2f}  "
            f"gap {found['gap']:.2f}  {found['epochs']:.1f} epochs  "
            f"{found['gradients_per_image']:.0f} gradients  {found['training_seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
