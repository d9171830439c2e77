"""How likely were the cells that were removed: `python -m results.missing.measure`, from the root.

30% of the cells of `breast_cancer` are removed at random, of the training, validation and test rows
alike, always the same ones. Models learn from what is left; then each test row's removed cells are
held against what it says of them: log p(removed | left), nats, in the data's own units.

- column means: a normal for each column, by the mean and variance of what is left of it;
- factor analysis: maximum likelihood by EM on what is left, densities exact;
- IWAE (which is MIWAE, Mattei & Frellsen 2019) and AIWAE at equal cost, three seeds: the difference
  of two annealed estimates, log p(row) - log p(left), by independent keys. It is consistent, and no
  bound to either side.

Sizes are chosen, and trainings ended, by log p(left) of validation rows. Bidirectional gaps are of
simulated rows, whole ones and such that lack what test rows lack, at the temperatures of the
estimates. Errors are over the test rows; of nats per cell, a ratio's.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np

from aiwae_jax import data, evaluate, likelihoods, models, train
from aiwae_jax.evaluate import of_missing
from aiwae_jax.runs import files
from aiwae_jax.train import validation
from results.missing import factors
from results.tables import measure as tables

_SHARE_REMOVED = 0.3
_SEED = 0  # of what is removed
_NUM_FACTORS = (1, 2, 3, 5, 8, 12)
_METHODS = ("IWAE, K=5", "AIWAE, K=1, T=5")
_AIWAE_EPOCHS = 400.0
_SIZES = ((2, (64,)), (5, (64,)), (10, (64,)), (10, (128, 128)))  # latents, hidden layers
_SETTINGS = evaluate.Settings(num_temperatures=200)
_KEPT = "removed.json"  # in a run's folder
_TARGET_GAP, _MOST_TEMPERATURES = 0.1, 3200


def removed(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows with NaN for the cells that are removed; at least one of each row is left."""
    chance = np.random.RandomState(seed)  # whose numbers NumPy keeps the same
    scores = chance.random_sample(rows.shape)
    is_gone = (scores < _SHARE_REMOVED) & (scores < scores.max(axis=1, keepdims=True))
    return np.where(is_gone, np.nan, rows).astype(np.float32)


