"""Held-out likelihoods of small tables: `python results/tables/measure.py --dataset=wine`.

VAE, IWAE and AIWAE at equal cost, three seeds, beside scikit-learn's Gaussian, mixture of Gaussians
(components by validation) and factor analysis (factors by validation). A fifth of the rows is held
out for testing, a fifth of the others for validation: it ends each training early (patience), and
chooses the size of latent space, hidden layers and weights' decay for each method, never the test
rows. NLLs in nats of the data's own units, with standard errors over the test rows; the gap is of
data simulated from the model.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import warnings
from collections.abc import Callable, Sequence

import jax
import numpy as np
import sklearn.covariance
import sklearn.decomposition
import sklearn.mixture

from aiwae_jax import data, evaluate, likelihoods, methods, models, operations, train, types
from aiwae_jax.runs import files
from aiwae_jax.train import validation

SHARE = 0.2
_AIWAE_EPOCHS = 400.0
METHODS = {
    "VAE": methods.vae,
    "IWAE, K=5": functools.partial(methods.iwae, num_particles=5),
    "AIWAE, K=1, T=5": functools.partial(
        methods.aiwae, num_particles=1, num_temperatures=5, chain_space="base"
    ),
}
_SIZES = ((1, ()), (2, (16,)), (3, (32,)), (5, (64,)), (10, (64,)))  # latents, hidden layers
_SETTINGS = evaluate.Settings(num_temperatures=200)
_MOST_GAP, _MOST_TEMPERATURES = 0.1, 3200


def baselines(
    train_rows: np.ndarray, held_out: np.ndarray, test: np.ndarray
) -> dict[str, np.ndarray]:
    """NLL `[M]` of each test row by scikit-learn, whose choices are made on `held_out`.

    Columns are standardized for them, and densities given back in the data's units.
    """
    mean, std = train_rows.mean(0), train_rows.std(0)
    a, b, c = ((rows - mean) / std for rows in (train_rows, held_out, test))
    log_det = np.log(std).sum()
    shrunk = sklearn.covariance.LedoitWolf().fit(a)
    gaussian = sklearn.mixture.GaussianMixture(1)
    gaussian.means_, gaussian.weights_ = shrunk.location_[None], np.ones(1)
    gaussian.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(shrunk.covariance_))[None]
    mixtures = [
        sklearn.mixture.GaussianMixture(k, covariance_type=kind, reg_covar=r, random_state=0).fit(a)
        for k in (1, 2, 3, 5)
        for kind in ("full", "diag")
        for r in (1e-3, 1e-2, 1e-1)
    ]
    factors = [
        sklearn.decomposition.FactorAnalysis(d).fit(a) for d in (1, 2, 3, 5, 8) if d < a.shape[1]
    ]
    best = lambda fits: max(fits, key=lambda fit: fit.score(b))  # noqa: E731
    found = {
        "Gaussian (Ledoit-Wolf)": gaussian,
        "mixture of Gaussians": best(mixtures),
        "factor analysis": best(factors),
    }
    return {name: log_det - fit.score_samples(c) for name, fit in found.items()}


def products(method: types.Method, model: types.Model) -> float:
    """Arithmetic of a step's matrix products, for one row."""
    optimizers = train.adam(1e-3)
    state = train.init_state(jax.random.key(0), model, method, optimizers)
    step = train.make_train_step(method, optimizers)
    batch = jax.ShapeDtypeStruct((2, model.data_size), float)
    return operations.operations(step, jax.random.key(0), state, batch) / 2


def epochs_at_equal_cost(name: str, model: types.Model, epochs: float) -> float:
    """Epochs of a method that cost what so many of AIWAE do, by the products of their steps."""
    dearest, method = METHODS["AIWAE, K=1, T=5"](model), METHODS[name](model)
    return round(epochs * (products(dearest, model) / products(method, model)), 1)


def trained(
    name: str, sizes: tuple, dataset: data.Dataset, seed: int, folder: pathlib.Path
) -> train.Run:
    """One training, with its early stopping."""
    latent_size, hidden = sizes
    seen = validation.training_part(dataset, SHARE)
    likelihood = likelihoods.standardize(
        likelihoods.normal("per_column", min_scale=1e-2), np.asarray(seen.train)
    )
    model = models.mlp_vae(
        dataset.train.shape[1], latent_size, likelihood=likelihood, hidden_sizes=hidden or (8,)
    )
    return train.fit(
        METHODS[name](model),
        model,
        dataset,
        folder,
        **{
            "epochs": epochs_at_equal_cost(name, model, _AIWAE_EPOCHS),
            "batch_size": 32,
            "seed": seed,
            "learning_rate": 3e-3,
        },
        **{"lr_schedule": "constant", "ema": 0.99, "validation_share": SHARE, "patience": 10},
    )


