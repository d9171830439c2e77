"""The search for a recipe, on validation images: `PYTHONPATH=. python results/recipe/search.py`.

Every trial trains on 50,000 of MNIST's training images and is measured on 1,000 of the other
10,000, at T=100; no test image is looked at. Differences are paired, to the first trial that was
asked for. Trials cost about as much as `--epochs` epochs of AIWAE K=1 T=5, the
optimizer's own products counted. What is there already is not run again.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax import data, evaluate, train
from aiwae_jax.cli import build, completion
from aiwae_jax.cli.settings import Fitting
from experiments import cost
from experiments.settings import Training

MODEL = {"latent_size": 50, "hidden_size": 200, "initialization": "torch_mean_bias"}
_NUM_VALIDATION = 10_000
_NUM_MEASURED = 1000
_AIWAE = "aiwae+K=1+T=5+chain_space=base"
_RECIPE = {
    **{"optimizer": "muon", "batch_size": 512, "learning_rate": 0.04, "lr_schedule": "linear"},
    "curriculum": f"vae:0.83,{_AIWAE}:0.17",
}
# What is tried in its place, one choice at a time.
_CHANGES = {
    "itself": {},
    **{f"rate{rate:g}": {"learning_rate": rate} for rate in (0.02, 0.03, 0.06)},
    **{f"{schedule}": {"lr_schedule": schedule} for schedule in ("cosine", "wsd")},
    **{f"ema{decay:g}": {"ema": decay} for decay in (0.99, 0.999)},
    **{f"kl_warmup{share:g}": {"kl_warmup_share": share} for share in (0.1, 0.3)},
    "plain": {"curriculum": "vae:1"},
    **{
        f"share{share:g}": {"curriculum": f"vae:{1 - share:g},{_AIWAE}:{share:g}"}
        for share in (0.05, 0.1, 0.3, 0.5)
    },
    "annealed": {"curriculum": f"{_AIWAE}:1"},
    "T11": {"curriculum": f"vae:0.92,{_AIWAE.replace('T=5', 'T=11')}:0.08"},
    "T21": {"curriculum": f"vae:0.96,{_AIWAE.replace('T=5', 'T=21')}:0.04"},
    "K5": {"curriculum": f"vae:0.96,{_AIWAE.replace('K=1', 'K=5')}:0.04"},
    "K5T11": {"curriculum": "vae:0.98,aiwae+K=5+T=11+chain_space=base:0.02"},
    "persistent": {"curriculum": "vae:0.7,persistent+restart_every=8:0.3"},
    "iwae5": {"curriculum": "iwae+K=5:1"},
    "iwae5-annealed": {"curriculum": f"iwae+K=5:0.6,{_AIWAE}:0.4"},
    # At 328 epochs' cost.
    "longer": {
        "learning_rate": 0.02,
        "curriculum": f"vae:0.5,{_AIWAE}:0.35,{_AIWAE.replace('T=5', 'T=11')}:0.15",
    },
    "slower": {"learning_rate": 0.015},
    **{
        f"slower-share{share:g}": {
            "learning_rate": 0.015,
            "curriculum": f"vae:{1 - share:g},{_AIWAE}:{share:g}",
        }
        for share in (0.4, 0.7)
    },
    "share0.4": {"curriculum": f"vae:0.6,{_AIWAE}:0.4"},
    "batch256": {"batch_size": 256, "learning_rate": 0.03},
    "batch1000": {"batch_size": 1000, "learning_rate": 0.05},
}


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
    for size, rate in ((512, 1e-2), (512, 4e-2), (512, 8e-2), (1000, 4e-2), (1000, 8e-2)):
        found[f"muon-{size}-share0.17-rate{rate:g}"] = {
            **found[f"muon-{size}-share0.17"],
            "learning_rate": rate,
        }
    for schedule in ("cosine", "wsd"):
        found[f"muon-512-share0.17-{schedule}"] = {
            **found["muon-512-share0.17"],
            "lr_schedule": schedule,
        }
    for decay in (0.99, 0.999):
        found[f"muon-512-share0.17-ema{decay:g}"] = {**found["muon-512-share0.17"], "ema": decay}
    return found | {f"recipe-{name}": _RECIPE | said for name, said in _CHANGES.items()}


def settings_of(said: dict, budget: float, dataset: data.Dataset, seed: int) -> Fitting:
    """The whole settings of a trial whose training costs `budget` gradients an image."""
    given = {"dataset": "mnist", "seed": seed, "epochs": 1.0, **MODEL, **said}
    fitting = completion.complete(Training, given)
    per_epoch = cost.of(fitting, dataset).num_gradients
    return dataclasses.replace(fitting, epochs=round(budget / per_epoch, 2))


def measure(trained: train.Run, dataset: data.Dataset) -> tuple[np.ndarray, float]:
    """NLL of each of the first validation images, and the gap on simulated ones."""
    settings = evaluate.Settings(num_temperatures=100)
    rows = jnp.asarray(dataset.test[:_NUM_MEASURED])
    x = np.asarray(dataset.batch_fn(jax.random.key(0), rows))
    found = trained.log_likelihood(x, settings, key=jax.random.key(1))
    gap = evaluate.bidirectional(
        jax.random.key(2), trained.target(), settings, num_data=100, plan=found.plan
    )
    return -found.log_likelihood, gap.gap


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
    nll, gap = measure(trained, dataset)
    found = {
        "name": name,
        "settings": said,
        "curriculum": fitting.curriculum,
        "epochs": fitting.epochs,
        "gradients_per_image": fitting.epochs * cost.of(fitting, dataset).num_gradients,
        "training_seconds": trained.wall_time["training_seconds"],
        "nll": evaluate.mean_and_standard_error(nll)[0],
        "nlls": nll.tolist(),
        "gap": gap,
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
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = split(arguments.data_dir)
    unit = settings_of({"curriculum": f"{_AIWAE}:1", "batch_size": 128}, 1.0, dataset, 0)
    budget = arguments.epochs * cost.of(unit, dataset).num_gradients
    folder = pathlib.Path(arguments.folder) / f"{arguments.epochs:g}epochs-seed{arguments.seed}"
    first = None
    for name, said in trials().items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        found = run(name, settings_of(said, budget, dataset, arguments.seed), dataset, folder)
        nll = np.asarray(found["nlls"])
        first = nll if first is None else first
        difference, error = evaluate.mean_and_standard_error(nll - first)
        print(
            f"{name:32} NLL {nll.mean():.2f}, to the first {difference:+.2f} ± {error:.2f}  "
            f"gap {found['gap']:.2f}  {found['epochs']:.1f} epochs  "
            f"{found['gradients_per_image']:.0f} gradients  {found['training_seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