def baselines(left: data.Dataset, test: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Log p `[M]` of the removed cells of test rows, and what was chosen on validation rows."""
    parts = validation.split(len(left.train), tables.SHARE)
    mean, std = np.nanmean(left.train[parts[0]], 0), np.nanstd(left.train[parts[0]], 0)
    rows, held_out, seen, whole = (
        (np.float64(a) - mean) / std
        for a in (left.train[parts[0]], left.train[parts[1]], left.test, test)
    )
    # In the data's own units, of the cells that are asked for.
    log_scales = np.sum(np.where(np.isnan(left.test), np.log(std), 0.0), axis=1)

    def of_removed(fit: factors.Factors) -> np.ndarray:
        return fit.log_likelihood(whole) - fit.log_likelihood(seen) - log_scales

    fits = {num: factors.fit(rows, num) for num in _NUM_FACTORS if num < rows.shape[1]}
    best = max(fits, key=lambda num: fits[num].log_likelihood(held_out).mean())
    return {
        "column means": (of_removed(factors.independent(rows)), ""),
        "factor analysis": (of_removed(fits[best]), f"{best} factors"),
    }


def trained(
    name: str,
    sizes: tuple,
    left: data.Dataset,
    seed: int,
    folder: pathlib.Path,
    epochs: float = _AIWAE_EPOCHS,
) -> train.Run:
    """One training on what is left, with its early stopping."""
    latent_size, hidden = sizes
    seen = validation.training_part(left, tables.SHARE)
    base = likelihoods.normal("per_column", min_scale=1e-2)
    likelihood = likelihoods.masked(likelihoods.standardize(base, seen.train))
    size = left.train.shape[1]
    model = models.mlp_vae(size, latent_size, likelihood=likelihood, hidden_sizes=hidden)
    return train.fit(
        tables.METHODS[name](model),
        model,
        left,
        folder / f"{latent_size}-{'x'.join(map(str, hidden))}-seed{seed}",
        **{
            "epochs": tables.epochs_at_equal_cost(name, model, epochs),
            "batch_size": 32,
            "seed": seed,
            "learning_rate": 3e-3,
        },
        **{"lr_schedule": "constant", "ema": 0.99, "validation_share": tables.SHARE},
        patience=10,
    )


def measured(
    run: train.Run,
    test: np.ndarray,
    left: np.ndarray,
    seed: int,
    settings: evaluate.Settings = _SETTINGS,
    num_data: int = 100,
) -> dict:
    """Log p of the removed cells, by chains whose gaps on simulated rows are small.

    Chains begin at q(z|x) or at the prior, whichever has the smaller gap of the two kinds of rows
    taken together; temperatures are raised until both gaps are at most 0.1 nats.
    """
    key = jax.random.key(seed)
    gaps = {
        start: [
            evaluate.bidirectional(
                key, run.target(start=start, contexts=contexts), settings, num_data=num_data
            )
            for contexts in (None, left)
        ]
        for start in ("posterior", "prior")
    }
    start = min(gaps, key=lambda name: sum(each.gap for each in gaps[name]))
    largest = max(each.gap for each in gaps[start])
    if largest > _TARGET_GAP and settings.num_temperatures < _MOST_TEMPERATURES:
        more = dataclasses.replace(settings, num_temperatures=4 * settings.num_temperatures)
        return measured(run, test, left, seed, more, num_data)
    found = run.log_likelihood_of_missing(test, left, settings, key=key, start=start)
    return {
        "values": found.log_likelihood,
        "largest_error": float(found.standard_errors.max()),
        "unreliable": int((~found.is_reliable).sum()),
        "gaps": [each.gap for each in gaps[start]],
        "gap_errors": [each.gap_standard_error for each in gaps[start]],
        "start": start,
        "num_temperatures": settings.num_temperatures,
    }


def kept(run: train.Run, measure_fn: Callable[[], dict]) -> dict:
    """What was measured of a run, which its folder keeps: a job that is cut goes on from there."""
    path = run.folder / _KEPT
    if not path.exists():
        found = measure_fn()
        files.write_text(path, json.dumps(found | {"values": found["values"].tolist()}))
    found = json.loads(path.read_text(encoding="utf-8"))
    return found | {"values": np.asarray(found["values"])}


def line(name: str, values: np.ndarray, num_cells: np.ndarray, more: str = "") -> dict:
    """A row of the table; values `[seeds, M]`, nats."""
    values = np.atleast_2d(values)
    of_rows = values.mean(0)
    row, row_se = evaluate.mean_and_standard_error(of_rows)
    cell, cell_se = of_missing.per_cell(of_rows, num_cells)
    over_seeds = values.mean(1).std(ddof=1) if len(values) > 1 else None
    print(
        f"{name:18} per cell {cell:8.4f} ± {cell_se:.4f}  per row {row:9.3f} ± {row_se:.3f}  over "
        f"seeds {over_seeds}  {more}",
        flush=True,
    )
    return {
        "name": name,
        "per_cell": cell,
        "per_cell_se": cell_se,
        "per_row": row,
        "per_row_se": row_se,
        "over_seeds": over_seeds,
        "more": more,
    }


def table(
    whole: data.Dataset,
    folder: pathlib.Path,
    *,
    num_seeds: int = 3,
    sizes: Sequence[tuple] = _SIZES,
    epochs: float = _AIWAE_EPOCHS,
    settings: evaluate.Settings = _SETTINGS,
    num_data: int = 100,
) -> list[dict]:
    """All rows of the table, of a data set without gaps."""
    test = np.asarray(whole.test, np.float32)
    left = data.from_arrays(
        removed(whole.train, _SEED),
        removed(test, _SEED + 1),
        columns=whole.columns,
        name=whole.name,
        title=f"{whole.title}, {_SHARE_REMOVED:.0%} of the cells removed",
        missing="at_random",
    )
    num_cells = np.isnan(left.test).sum(axis=1)
    others = baselines(left, test)
    found = [line(name, nats, num_cells, more) for name, (nats, more) in others.items()]
    for name in _METHODS:
        own = folder / whole.name / name.replace(", ", "-")
        best = tables.best_of(sizes, lambda each: trained(name, each, left, 0, own, epochs))  # noqa: B023
        each = []
        for seed in range(num_seeds):
            run = trained(name, best, left, seed, own, epochs)
            options = run, test, left.test, seed, settings, num_data
            each.append(kept(run, functools.partial(measured, *options)))
        values = np.stack([one.pop("values") for one in each])
        more = f"D={best[0]}, hidden {best[1]}"
        row = line(name, values, num_cells, more) | {"seeds": each}
        for other, (theirs, _) in others.items():
            gained = of_missing.per_cell(values.mean(0) - theirs, num_cells)
            row[f"per cell above {other}"] = gained
            print(f"    above {other}: {gained[0]:.4f} ± {gained[1]:.4f} per cell", flush=True)
        others[name] = values.mean(0), more
        found.append(row)
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="breast_cancer")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/missing"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found = table(data.load(arguments.dataset), arguments.folder, num_seeds=arguments.seeds)
    files.write_text(
        pathlib.Path(__file__).with_name(f"{arguments.dataset}.json"), json.dumps(found, indent=1)
    )


if __name__ == "__main__":
    main()