def measure(
    run: train.Run,
    rows: np.ndarray,
    seed: int,
    settings: evaluate.Settings = _SETTINGS,
    num_data: int = 100,
) -> dict:
    """NLL of rows by chains from q or from the prior, which simulated data show to be tighter.

    Temperatures are raised until the gap is at most 0.1 nats, or they are 3,200.
    What is given of a conditional model's simulated data is that of the rows.
    """
    key = jax.random.key(seed)
    contexts = rows if run.model.is_conditional else None
    gaps = {
        start: evaluate.bidirectional(
            key, run.target(start=start, contexts=contexts), settings, num_data=num_data
        )
        for start in ("posterior", "prior")
    }
    start = min(gaps, key=lambda name: gaps[name].gap)
    if gaps[start].gap > _MOST_GAP and settings.num_temperatures < _MOST_TEMPERATURES:
        more = dataclasses.replace(settings, num_temperatures=4 * settings.num_temperatures)
        return measure(run, rows, seed, more, num_data)
    found = run.log_likelihood(rows, settings, key=key, start=start)
    return {
        "nll": -found.log_likelihood,
        "unreliable": int((~found.is_reliable).sum()),
        "gap": gaps[start].gap,
        "gap_se": gaps[start].gap_standard_error,
        "start": start,
        "num_temperatures": settings.num_temperatures,
    }


def line(name: str, values: np.ndarray, more: str = "") -> dict:
    """A row of the table; values `[seeds, M]`."""
    values = np.atleast_2d(values)
    mean, error = evaluate.mean_and_standard_error(values.mean(0))
    over_seeds = values.mean(1).std(ddof=1) if len(values) > 1 else None
    print(f"{name:28} {mean:9.3f} ± {error:.3f}  over seeds {over_seeds}  {more}", flush=True)
    return {"name": name, "nll": mean, "nll_se": error, "over_seeds": over_seeds, "more": more}


def best_of(sizes: Sequence[tuple], train_fn: Callable[[tuple], train.Run]) -> tuple:
    """The sizes whose training has the largest bound on held-out rows."""
    return max(sizes, key=lambda each: train_fn(each).stopping.value)


def compare(
    name: str,
    sizes: Sequence[tuple],
    train_fn: Callable[[tuple, int], train.Run],
    measure_fn: Callable[[train.Run, int], dict],
    num_seeds: int,
) -> tuple[dict, np.ndarray]:
    """A method's row of the table, and its NLLs `[seeds, M]`.

    Args:
      name: of the method.
      sizes: among which the bound on held-out rows, of one seed, chooses.
      train_fn: `(sizes, seed) -> Run`, which returns at once what it has trained before.
      measure_fn: `(run, seed)` -> as `measure`.
      num_seeds: of the sizes that were chosen.
    """
    best = best_of(sizes, lambda each: train_fn(each, 0))
    found = [measure_fn(train_fn(best, seed), seed) for seed in range(num_seeds)]
    gaps = ", ".join(
        f"{f['gap']:.3f} ± {f['gap_se']:.3f} ({f['start']}, T={f['num_temperatures']})"
        for f in found
    )
    unreliable = sum(f["unreliable"] for f in found)
    more = f"D={best[0]}, hidden {best[1]}; gaps {gaps}; {unreliable} unreliable"
    nll = np.stack([f["nll"] for f in found])
    return line(name, nll, more), nll


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="wine")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/tables"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of mixtures that do not converge
    dataset = data.load(arguments.dataset)
    rows = np.asarray(dataset.train, np.float64)
    parts = validation.split(len(rows), SHARE)
    test = np.asarray(dataset.test, np.float32)
    others = baselines(rows[parts[0]], rows[parts[1]], np.asarray(dataset.test, np.float64))
    table = [line(name, nll) for name, nll in others.items()]
    for name in METHODS:
        folder = arguments.folder / arguments.dataset / name.replace(", ", "-")
        row, nll = compare(
            name,
            _SIZES,
            lambda sizes, seed: trained(
                name,  # noqa: B023
                sizes,
                dataset,
                seed,
                folder / f"{sizes[0]}-{sizes[1]}-seed{seed}",  # noqa: B023
            ),
            lambda run, seed: measure(run, test, seed),
            arguments.seeds,
        )
        for other, theirs in others.items():
            mean, error = evaluate.mean_and_standard_error(nll.mean(0) - theirs)
            row[f"minus {other}"] = [mean, error]
            print(f"    minus {other}: {mean:.3f} ± {error:.3f}", flush=True)
        table.append(row)
    files.write_text(
        pathlib.Path(__file__).with_name(f"{arguments.dataset}.json"), json.dumps(table, indent=1)
    )


if __name__ == "__main__":
    main()
